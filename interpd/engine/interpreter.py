"""Runs the nodes of one request during one forward pass.

An ``Execution`` is a request's share of a pass. The pass hands it each visit that it needs; it runs, in list order,
every node that has become ready by then: reads copy the request's own rows out of the tensor at hand, writes put new
values into a copy of it, everything else is a function of values. What fails, fails here and stops this request
alone; its rows go on through the model and harm nobody.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from interpd.engine import rows
from interpd.engine.binding import Binding, Location
from interpd.engine.blame import op_failed
from interpd.engine.guard import as_tuple, call_guarded, describe
from interpd.engine.memory import Values
from interpd.engine.model_access import ModelAccess
from interpd.engine.nnsight_driver import Item, Visit
from interpd.engine.planning import Program, Step, filled
from interpd.engine.rows import Frame, Row
from interpd.errors import CallerError, DeviceOutOfMemory, InternalError, InterpdError, OpFailed
from interpd.graph.order import OF_TOKENS, PREFIX, READ, WRITE
from interpd.ops.makers import NEEDS_DEVICE


@dataclass(slots=True)
class Spot:
    """The tensors of one visit; the first write copies what it changes."""

    tensors: dict[Item, Tensor]
    n_pos: int
    """Positions of the pass, padding included."""
    changed: dict[Item, Tensor] = field(default_factory=dict)

    def tensor(self, binding: Binding) -> Tensor:
        """What is at the site's place now, rows in dimension 0 (a view of it, where the model folds them)."""
        item = binding.location.item
        return self._unfolded(self.changed.get(item, self.tensors[item]), binding)

    def own(self, binding: Binding) -> Tensor:
        """The same as a tensor that may be written to."""
        item = binding.location.item
        if item not in self.changed:
            self.changed[item] = self.tensors[item].clone()
        return self._unfolded(self.changed[item], binding)

    def put(self, binding: Binding, value: Tensor) -> None:
        """Puts ``value``, a tensor as ``tensor`` gives it, at the site's place."""
        self.changed[binding.location.item] = value.flatten(0, 1) if binding.folded else value

    def _unfolded(self, full: Tensor, binding: Binding) -> Tensor:
        return full.unflatten(0, (-1, self.n_pos)) if binding.folded else full


@dataclass(frozen=True, slots=True)
class Handle:
    """The tensor that gradients with respect to a read are taken of: it replaced the row's values in the pass."""

    tensor: Tensor
    axis: int
    positions: tuple[int, ...] | None

    def gradient(self, of_tensor: Tensor) -> Tensor:
        """The gradient in the shape of the read."""
        return of_tensor if self.positions is None else rows.select(of_tensor, self.axis, self.positions)


class Execution:
    """One request's share of one forward pass.

    Args:
        program: The request.
        values: What its nodes have given so far.
        steps: What runs, in the order of the pass.
        own_rows: Its rows by prompt.
        access: The model.
        for_gradients: Whether reads by which the graph differentiates become handles.
        behind: Nodes that do not run with the others of their place but at ``follow``.
        so_far: Of a generation: by prompt, the tokens that the pass goes on from and those that it is given.
    """

    def __init__(
        self,
        program: Program,
        values: Values,
        steps: tuple[Step, ...],
        own_rows: dict[int, Row],
        access: ModelAccess,
        *,
        for_gradients: bool = True,
        behind: Collection[int] = (),
        so_far: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        self.program = program
        self.values = values
        self.rows = own_rows
        """By prompt; the pass moves them and takes them out."""
        self.handles: dict[int, Handle] = {}
        """By read, where gradients are taken with respect to it."""
        self.missed: list[Step] = []
        """Writes that could not be put in force, because a prompt that they take values of had ended."""
        self.failed: InterpdError | None = None
        self._access = access
        self._handled = program.grad_sources if for_gradients else frozenset()
        self._steps = steps
        self._behind = behind
        self._so_far = so_far or {}
        self._next = 0
        self._fresh: dict[tuple[int, str], Tensor] = {}
        """The handles of this visit that are what the tensor holds now, by prompt and site."""
        self._fresh_order = -1
        self._carried: dict[tuple[str, int], Tensor] = {}
        self._branches: dict[tuple[str, int], Tensor] = {}
        self._apart: set[tuple[int, Location]] = set()
        """Prompts and places of a carry at which a raw path was written: the branch alone has got that value."""

    def visit(self, visit: Visit, spot: Spot, frame: Frame) -> None:
        """Runs all that is ready at this visit. Never raises for what the request does."""
        if self.failed is not None:
            return
        try:
            self._take_carried(visit, spot)
            self._run_until(visit.order, spot, frame)
            self.keep_branches(visit, spot)
        except InterpdError as error:
            self.failed = error

    def follow(self, visit: Visit, spot: Spot, frame: Frame) -> None:
        """Runs what is left of this visit: the nodes that are ``behind``. Never raises for what the request does."""
        if self.failed is not None:
            return
        try:
            self._run_until(visit.order, spot, frame, behind=True)
        except InterpdError as error:
            self.failed = error

    def finish(self) -> None:
        """Runs what is left when the forward pass has ended: functions of values only."""
        if self.failed is not None:
            return
        try:
            self._run_until(None, None, None)
        except InterpdError as error:
            self.failed = error

    def _run_until(self, order: int | None, spot: Spot | None, frame: Frame | None, *, behind: bool = False) -> None:
        while self._next < len(self._steps):
            step = self._steps[self._next]
            if order is not None and step.plan.order > order:
                return
            if not behind and step.plan.order == order and step.index in self._behind:
                return
            self._next += 1
            if not self._can_run(step):
                if step.op == WRITE and step.invoke in self.rows:
                    self.missed.append(step)
                continue
            run_step(self._access, step, lambda step=step: self._outputs(step, spot, frame), self.values)

    def _can_run(self, step: Step) -> bool:
        # a prompt of this request may have ended its generation before the others
        if step.needs_row and step.invoke not in self.rows:
            return False
        return all(self.values.has(source) for source in step.sources)

    def _outputs(self, step: Step, spot: Spot | None, frame: Frame | None) -> tuple[Any, ...]:
        if step.op == PREFIX and step.invoke in self._so_far:
            return (self._access.ids(self._so_far[step.invoke]),)
        if step.binding is None:
            return evaluate(self._access, self.program, step, self.values)
        if spot is None or frame is None:
            raise InternalError(f"{step.name}: the pass did not come by {step.binding.site.name!r}")
        if step.op == READ:
            # values of a request are together on one device, wherever the layers are that they come from
            return (self._read(step, step.binding, spot, frame).to(self._access.device),)
        self._write(step, step.binding, spot, frame)
        return ()

    def _read(self, step: Step, binding: Binding, spot: Spot, frame: Frame) -> Tensor:
        row, positions = self.rows[step.invoke], step.params.get("positions")
        axis = binding.position_axis
        if step.index in self._handled:
            handle = self._handle(step, binding, spot, frame)
            self.handles[step.index] = Handle(handle, axis, positions)
            return handle if positions is None else rows.select(handle, axis, positions)
        if positions is not None and binding.site.name == rows.LOGITS:
            return rows.read_logits(spot.tensor(binding), row, frame, positions)
        if positions is None:
            return rows.read(spot.tensor(binding), binding, row, frame)
        return rows.select(rows.own(spot.tensor(binding), binding, row, frame), axis, positions)

    def _handle(self, step: Step, binding: Binding, spot: Spot, frame: Frame) -> Tensor:
        """The row's value as a node of the autograd graph that everything after this place is computed from."""
        row, key = self.rows[step.invoke], (step.invoke, binding.site.name)
        if self._fresh_order != binding.location.order:
            self._fresh, self._fresh_order = {}, binding.location.order
        if key not in self._fresh:
            value = rows.read(spot.tensor(binding), binding, row, frame).to(self._access.device)
            # another site of this place is made of the new handle from now on, and needs a new one to be read again
            self._forget_fresh(step.invoke)
            self._fresh[key] = value if value.requires_grad else value.detach().requires_grad_()
            rows.written(spot.own(binding), binding, row, frame, self._fresh[key])
            if (step.invoke, binding.location) not in self._apart:
                self._start_carry(step.invoke, binding, spot)
        return self._fresh[key]

    def _forget_fresh(self, invoke: int) -> None:
        self._fresh = {key: handle for key, handle in self._fresh.items() if key[0] != invoke}

    def _write(self, step: Step, binding: Binding, spot: Spot, frame: Frame) -> None:
        value = torch.as_tensor(filled(step.inputs[0], self.values.get), device=self._access.device)
        rows.written(spot.own(binding), binding, self.rows[step.invoke], frame, value)
        self._forget_fresh(step.invoke)
        if binding.carry is None:
            self._apart.add((step.invoke, binding.location))
        else:
            self._apart.discard((step.invoke, binding.location))
            self._start_carry(step.invoke, binding, spot)

    # A write at resid_mid reaches the branch that reads it; the sum after that branch must be made of it too.

    def _start_carry(self, invoke: int, binding: Binding, spot: Spot) -> None:
        if binding.carry is not None:
            self._carried[binding.site.name, invoke] = rows.slice_of(
                spot.tensor(binding), binding, self.rows[invoke]
            ).clone()

    def drop_carry(self, site: str) -> None:
        """Forgets a write that somebody else has replaced."""
        self._carried = {key: value for key, value in self._carried.items() if key[0] != site}

    def keep_branches(self, visit: Visit, spot: Spot) -> None:
        """Keeps what is at a branch now for the sum after it."""
        for name, invoke in self._carried:
            branch = self._site(self._site(name).carry[0])  # type: ignore[index]
            if is_at(branch, visit) and invoke in self.rows:
                part = rows.slice_of(spot.tensor(branch), branch, self.rows[invoke])
                self._branches[name, invoke] = part.clone()

    def _take_carried(self, visit: Visit, spot: Spot) -> None:
        for name, invoke in list(self._carried):
            total = self._site(self._site(name).carry[1])  # type: ignore[index]
            if is_at(total, visit):
                written, branch = self._carried.pop((name, invoke)), self._branches.pop((name, invoke), None)
                # no branch or row: this prompt was done before the sum, and only others have come as far
                if branch is not None and invoke in self.rows:
                    rows.slice_of(spot.own(total), total, self.rows[invoke]).copy_(written + branch)
                    # of three branches the model kept the sum of two as well
                    self._start_carry(invoke, total, spot)

    def _site(self, name: str) -> Binding:
        return self.program.bindings[name]


def is_at(binding: Binding, visit: Visit) -> bool:
    """Whether the place of a site is the one that the pass has come to."""
    place = binding.location
    same = (place.order, place.path, place.port) == (visit.order, visit.path, visit.port)
    return same and place.item in visit.items


def run_step(access: ModelAccess, step: Step, outputs: Callable[[], tuple[Any, ...]], values: Values) -> None:
    """Runs one node and keeps its outputs. Raises ``InterpdError`` of the class that the caller shall see."""
    try:
        values.put(step.index, outputs(), stacked=step.plan.stacked)
    except InterpdError as error:
        error.facts.setdefault("node", step.name)
        raise
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(f"{step.name} ({step.op}): {error}", node=step.name) from error
    # the run of one node: whatever it raises ends this request and no other; a plugin's sys.exit() would end the thread
    except BaseException as error:
        if not isinstance(error, Exception) and step.schema.plugin == "interpd":
            raise
        raise _blamed(step, error) from error
    values.release(step.sources)


def _blamed(step: Step, error: BaseException) -> InterpdError:
    cause = f"{type(error).__name__}: {error}"
    facts = {"node": step.name, "op": step.op, "plugin": step.schema.plugin}
    if step.schema.plugin != "interpd":
        return op_failed(step, error)
    if step.op in (READ, WRITE):
        return InternalError(f"{step.name}: {step.op} raised {cause}", **facts)
    return CallerError(f"{step.name}: {step.op} cannot be computed: {cause}", **facts)


def evaluate(access: ModelAccess, program: Program, step: Step, values: Values) -> tuple[Any, ...]:
    """The outputs of a node that touches no site."""
    args = [filled(arg, values.get) for arg in step.inputs]
    if step.op in OF_TOKENS:
        tokens = program.tokens[step.invoke]
        side = tokens.target if step.op == PREFIX or step.params.get("side") == "target" else tokens
        return (access.ids((side or tokens).ids),)
    if step.op == "param.read":
        return (access.parameter(str(step.params["name"])),)
    if step.op == "module.call":
        return (access.call(str(step.params["module"]), args[0]),)
    if step.fn is None:
        raise InternalError(f"{step.name}: nothing runs {step.op!r}")
    if step.schema.plugin != "interpd":
        return _call_plugin(access, program, step, args, values)
    params = {name: filled(value, values.get) for name, value in step.params.items()}
    if step.op in NEEDS_DEVICE:
        params["device"] = access.device
    return as_tuple(step.fn(*args, **params))


def _call_plugin(access: ModelAccess, program: Program, step: Step, args: list[Any], values: Values) -> tuple[Any, ...]:
    names = access.artifact_names(step.schema, step.params)
    run_id = program.request.run_id
    with access.busy(run_id, f"op {step.op}@{step.schema.version}"):
        try:
            params, sizes = loaded_params(access, step, values, run_id)
            with access.weights.watched(run_id, describe(step.schema)):
                return call_guarded(step.schema, step.fn, args, params, sizes)
        except OpFailed:
            for name in names.values():
                access.store.forget_loaded(name)
            raise


def loaded_params(
    access: ModelAccess, step: Step, values: Values, run_id: str
) -> tuple[dict[str, Any], dict[str, int]]:
    """The keyword arguments of a plugin's function, artifacts loaded, and the axis sizes that these bind."""
    names = access.artifact_names(step.schema, step.params)
    params = {name: filled(value, values.get) for name, value in step.params.items()}
    params.update(access.use_artifacts(names, run_id))
    return params, access.axis_sizes(names.values())
