"""One forward pass that a method asked for: its reads and edits, with the request's own writes in force."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from torch import Tensor

from interpd.engine import rows
from interpd.engine.binding import Binding, Location, carries_of
from interpd.engine.blame import Misuse
from interpd.engine.inputs import length_mask
from interpd.engine.interpreter import Execution, Spot, is_at
from interpd.engine.memory import Values
from interpd.engine.model_access import ModelAccess
from interpd.engine.model_config import long_from
from interpd.engine.nnsight_driver import Item, Visit, visits_of
from interpd.engine.planning import Step
from interpd.engine.rows import Frame, Row
from interpd.engine.runs import Run
from interpd.errors import CallerError, FeatureUnsupported
from interpd.graph.run import Tokens


@dataclass(frozen=True)
class PassRequest:
    """The arguments of ``Session.forward``."""

    input_ids: Tensor
    reads: tuple[str, ...]
    edits: Mapping[str, Callable[[Tensor], Tensor]]
    lengths: tuple[int, ...]
    grad: bool


class SiteValues(dict[str, Tensor]):
    """Values by site; another name than those of ``reads`` is explained."""

    def __missing__(self, name: str) -> Tensor:
        raise KeyError(f"{name!r} is not in reads={list(self)}: name it there")


class MethodPass:
    """A pass of the method at ``step`` of ``run``.

    Raises ``Misuse`` for sites that do not exist, and for ids and lengths that the model cannot take; ``CallerError``
    for a site whose name is a constant of the node.
    """

    def __init__(self, access: ModelAccess, run: Run, step: Step, request: PassRequest) -> None:
        _check_ids(access, request)
        self._access, self._run, self._request = access, run, request
        bindings = access.resident.bindings
        self._bindings = {name: _binding(bindings, name, step) for name in (*request.reads, *request.edits)}
        self._frame = Frame(request.input_ids.shape[1])
        self._writes = run.program.write_steps(step.invoke)
        self._executions = [self._execution(step.invoke, row) for row in range(len(request.lengths))]
        self._found = SiteValues()
        self._carried: dict[str, Tensor] = {}
        self._branches: dict[str, Tensor] = {}

    def run(self) -> dict[str, Tensor]:
        """The values of the sites that were asked for."""
        request = self._request
        orders = [self._bindings[name].location.order for name in request.reads]
        places = {place for place in self._places() if place.order <= max(orders, default=-1)}
        sites = [step.binding.site for step in self._writes if step.binding is not None]
        sites += [binding.site for binding in self._bindings.values()]
        self._access.resident.set_attention(any(site.eager_attention for site in sites))
        inputs = {
            "input_ids": request.input_ids,
            "attention_mask": length_mask(request.lengths, self._frame.n_pos, self._access.device),
            "use_cache": False,
        }
        if places:
            self._access.driver.run(inputs, visits_of(places), self._on_visit, grad=request.grad, stop=True)
        deepest = max((self._bindings[name].site.layer for name in request.reads), default=-1)
        n_layers = min(deepest + 1, self._access.resident.info.n_layers)
        self._run.used.count_pass(sum(request.lengths), n_layers, 1)
        return self._found

    def _execution(self, invoke: int, index: int) -> Execution:
        n_tokens = self._request.lengths[index]
        program = self._run.program
        if any(step.op == "tokens.ids" for step in self._writes):
            ids = tuple(self._request.input_ids[index, :n_tokens].tolist())
            tokens = list(program.tokens)
            tokens[invoke] = Tokens(ids, (), (), "")
            program = replace(program, tokens=tuple(tokens))
        values = Values(program.uses, keep_all=True)
        own = {step.index for step in self._writes}
        singles = self._run.values.singles()
        values.replace({node: outputs for node, outputs in singles.items() if node not in own})
        return Execution(program, values, self._writes, {invoke: Row(index, n_tokens, n_tokens)}, self._access)

    def _places(self) -> Iterable[Location]:
        bindings = self._access.resident.bindings
        for binding in self._bindings.values():
            yield binding.location
            for carry in carries_of(bindings, binding.site.name):
                yield from (bindings[name].location for name in carry)
        yield from self._run.program.places(self._writes)

    def _on_visit(self, visit: Visit, tensors: dict[Item, Tensor]) -> Mapping[Item, Tensor]:
        spot = Spot(tensors, self._frame.n_pos)
        self._take_carried(visit, spot)
        for execution in self._executions:
            execution.visit(visit, spot, self._frame)
            if execution.failed is not None:
                raise execution.failed
        for name, edit in self._request.edits.items():
            if is_at(self._bindings[name], visit):
                value = _edited(name, edit, rows.viewed(spot.tensor(self._bindings[name]), self._bindings[name]))
                self._put(name, value, spot)
        for name in self._request.reads:
            if is_at(self._bindings[name], visit):
                self._found[name] = self._read(name, spot)
        self._keep_branches(visit, spot)
        for execution in self._executions:
            # once more: the method may have changed the branch after the graph's own writes
            execution.keep_branches(visit, spot)
        return spot.changed

    def _read(self, name: str, spot: Spot) -> Tensor:
        value = rows.viewed(spot.tensor(self._bindings[name]), self._bindings[name]).clone()
        if not self._request.grad or not value.is_floating_point():
            return value
        if not value.requires_grad:
            value = value.detach().requires_grad_()
        # put back, so that what follows is computed from it
        self._put(name, value, spot)
        return value

    def _put(self, name: str, value: Tensor, spot: Spot) -> None:
        binding = self._bindings[name]
        full = spot.tensor(binding)
        spot.put(binding, value.clone() if binding.merge is None else binding.merge(full, value))
        if binding.carry is not None:
            self._carried[name] = spot.tensor(binding)
            for execution in self._executions:
                execution.drop_carry(name)

    def _keep_branches(self, visit: Visit, spot: Spot) -> None:
        for name in self._carried:
            branch = self._carry(name)[0]
            if is_at(branch, visit):
                self._branches[name] = spot.tensor(branch).clone()

    def _take_carried(self, visit: Visit, spot: Spot) -> None:
        for name in list(self._carried):
            total = self._carry(name)[1]
            if is_at(total, visit):
                spot.put(total, self._carried.pop(name) + self._branches.pop(name))
                if total.carry is not None:
                    self._carried[total.site.name] = spot.tensor(total)

    def _carry(self, name: str) -> tuple[Binding, Binding]:
        bindings = self._access.resident.bindings
        carry = bindings[name].carry
        assert carry is not None
        return bindings[carry[0]], bindings[carry[1]]


def _check_ids(access: ModelAccess, request: PassRequest) -> None:
    ids, lengths = request.input_ids, request.lengths
    batch, n_pos = ids.shape
    if len(lengths) != batch or not all(1 <= length <= n_pos for length in lengths):
        raise Misuse(f"lengths {list(lengths)} of input_ids {list(ids.shape)}: give 1..{n_pos} for each of the rows")
    n_vocab, most = access.resident.n_vocab, access.resident.info.max_positions
    if most and n_pos > most:
        raise Misuse(f"input_ids have {n_pos} positions, the model takes at most {most}")
    turn = long_from(access.resident.model)
    if turn and min(lengths) <= turn < n_pos:
        text = f"rows of at most {turn} positions and longer ones cannot share a pass: this model turns them otherwise"
        raise FeatureUnsupported(text)
    # an id out of range would end the context of a GPU, and everybody's work there
    if not bool(((ids >= 0) & (ids < n_vocab)).all()):
        wrong = int(ids[(ids < 0) | (ids >= n_vocab)][0])
        raise Misuse(f"input_ids are not all within the vocabulary of {n_vocab}: {wrong} is the first")


def _binding(bindings: Mapping[str, Binding], name: str, step: Step) -> Binding:
    if name not in bindings:
        near = get_close_matches(name, bindings, 1)
        text = f"no site {name!r}" + (f"; nearest is {near[0]!r}" if near else "")
        named = [word for value in step.params.values() for word in (value if isinstance(value, tuple) else (value,))]
        raise CallerError(f"{step.name}: {text}", site=name) if name in named else Misuse(text, site=name)
    return bindings[name]


def _edited(name: str, edit: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    new = edit(value.clone())
    if not isinstance(new, Tensor) or new.shape != value.shape or new.dtype != value.dtype:
        got = f"{new.dtype}{list(new.shape)}" if isinstance(new, Tensor) else type(new).__name__
        raise Misuse(f"edit at {name!r} returned {got}, expected {value.dtype}{list(value.shape)}", site=name)
    return new
