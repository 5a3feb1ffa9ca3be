"""One sequence and what is asked of it, as the constants of a node of a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interpd.errors import CallerError
from interpd.graph.schema import OpSchema
from interpd_attribution.aggregation.partition import Partition, partition
from interpd_attribution.asked import Asked
from interpd_attribution.methods import check_constants
from interpd_attribution.sequences import Exact
from interpd_client import PromptTrace

if TYPE_CHECKING:
    from interpd_attribution.features.segments import Segments


@dataclass(frozen=True)
class Call:
    """A node of an attribution method, and what its numbers will mean."""

    schema: OpSchema
    constants: Mapping[str, Any]
    asked: Asked
    start: int
    """The first attributed position of the target."""
    stop: int
    columns: Partition
    """Attributed tokens, counted from ``start``; groups are columns."""
    segments: "Segments | None"
    """What the rows are; ``None``: positions."""

    def recorded(self, t: PromptTrace) -> Any:
        """The node's outputs, recorded in a trace of the sequence."""
        target = self.asked.target
        ports = () if isinstance(target, str) else (target(t),)
        return t.op(self.schema.name, *ports, **self.constants)


def call_of(
    schema: OpSchema, exact: Exact, asked: Asked, *, extra: Mapping[str, Any], segments: "Segments | None"
) -> Call:
    """The node of a sequence.

    Args:
        schema: Of the method.
        exact: The sequence.
        asked: What is asked of it.
        extra: Constants of its own: baselines and foils as ids.
        segments: Its features.

    Raises:
        CallerError: Positions that there are not, options that the method does not take.
    """
    length = len(exact.target_ids)
    start, stop = positions(asked, exact.first, length)
    whole = [(start, stop)] if asked.span and not asked.is_value else asked.spans
    if asked.is_value and asked.spans:
        raise CallerError("spans are of attributed tokens, but a value is attributed: add its numbers up in the target")
    columns = partition(length, whole, "spans").within(start, stop)
    constants: dict[str, Any] = dict(asked.constants)
    common = {
        "step_scores": asked.step_scores,
        "features": () if segments is None else segments.of,
        "inputs": "source" if exact.has_encoder and not asked.attribute_target else "all",
        "spans": () if asked.span or columns.is_trivial else _numbers(columns),
        **_optional(asked),
        **extra,
    }
    if not asked.is_value:
        common |= {"target": asked.target, "start": start, "stop": stop}
    elif asked.step_scores:
        common |= {"start": start, "stop": stop}
    for name, value in common.items():
        constants[name] = _once(name, value, constants)
    known = {param.name: param for param in schema.params}
    # what is the default anyway is left to methods that do not know of it
    needed = {name: value for name, value in constants.items() if name in known or not _is_idle(name, value)}
    check_constants(schema, needed)
    return Call(schema, needed, asked, start, stop, columns, segments)


def positions(asked: Asked, first: int, length: int) -> tuple[int, int]:
    """(start, stop) of the attributed part of a target. Raises ``CallerError`` where there is no such part."""
    start = first if asked.attr_pos_start is None else asked.attr_pos_start
    stop = length if asked.attr_pos_end is None else asked.attr_pos_end
    start, stop = (at + length if at < 0 else at for at in (start, stop))
    if asked.is_value and asked.attr_pos_start is None and asked.attr_pos_end is None:
        return min(start, length - 1), length
    if not 1 <= start < stop <= length:
        said = f"attributed are positions {start} to {stop} of the target's {length}"
        raise CallerError(
            f"{said}: expected a start from 1 to {length - 1} and a stop behind it; the first position is predicted by "
            "nothing, and without a continuation attr_pos_start says where to begin"
        )
    return start, stop


def _numbers(columns: Partition) -> tuple[int, ...]:
    return tuple(number for number, group in enumerate(columns.groups) for _ in range(group.start, group.stop))


def _optional(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = {"span": True} if asked.span else {}
    return found | ({} if asked.reduce is None else {"reduce": asked.reduce})


def _once(name: str, value: Any, constants: Mapping[str, Any]) -> Any:
    if name in constants and constants[name] != value:
        raise CallerError(f"{name!r} is said twice: {constants[name]!r} and {value!r}")
    return value


_IDLE: Mapping[str, Sequence[Any]] = {
    "features": ((),),
    "inputs": ("all", "source"),
    "spans": ((),),
    "step_scores": ((),),
    "target": ("probability",),
    "start": (),
    "stop": (),
}


def _is_idle(name: str, value: Any) -> bool:
    return value in _IDLE.get(name, ())
