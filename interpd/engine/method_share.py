"""One method's share of a forward pass: its reads, edits and values, with the request's own writes in force."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from interpd.engine import rows
from interpd.engine.batching import PassClass
from interpd.engine.binding import Binding
from interpd.engine.blame import Misuse
from interpd.engine.interpreter import Execution, Spot, is_at
from interpd.engine.memory import Outputs, Values
from interpd.engine.method_plan import MethodPlan
from interpd.engine.method_request import PassRequest, check_sides
from interpd.engine.nnsight_driver import Visit
from interpd.engine.planning import Program, Step
from interpd.engine.rows import Frame, Row, row_of
from interpd.engine.runs import Run
from interpd.errors import FeatureUnsupported
from interpd.graph.order import WRITE
from interpd.graph.run import Tokens
from interpd.plugin.annotations import Recomputed


class PassValues(dict[str | Recomputed, Tensor]):
    """Values by site and by handle; another name than those of ``reads`` is explained."""

    def __missing__(self, name: object) -> Tensor:
        argument = "values" if isinstance(name, Recomputed) else "reads"
        known = [key for key in self if isinstance(key, Recomputed) == isinstance(name, Recomputed)]
        raise KeyError(f"{name!r} is not in {argument}={known}: name it there")


class MethodShare:
    """What a method of ``run`` does in one pass, in which others may take part.

    It sees its own rows at its own positions, as if there were no others.

    Raises ``Misuse`` for ids and lengths that the model cannot take, ``FeatureUnsupported`` for what such a pass cannot
    give.
    """

    def __init__(self, run: Run, step: Step, request: PassRequest, plan: MethodPlan) -> None:
        check_sides(run.access, request)
        self.access, self.run, self.request, self.plan = run.access, run, request, plan
        self.found = PassValues()
        self.failed: BaseException | None = None
        """What it raised; it takes no further part."""
        self._bindings = plan.bindings
        plan.graph.check(n_rows=len(request.rows), grad=request.grad)
        if request.dropout_seed is not None:
            self._refuse_carries()
        self._executions: list[Execution] = []
        """What the graph does, by row; empty where it has no part in the pass."""
        if plan.steps or request.values:
            self._add_rows(step.invoke)
        self._block: Row | None = None
        """Its rows; ``None``: all of the pass."""
        self._frame = Frame(request.n_pos)
        self._carried: dict[str, Tensor] = {}
        self._branches: dict[str, Tensor] = {}

    def _refuse_carries(self) -> None:
        """Raises ``FeatureUnsupported`` for writes that are carried past a branch, part of which may be dropped."""
        request = self.request
        put = [self._bindings[name] for name in (*request.edits, *(request.reads if request.grad else ()))]
        put += [step.binding for step in self.plan.steps if step.op == WRITE and step.binding is not None]
        for binding in put:
            if binding.carry is not None:
                branch, total = binding.carry
                raise FeatureUnsupported(
                    f"a pass with dropout_seed takes no write, edit or gradient at {binding.site.name!r}: "
                    f"it is carried to {total!r} past {branch!r}, of which the model may drop a part on the way"
                )

    def take_place(self, first_row: int, frame: Frame) -> None:
        """Takes the rows from ``first_row`` on of a pass that holds others' rows, too."""
        lengths, n_rows = self.request.width, len(self.request.rows)
        self._block, self._frame = replace(row_of(first_row, lengths), n_rows=n_rows), frame
        for execution in self._executions:
            for invoke, row in execution.rows.items():
                execution.rows[invoke] = replace(row, index=first_row + row.index)

    @cached_property
    def kind(self) -> PassClass:
        """What has to be equal for others to take part."""
        return PassClass(False, self.request.grad, self.plan.eager_attention, self._why_alone(), self.run.adapter_key)

    def _why_alone(self) -> str:
        turn = self.access.long_from
        if self.request.grad:
            return "passes of methods that record gradients run alone"
        if self.request.begin is not None:
            return "the rows of others begin at the start"
        if self.request.dropout_seed is not None:
            return "what a pass drops depends on all of its rows"
        if self.run.program.request.reproducible:
            return "reproducible runs take a pass of their own"
        if turn and self.request.own.n_pos > turn:
            return f"a row of more than {turn} positions makes the model turn all positions of a pass otherwise"
        shy = self.plan.without_rows
        return "" if shy is None else f"dimension 0 of {shy!r} is not rows"

    def _add_rows(self, invoke: int) -> None:
        singles = self.run.values.singles()
        constants = {node: _constants(singles[node]) for node in self.plan.given if node in singles}
        for index, lengths in enumerate(self.request.rows):
            program = self._program_of_row(invoke, index)
            values, row = Values(self.plan.uses), {invoke: row_of(index, lengths)}
            values.replace(constants)
            execution = Execution(
                program,
                values,
                self.plan.steps,
                row,
                self.access,
                for_gradients=False,
                behind=self.plan.graph.behind,
            )
            self._executions.append(execution)

    def _program_of_row(self, invoke: int, index: int) -> Program:
        """The request with the tokens of a row in place of the prompt's."""
        program, request = self.run.program, self.request
        if not self.plan.has_tokens:
            return program
        tokens = list(program.tokens)
        target = None if request.target is None else Tokens(request.target.of_row(index), (), (), "")
        tokens[invoke] = Tokens(request.own.of_row(index), (), (), "", target)
        return replace(program, tokens=tuple(tokens))

    def visit(self, visit: Visit, spot: Spot) -> None:
        """Does what it has to do at this visit. Never raises for that; ``failed`` says it."""
        if visit.order <= self.plan.last_order:
            self._guarded(lambda: self._visit(visit, spot))

    def finish(self) -> None:
        """Computes what follows from the pass, row by row. Never raises; ``failed`` says it."""
        self._guarded(self._follow)

    def _guarded(self, act: Callable[[], None]) -> None:
        if self.failed is not None:
            return
        try:
            act()
        except (Exception, SystemExit) as error:  # an edit may raise anything, and others take part in the pass
            self.failed = error

    def _visit(self, visit: Visit, spot: Spot) -> None:
        self._take_carried(visit, spot)
        self._run_graph(Execution.visit, visit, spot)
        for name, edit in self.request.edits.items():
            if is_at(self._bindings[name], visit):
                self._put(name, _edited(name, edit, self._seen(name, spot)), spot)
        for name in self.request.reads:
            if is_at(self._bindings[name], visit):
                self.found[name] = self._read(name, spot)
        self._run_graph(Execution.follow, visit, spot)
        self._keep_branches(visit, spot)
        for execution in self._executions:
            # once more: the method may have changed the branch after the graph's own writes
            execution.keep_branches(visit, spot)

    def _run_graph(self, act: Callable[[Execution, Visit, Spot, Frame], None], visit: Visit, spot: Spot) -> None:
        for execution in self._executions:
            act(execution, visit, spot, self._frame)
            if execution.failed is not None:
                raise execution.failed

    def _follow(self) -> None:
        with torch.set_grad_enabled(self.request.grad):
            for execution in self._executions:
                execution.finish()
                if execution.failed is not None:
                    raise execution.failed
            self.found.update(self.plan.graph.stacked([execution.values for execution in self._executions]))

    def _read(self, name: str, spot: Spot) -> Tensor:
        value = self._seen(name, spot).clone()
        if not self.request.grad or not value.is_floating_point():
            return value
        if not value.requires_grad:
            value = value.detach().requires_grad_()
        # put back, so that what follows is computed from it
        self._put(name, value, spot)
        return value

    def _seen(self, name: str, spot: Spot) -> Tensor:
        """What is at a site in its rows, on the device on which the method computes."""
        binding = self._bindings[name]
        full = spot.tensor(binding)
        own = rows.viewed(full, binding) if self._block is None else rows.own(full, binding, self._block, self._frame)
        return own.to(self.access.device)

    def _put(self, name: str, value: Tensor, spot: Spot) -> None:
        binding = self._bindings[name]
        if self._block is None:
            full = spot.tensor(binding)
            value = value.to(full.device)
            spot.put(binding, value.clone() if binding.merge is None else binding.merge(full, value))
        else:
            rows.written(spot.own(binding), binding, self._block, self._frame, value)
        if binding.carry is not None:
            self._carried[name] = self._own_rows(binding, spot)
            for execution in self._executions:
                execution.drop_carry(name)

    # A write between two branches is carried to their sum, as in the interpreter.

    def _own_rows(self, binding: Binding, spot: Spot) -> Tensor:
        """What its rows hold at the place of a site; a copy, where others will write into the same tensor."""
        full = spot.tensor(binding)
        return full if self._block is None else rows.slice_of(full, binding, self._block).clone()

    def _keep_branches(self, visit: Visit, spot: Spot) -> None:
        for name in self._carried:
            branch = self._carry(name)[0]
            if is_at(branch, visit):
                self._branches[name] = self._own_rows(branch, spot).clone()

    def _take_carried(self, visit: Visit, spot: Spot) -> None:
        for name in list(self._carried):
            total = self._carry(name)[1]
            if is_at(total, visit):
                value = self._carried.pop(name) + self._branches.pop(name)
                if self._block is None:
                    spot.put(total, value)
                else:
                    rows.slice_of(spot.own(total), total, self._block).copy_(value)
                if total.carry is not None:
                    self._carried[total.site.name] = self._own_rows(total, spot)

    def _carry(self, name: str) -> tuple[Binding, Binding]:
        bindings = self.access.resident.bindings
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
