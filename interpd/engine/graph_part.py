"""What of the graph runs in a pass of a method, row by row: its writes, and values that are computed anew."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interpd.engine.guard import describe
from interpd.engine.memory import Values
from interpd.engine.method_request import argument_of
from interpd.engine.planning import Program, Step, filled
from interpd.errors import CallerError, FeatureUnsupported
from interpd.graph.ir import Ref
from interpd.graph.order import BEFORE, READ, WRITE
from interpd.graph.promotion import FLOATS
from interpd.plugin.annotations import Recomputed


class GraphPart:
    """The nodes of the graph that run in passes of one kind, and when.

    Reads and writes of the graph at one site act in the order of its list, the edits of the method behind the last
    write, and its reads behind these. So a read of the graph that stands before a write at its site, or that a write at
    its place uses, sees no edit there; any other one does.

    Args:
        program: The request.
        step: The method.
        handles: The recomputed ports whose values are wanted. Raises ``Misuse`` for what is none of this method.
        last_read: ``order`` of the last read of the method.
        begin: ``order`` of the cut that the pass begins at: writes up to there are in what it begins with.
    """

    def __init__(
        self, program: Program, step: Step, handles: Sequence[Recomputed], last_read: int, begin: int = BEFORE
    ) -> None:
        self._step = step
        self._arguments: Mapping[Recomputed, Any] = {handle: argument_of(step, handle) for handle in handles}
        self.wanted = tuple(argument.node for argument in self._arguments.values() if isinstance(argument, Ref))
        """The nodes whose values are wanted."""
        self.leading = program.steps_again(step.invoke, self.wanted)
        """The nodes that lead to these."""
        reads = [one.plan.order for one in self.leading if one.op == READ]
        self.last_order = max([last_read, *reads])
        """``order`` of the last place that the pass has to come by."""
        writes = [one for one in program.steps if one.op == WRITE and one.invoke == step.invoke]
        writes = [one for one in writes if begin < one.plan.order <= self.last_order]
        again = _placed({*self.leading, *program.steps_again(step.invoke, [one.index for one in writes])})
        self.behind = _behind_edits(again, writes)
        """Those that run behind the edits of the method at their place."""
        self.steps = tuple(sorted(again, key=lambda one: (one.plan.order, one.index in self.behind, one.index)))
        """All of them, in the order in which they run."""

    def check(self, *, n_rows: int, grad: bool) -> None:
        """Raises ``FeatureUnsupported`` for what rows cannot be told apart in, or gradients cannot pass."""
        for one in self.leading:
            if one.binding is not None and n_rows > 1 and not one.binding.site.shares_pass:
                text = f"dimension 0 of {one.binding.site.name!r} is not rows, so a pass of {n_rows} rows has no value"
                raise FeatureUnsupported(f"{one.name}: {text} for each: ask for one row", node=one.name)
            if grad and _stops_gradients(one):
                text = f"comes through {describe(one.schema)}, which says that gradients cannot pass it"
                raise FeatureUnsupported(f"{self._step.name}: the value {text}", node=one.name)

    def stacked(self, rows: Sequence[Values]) -> dict[Recomputed, Tensor]:
        """The values by handle, one per row in a new first dimension.

        Args:
            rows: What the nodes of the graph have given in each row.

        Raises:
            CallerError: A value has not the same shape in all rows.
        """
        return {
            handle: self._stacked(handle, [filled(argument, values.get) for values in rows])
            for handle, argument in self._arguments.items()
        }

    def _stacked(self, handle: Recomputed, values: Sequence[Tensor]) -> Tensor:
        shapes = [list(value.shape) for value in values]
        other = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is not None:
            text = f"is {shapes[0]} in row 0 of a pass and {shapes[other]} in row {other}"
            raise CallerError(
                f"{self._step.name} ({self._step.op}): the value at port {handle.port!r} {text}: rows of different "
                "length have one shape only where the graph chooses positions or reduces over them",
                node=self._step.name,
            )
        return torch.stack(list(values))


def _placed(steps: Iterable[Step]) -> list[Step]:
    """The steps in the order of the list; what follows from reads takes place where the last of them does."""
    placed: dict[int, Step] = {}
    for one in sorted(steps, key=lambda one: one.index):
        order = max((placed[source].plan.order for source in one.sources if source in placed), default=BEFORE)
        if not one.touches_site and order != one.plan.order:
            # in the request it was bound to the pass of another prompt, too
            one = replace(one, plan=replace(one.plan, order=order))
        placed[one.index] = one
    return list(placed.values())


def _behind_edits(steps: Collection[Step], writes: Sequence[Step]) -> frozenset[int]:
    by_index = {one.index: one for one in steps}
    before: set[int] = set()
    for write in writes:
        # what a write uses of its own place has to be there before it
        waiting = [write.index]
        while waiting:
            one = by_index[waiting.pop()]
            before.add(one.index)
            waiting += [i for i in one.sources if i in by_index and by_index[i].plan.order == write.plan.order]
    reads = [one for one in steps if one.op == READ and one.index not in before]
    behind = {read.index for read in reads if not any(_stands_before(read, write) for write in writes)}
    for one in steps:
        follows = any(source in behind and by_index[source].plan.order == one.plan.order for source in one.sources)
        if follows and one.index not in before:
            behind.add(one.index)
    return frozenset(behind)


def _stands_before(read: Step, write: Step) -> bool:
    """Whether a read stands in the list before a write that may change what it sees."""
    one, other = read.binding, write.binding
    if one is None or other is None or read.index > write.index:
        return False
    # two views of one tensor are parts of it that do not overlap; a raw path is all of it
    meet = one.site.name == other.site.name or one.view is None or other.view is None
    return one.location == other.location and meet


def _stops_gradients(step: Step) -> bool:
    # the derivatives of built-in operations that have none are zero wherever they exist
    if step.schema.differentiable or step.schema.plugin == "interpd":
        return False
    kinds = [port.type.dtype for port in step.schema.outputs if port.type is not None]
    return any(kind in FLOATS or kind in ("float", "any") for kind in kinds)
