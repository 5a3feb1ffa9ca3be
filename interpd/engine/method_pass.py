"""One forward pass that a method asked for: its reads and edits, with the request's own writes in force."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interpd.engine import rows
from interpd.engine.binding import Binding, Location, carries_of
from interpd.engine.blame import Misuse
from interpd.engine.inputs import length_mask, two_sided
from interpd.engine.interpreter import Execution, Spot, is_at
from interpd.engine.memory import Outputs, Values
from interpd.engine.method_request import PassRequest, binding_of, check_sides
from interpd.engine.method_values import WantedValues
from interpd.engine.model_access import ModelAccess
from interpd.engine.nnsight_driver import Item, Visit, visits_of
from interpd.engine.planning import Program, Step
from interpd.engine.rows import Frame, row_of
from interpd.engine.runs import Run
from interpd.graph.run import Lengths, Tokens
from interpd.plugin.annotations import Recomputed


class PassValues(dict[str | Recomputed, Tensor]):
    """Values by site and by handle; another name than those of ``reads`` is explained."""

    def __missing__(self, name: object) -> Tensor:
        argument = "values" if isinstance(name, Recomputed) else "reads"
        known = [key for key in self if isinstance(key, Recomputed) == isinstance(name, Recomputed)]
        raise KeyError(f"{name!r} is not in {argument}={known}: name it there")


class MethodPass:
    """A pass of the method at ``step`` of ``run``.

    Raises ``Misuse`` for sites that do not exist, and for ids and lengths that the model cannot take; ``CallerError``
    for a site whose name is a constant of the node.
    """

    def __init__(self, access: ModelAccess, run: Run, step: Step, request: PassRequest) -> None:
        check_sides(access, request)
        self._access, self._run, self._request = access, run, request
        bindings = access.resident.bindings
        self._bindings = {name: binding_of(bindings, name, step) for name in (*request.reads, *request.edits)}
        self._frame = Frame((request.target or request.own).n_pos)
        self._wanted = WantedValues(run.program, step, request.values)
        self._wanted.check(n_rows=len(request.rows), grad=request.grad)
        self._executions: list[Execution] = []
        """What the graph does before the edits of the method, by row."""
        self._followers: list[Execution] = []
        """What it does behind them."""
        for index, row in enumerate(request.rows):
            self._add_row(step.invoke, index, row)
        self._found = PassValues()
        self._carried: dict[str, Tensor] = {}
        self._branches: dict[str, Tensor] = {}

    def run(self) -> PassValues:
        """The values of the sites and of the ports that were asked for."""
        request = self._request
        needed = [self._bindings[name] for name in request.reads]
        needed += [step.binding for step in self._wanted.steps if step.binding is not None]
        last = max((binding.location.order for binding in needed), default=-1)
        places = {place for place in self._places() if place.order <= last}
        sites = [step.binding.site for step in self._steps if step.binding is not None]
        sites += [binding.site for binding in self._bindings.values()]
        self._access.resident.set_attention(any(site.eager_attention for site in sites))
        if places:
            inputs = self._inputs()
            self._access.driver.run(inputs, visits_of(places), self._on_visit, grad=request.grad, stop=True)
        self._finish()
        deepest = max((binding.site.layer for binding in needed), default=-1)
        n_layers = min(deepest + 1, self._access.resident.info.n_layers)
        n_encoder_layers = self._access.resident.info.n_encoder_layers
        n_tokens = sum(row.computed(n_layers, n_encoder_layers) or 0 for row in request.rows)
        self._run.used.count_pass(n_tokens, n_layers, 1)
        return self._found

    def _finish(self) -> None:
        """Computes what follows from the pass, row by row."""
        with torch.set_grad_enabled(self._request.grad):
            for follower in self._followers:
                follower.finish()
                if follower.failed is not None:
                    raise follower.failed
            self._found.update(self._wanted.stacked([follower.values for follower in self._followers]))

    @property
    def _steps(self) -> tuple[Step, ...]:
        return (*self._wanted.before_edits, *self._wanted.behind_edits)

    def _inputs(self) -> dict[str, Any]:
        own, target, device = self._request.own, self._request.target, self._access.device
        mask = length_mask(own.lengths, own.n_pos, device)
        inputs = {"input_ids": own.ids.to(device), "attention_mask": mask, "use_cache": False}
        if target is None:
            return inputs
        return two_sided(inputs, target.ids.to(device), length_mask(target.lengths, target.n_pos, device))

    def _add_row(self, invoke: int, index: int, lengths: Lengths) -> None:
        program = self._program_of_row(invoke, index)
        values = Values(program.uses, keep_all=True)
        again = {step.index for step in self._steps}
        singles = self._run.values.singles()
        values.replace({node: _constants(outputs) for node, outputs in singles.items() if node not in again})
        for executions, steps in (
            (self._executions, self._wanted.before_edits),
            (self._followers, self._wanted.behind_edits),
        ):
            own_rows = {invoke: row_of(index, lengths)}
            executions.append(Execution(program, values, steps, own_rows, self._access, for_gradients=False))

    def _program_of_row(self, invoke: int, index: int) -> Program:
        """The request with the tokens of a row in place of the prompt's."""
        program, request = self._run.program, self._request
        if not any(step.op == "tokens.ids" for step in self._steps):
            return program
        tokens = list(program.tokens)
        target = None if request.target is None else Tokens(request.target.of_row(index), (), (), "")
        tokens[invoke] = Tokens(request.own.of_row(index), (), (), "", target)
        return replace(program, tokens=tuple(tokens))

    def _places(self) -> Iterable[Location]:
        bindings = self._access.resident.bindings
        for binding in self._bindings.values():
            yield binding.location
            for carry in carries_of(bindings, binding.site.name):
                yield from (bindings[name].location for name in carry)
        yield from self._run.program.places(self._steps)

    def _on_visit(self, visit: Visit, tensors: dict[Item, Tensor]) -> Mapping[Item, Tensor]:
        spot = Spot(tensors, self._frame.n_pos)
        self._take_carried(visit, spot)
        self._run_graph(self._executions, visit, spot)
        for name, edit in self._request.edits.items():
            if is_at(self._bindings[name], visit):
                value = _edited(name, edit, self._seen(name, spot))
                self._put(name, value, spot)
        for name in self._request.reads:
            if is_at(self._bindings[name], visit):
                self._found[name] = self._read(name, spot)
        self._run_graph(self._followers, visit, spot)
        self._keep_branches(visit, spot)
        for execution in self._executions:
            # once more: the method may have changed the branch after the graph's own writes
            execution.keep_branches(visit, spot)
        return spot.changed

    def _run_graph(self, executions: Iterable[Execution], visit: Visit, spot: Spot) -> None:
        for execution in executions:
            execution.visit(visit, spot, self._frame)
            if execution.failed is not None:
                raise execution.failed

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


def _constants(outputs: Outputs) -> Outputs:
    """What stays as it is in every pass, apart from the graphs of the passes that it comes from."""
    return tuple(value.detach() if isinstance(value, Tensor) else value for value in outputs)


def _edited(name: str, edit: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    new = edit(value.clone())
    if not isinstance(new, Tensor) or new.shape != value.shape or new.dtype != value.dtype:
        got = f"{new.dtype}{list(new.shape)}" if isinstance(new, Tensor) else type(new).__name__
        raise Misuse(f"edit at {name!r} returned {got}, expected {value.dtype}{list(value.shape)}", site=name)
    return new
