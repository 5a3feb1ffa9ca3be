"""Values of the graph that a pass of a method computes anew, row by row."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interpd.engine.guard import describe
from interpd.engine.memory import Values
from interpd.engine.method_request import argument_of
from interpd.engine.planning import Program, Step, filled
from interpd.errors import CallerError, FeatureUnsupported
from interpd.graph.ir import Ref
from interpd.graph.order import READ, WRITE
from interpd.graph.promotion import FLOATS
from interpd.plugin.annotations import Recomputed


class WantedValues:
    """What is run for the values that one pass of a method is asked for.

    Reads and writes of the graph at one site act in the order of its list, the edits of the method behind the last
    write. So a read that stands before a write sees neither that write nor an edit, any other one sees both.

    Args:
        program: The request.
        step: The method.
        handles: The recomputed ports. Raises ``Misuse`` for what is none of this method.
    """

    def __init__(self, program: Program, step: Step, handles: Sequence[Recomputed]) -> None:
        self._step = step
        self._arguments: Mapping[Recomputed, Any] = {handle: argument_of(step, handle) for handle in handles}
        self.nodes = tuple(argument.node for argument in self._arguments.values() if isinstance(argument, Ref))
        """Whose values are wanted."""
        writes = program.write_steps(step.invoke)
        known = {write.index for write in writes}
        steps = [one for one in program.steps_again(step.invoke, self.nodes) if one.index not in known]
        early = {one.index for one in steps if one.op == READ and any(_stands_before(one, other) for other in writes)}
        self.steps = tuple(steps)
        """All that is not run for the writes already."""
        self.before_edits = _in_order([*writes, *(one for one in steps if one.index in early)])
        self.behind_edits = tuple(one for one in steps if one.index not in early)

    def check(self, *, n_rows: int, grad: bool) -> None:
        """Raises ``FeatureUnsupported`` for what rows cannot be told apart in, or gradients cannot pass."""
        for one in self.steps:
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


def _stands_before(read: Step, write: Step) -> bool:
    """Whether a read stands in the list before a write that may change what it sees."""
    one, other = read.binding, write.binding
    if write.op != WRITE or one is None or other is None or read.index > write.index:
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


def _in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    return tuple(sorted(steps, key=lambda step: (step.plan.order, step.index)))
