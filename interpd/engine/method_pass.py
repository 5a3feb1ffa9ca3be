"""One forward pass that a method asked for: its reads and edits, with the request's own writes in force."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from torch import Tensor

from interpd.engine import rows
from interpd.engine.binding import Binding, Location, carries_of
from interpd.engine.blame import Misuse
from interpd.engine.inputs import length_mask, two_sided
from interpd.engine.interpreter import Execution, Spot, is_at
from interpd.engine.memory import Values
from interpd.engine.model_access import ModelAccess
from interpd.engine.model_config import long_from, n_target_vocab
from interpd.engine.nnsight_driver import Item, Visit, visits_of
from interpd.engine.planning import Step
from interpd.engine.rows import Frame, row_of
from interpd.engine.runs import Run
from interpd.errors import CallerError, FeatureUnsupported
from interpd.graph.run import Lengths, Tokens


@dataclass(frozen=True)
class PassRequest:
    """The arguments of ``Session.forward``."""

    own: "Side"
    reads: tuple[str, ...]
    edits: Mapping[str, Callable[[Tensor], Tensor]]
    grad: bool
    target: "Side | None" = None
    """Of an encoder-decoder model, whose sources ``own`` are then."""

    @property
    def rows(self) -> list[Lengths]:
        """The positions of each row."""
        if self.target is None:
            return [Lengths(length) for length in self.own.lengths]
        return [Lengths(*pair) for pair in zip(self.target.lengths, self.own.lengths, strict=True)]


@dataclass(frozen=True)
class Side:
    """Token ids of several rows, padded on the right."""

    ids: Tensor
    lengths: tuple[int, ...]
    name: str
    """Of the argument, for messages."""

    def of_row(self, index: int) -> tuple[int, ...]:
        """The tokens of one row, without padding."""
        return tuple(self.ids[index, : self.lengths[index]].tolist())

    @property
    def n_pos(self) -> int:
        """Positions of each row, padding included."""
        return self.ids.shape[1]


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
        _check_sides(access, request)
        self._access, self._run, self._request = access, run, request
        bindings = access.resident.bindings
        self._bindings = {name: _binding(bindings, name, step) for name in (*request.reads, *request.edits)}
        self._frame = Frame((request.target or request.own).n_pos)
        self._writes = run.program.write_steps(step.invoke)
        self._executions = [self._execution(step.invoke, index, row) for index, row in enumerate(request.rows)]
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
        if places:
            inputs = self._inputs()
            self._access.driver.run(inputs, visits_of(places), self._on_visit, grad=request.grad, stop=True)
        deepest = max((self._bindings[name].site.layer for name in request.reads), default=-1)
        n_layers = min(deepest + 1, self._access.resident.info.n_layers)
        n_encoder_layers = self._access.resident.info.n_encoder_layers
        n_tokens = sum(row.computed(n_layers, n_encoder_layers) or 0 for row in request.rows)
        self._run.used.count_pass(n_tokens, n_layers, 1)
        return self._found

    def _inputs(self) -> dict[str, Any]:
        own, target, device = self._request.own, self._request.target, self._access.device
        mask = length_mask(own.lengths, own.n_pos, device)
        inputs = {"input_ids": own.ids.to(device), "attention_mask": mask, "use_cache": False}
        if target is None:
            return inputs
        return two_sided(inputs, target.ids.to(device), length_mask(target.lengths, target.n_pos, device))

    def _execution(self, invoke: int, index: int, lengths: Lengths) -> Execution:
        program, request = self._run.program, self._request
        if any(step.op == "tokens.ids" for step in self._writes):
            tokens = list(program.tokens)
            target = None if request.target is None else Tokens(request.target.of_row(index), (), (), "")
            tokens[invoke] = Tokens(request.own.of_row(index), (), (), "", target)
            program = replace(program, tokens=tuple(tokens))
        values = Values(program.uses, keep_all=True)
        own = {step.index for step in self._writes}
        singles = self._run.values.singles()
        values.replace({node: outputs for node, outputs in singles.items() if node not in own})
        return Execution(program, values, self._writes, {invoke: row_of(index, lengths)}, self._access)

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
                value = _edited(name, edit, self._seen(name, spot))
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
        value = self._seen(name, spot).clone()
        if not self._request.grad or not value.is_floating_point():
            return value
        if not value.requires_grad:
            value = value.detach().requires_grad_()
        # put back, so that what follows is computed from it
        self._put(name, value, spot)
        return value

    def _seen(self, name: str, spot: Spot) -> Tensor:
        """What is at a site, on the device on which the method computes."""
        binding = self._bindings[name]
        return rows.viewed(spot.tensor(binding), binding).to(self._access.device)

    def _put(self, name: str, value: Tensor, spot: Spot) -> None:
        binding = self._bindings[name]
        full = spot.tensor(binding)
        value = value.to(full.device)
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


def _check_sides(access: ModelAccess, request: PassRequest) -> None:
    own, target, name = request.own, request.target, access.resident.info.name
    has_encoder = access.resident.info.has_encoder
    if has_encoder and target is None:
        raise Misuse(f"model {name!r} is an encoder-decoder model: give target_ids, what its decoder is given")
    if target is not None and not has_encoder:
        raise Misuse(f"model {name!r} has no encoder: leave target_ids out")
    _check_ids(access, own, access.resident.n_vocab)
    turn = long_from(access.resident.model)
    if turn and min(own.lengths) <= turn < own.n_pos:
        text = f"rows of at most {turn} positions and longer ones cannot share a pass: this model turns them otherwise"
        raise FeatureUnsupported(text)
    if target is not None:
        _check_ids(access, target, n_target_vocab(access.resident.model))
        if len(target.ids) != len(own.ids):
            raise Misuse(f"target_ids have {len(target.ids)} rows, input_ids {len(own.ids)}")


def _check_ids(access: ModelAccess, side: Side, n_vocab: int) -> None:
    ids, lengths, name = side.ids, side.lengths, side.name
    batch, n_pos = ids.shape
    if len(lengths) != batch or not all(1 <= length <= n_pos for length in lengths):
        raise Misuse(f"lengths {list(lengths)} of {name} {list(ids.shape)}: give 1..{n_pos} for each of the rows")
    most = access.resident.info.max_positions
    if most and n_pos > most:
        raise Misuse(f"{name} have {n_pos} positions, the model takes at most {most}")
    # an id out of range would end the context of a GPU, and everybody's work there
    if not bool(((ids >= 0) & (ids < n_vocab)).all()):
        wrong = int(ids[(ids < 0) | (ids >= n_vocab)][0])
        raise Misuse(f"{name} are not all within the vocabulary of {n_vocab}: {wrong} is the first")


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
