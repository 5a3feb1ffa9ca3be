"""One sequence and what is asked of it, as the constants of a node of a graph."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interpd.errors import CallerError
from interpd.graph.schema import OpSchema
from interpd_attribution.aggregation.partition import Partition, partition
from interpd_attribution.asked import Asked
from interpd_attribution.compared import Compared, compared
from interpd_attribution.features import Segments
from interpd_attribution.methods import FAMILY, check_constants
from interpd_attribution.spelling import Speller
from interpd_attribution.step_functions import StepFunction, check_step_functions
from interpd_client import PromptTrace
from interpd_client.value import Value


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
    compared: Compared

    @property
    def segments(self) -> Segments | None:
        """What the rows are; ``None``: positions."""
        return self.compared.segments

    def recorded(self, t: PromptTrace) -> Any:
        """The node's outputs, recorded in a trace of the sequence."""
        target = self.asked.target
        if callable(target):
            target = target(t)
            if not isinstance(target, Value):
                raise CallerError(
                    f"the function target gave {target!r}, expected a value of the trace (t.torch.stack([...]) makes "
                    "one of several)"
                )
        ports = () if isinstance(target, str) else (target,)
        return t.op(self.schema.name, *ports, **self.constants)


def call_of(schema: OpSchema, known: Mapping[str, StepFunction], speller: Speller, asked: Asked) -> Call:
    """The node of a sequence.

    Args:
        schema: Of the method.
        known: The step functions that there are.
        speller: Of the sequence.
        asked: What is asked of it.

    Raises:
        CallerError: Positions, step functions, options that there are not; a foil that nothing looks at.
    """
    exact = speller.exact
    has_foil = asked.contrast is not None or any(name.startswith("contrast_") for name in asked.constants)
    written = asked.step_scores if asked.is_value else (str(asked.target), *asked.step_scores)
    check_step_functions(known, written, has_foil=has_foil)
    length = len(exact.target_ids)
    start, stop = positions(asked, exact.first, length)
    if asked.is_value and not schema.inputs:
        id_ = schema.name.removeprefix(FAMILY)
        raise CallerError(f"method {id_!r} explains predictions, no values: let target be the name of a step function")
    if asked.is_value and asked.spans:
        raise CallerError("spans are of attributed tokens, but a value is attributed: add its numbers up in the target")
    whole = [(start, stop)] if asked.span and not asked.is_value else asked.spans
    columns = _columns(length, whole, start, stop)
    found = compared(speller, asked, start, stop)
    constants = _merged(
        _listed(schema, asked.constants),
        {
            "step_scores": asked.step_scores,
            "inputs": "source" if exact.has_encoder and not asked.attribute_target else "all",
            "spans": () if asked.span or columns.is_trivial else _numbers(columns),
            **({"span": True} if asked.span else {}),
            **({} if asked.reduce is None else {"reduce": asked.reduce}),
            **({} if asked.is_value and not asked.step_scores else {"start": start, "stop": stop}),
            **({} if asked.is_value else {"target": _target(schema, asked)}),
            **found.constants,
        },
    )
    # what is the default anyway is left to methods that do not know of it
    known = {param.name for param in schema.params}
    needed = {name: value for name, value in constants.items() if name in known or value not in _IDLE.get(name, ())}
    check_constants(schema, needed)
    _without_self_scores(known, needed, found, columns)
    return Call(schema, needed, asked, start, stop, columns, found)


def _columns(length: int, spans: Any, start: int, stop: int) -> Partition:
    """The attributed tokens in groups. Raises ``CallerError`` for spans of others."""
    whole = partition(length, spans, "spans")
    beyond = [one for one in whole.groups if one.is_merged and not start <= one.start < one.stop <= stop]
    if beyond:
        raise CallerError(
            f"spans has the span ({beyond[0].start}, {beyond[0].stop}), but attributed are positions {start} to {stop}"
        )
    return whole.within(start, stop)


def _target(schema: OpSchema, asked: Asked) -> Any:
    """What is attributed; of a method that knows a few targets only its own, where none was chosen."""
    own = next((param for param in schema.params if param.name == "target" and param.choices), None)
    is_chosen = asked.target not in _IDLE["target"]
    return asked.target if own is None or is_chosen or asked.target in own.choices else own.default


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


def _listed(schema: OpSchema, constants: Mapping[str, Any]) -> dict[str, Any]:
    """The method's constants, where one text alone is a list of one for those that take several (``sites``)."""
    several = {param.name for param in schema.params if param.kind == "strs"}
    return {
        name: (value,) if name in several and isinstance(value, str) else value for name, value in constants.items()
    }


def _merged(given: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in said.items():
        if name in given and given[name] != value:
            raise CallerError(f"{name!r} is said twice: {given[name]!r} and {value!r}")
    return {**given, **said}


def _without_self_scores(
    known: Collection[str], constants: dict[str, Any], found: Compared, columns: Partition
) -> None:
    """Leaves out scores between the tokens of one side, which are of tokens, where rows or columns are others."""
    if found.segments is None and columns.is_trivial:
        return
    for name in SELF_SCORES:
        if constants.get(name):
            raise CallerError(f"{name} are scores of tokens: leave features and spans out")
        if name in known:
            constants[name] = False


SELF_SCORES = ("output_encoder_self_scores", "output_decoder_self_scores")

_IDLE: Mapping[str, Sequence[Any]] = {
    "inputs": ("all", "source"),
    "spans": ((),),
    "step_scores": ((),),
    "target": ("probability",),
}
"""Values that change nothing."""
