"""A pass with values changed at sites, through plain torch hooks: what a Binding means, without nnsight.

Small and slow. The self-test runs on it, so that a site is judged by something that is not the engine; tests use
it as an oracle for the engine.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from torch import Tensor, nn

from interpd.engine.binding import Binding, carries_of

Edit = Callable[[Tensor], Tensor]
"""Takes what is at a site and gives back what to put there; the same object to leave it."""


@dataclass(slots=True)
class _Pass:
    edits: Mapping[str, Edit]
    branches: frozenset[str]
    """Sites whose value a carry will need."""
    n_pos: int
    seen: dict[str, Tensor] = field(default_factory=dict)
    carried: dict[str, tuple[Tensor, str]] = field(default_factory=dict)
    """By site of a sum: what was written before it, and the site of the branch."""

    def visit(self, bindings: tuple[Binding, ...], full: Tensor) -> Tensor:
        for binding in bindings:
            if binding.folded:
                full = self._visit_one(binding, full.unflatten(0, (-1, self.n_pos))).flatten(0, 1)
            else:
                full = self._visit_one(binding, full)
        return full

    def _visit_one(self, binding: Binding, full: Tensor) -> Tensor:
        name = binding.site.name
        if name in self.carried:
            written, branch = self.carried.pop(name)
            full = written + self.seen.pop(branch)
            if binding.carry is not None:
                self.carried[binding.carry[1]] = (full, binding.carry[0])
        value = full if binding.view is None else binding.view(full)
        new = self.edits[name](value) if name in self.edits else value
        if new is not value:
            full = new if binding.merge is None else binding.merge(full, new)
            if binding.carry is not None:
                self.carried[binding.carry[1]] = (new, binding.carry[0])
        if name in self.branches:
            self.seen[name] = full if binding.view is None else binding.view(full)
        return full


def run_with_edits(
    model: nn.Module,
    inputs: Mapping[str, object],
    bindings: Mapping[str, Binding],
    edits: Mapping[str, Edit],
) -> Tensor:
    """The model's own logits of a pass in which each edit (by site) is in force. An edit that returns its argument
    reads. Rows are the model's: nothing is cut or padded."""
    carries = [carry for name in edits for carry in carries_of(bindings, name)]
    branches = frozenset(branch for branch, _ in carries)
    sums = {total for _, total in carries}
    needed = {*edits, *branches, *sums}
    at: dict[tuple[str, str, int | str | None], list[Binding]] = defaultdict(list)
    for name in needed:
        place = bindings[name].location
        at[place.path, place.port, place.item].append(bindings[name])
    state = _Pass(edits, branches, inputs.get("decoder_input_ids", inputs["input_ids"]).shape[1])
    with ExitStack() as hooks:
        for (path, port, item), here in at.items():
            # the site of a sum first: what was carried to it is the value that the others see
            here.sort(key=lambda binding: binding.site.name not in sums)
            hooks.enter_context(_hook(model.get_submodule(path), port, item, tuple(here), state))
        return model(**inputs).logits


def _hook(
    module: nn.Module, port: str, item: int | str | None, bindings: tuple[Binding, ...], state: _Pass
) -> ExitStack:
    def before(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if isinstance(item, str):
            return args, {**kwargs, item: state.visit(bindings, kwargs[item])}
        return (*args[:item], state.visit(bindings, args[item]), *args[item + 1 :]), kwargs

    def after(_: nn.Module, args: tuple[object, ...], output: object) -> object:
        if item is None:
            return state.visit(bindings, output)
        if isinstance(item, str):
            output[item] = state.visit(bindings, output[item])
            return output
        return (*output[:item], state.visit(bindings, output[item]), *output[item + 1 :])

    handles = ExitStack()
    if port == "input":
        handles.enter_context(module.register_forward_pre_hook(before, with_kwargs=True))
    else:
        handles.enter_context(module.register_forward_hook(after))
    return handles
