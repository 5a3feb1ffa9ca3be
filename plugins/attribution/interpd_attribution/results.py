"""What comes back of a node, as an ``Attribution``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpd.graph.run import Tokens
from interpd.graph.schema import OpSchema
from interpd_attribution.aggregation.functions import (
    AggregationFunction,
    function_for_step_score,
)
from interpd_attribution.aggregation.registry import find_function
from interpd_attribution.attribution import Attribution, Token
from interpd_attribution.labels import labels
from interpd_attribution.requests import Call
from interpd_attribution.sequences import Exact

TOKEN_AXES = ("feature", "step")

SELF_OUTPUTS = ("encoder_self", "decoder_self")
"""Outputs that are scores between the tokens of one side."""

WITHOUT_SCORES = "attribution.dummy"
"""The method that brings step scores only."""

INSEQ_NAMES = {"attribution.attention": "attentions"}
"""What Inseq calls such scores; others are ``scores``."""


@dataclass(frozen=True)
class Outputs:
    """The arrays of a node by name, with the names of their axes."""

    arrays: Mapping[str, np.ndarray]
    axes: Mapping[str, tuple[str, ...]]

    @property
    def scores(self) -> np.ndarray:
        """``[feature step *dims]``, whatever their order was."""
        return self.moved("scores")

    @property
    def dims(self) -> tuple[str, ...]:
        """The axes behind features and steps; vectors of sites without a name for their width are ``d_unit``."""
        return tuple(axis or "d_unit" for axis in self.axes["scores"] if axis not in TOKEN_AXES)

    def moved(self, name: str) -> np.ndarray:
        """An array with features and steps first."""
        axes = self.axes[name]
        array = np.asarray(self.arrays[name], dtype=np.float32)
        return np.moveaxis(array, [axes.index(axis) for axis in TOKEN_AXES], [0, 1])


def outputs_of(schema: OpSchema, found: Any) -> Outputs:
    """The outputs of a node, from what was restored of it: one array, or a tuple of them."""
    ports = schema.outputs
    arrays = [found] if len(ports) == 1 else list(found)
    return Outputs({port.name: array for port, array in zip(ports, arrays, strict=True)}, axes_of(schema))


def axes_of(schema: OpSchema) -> dict[str, tuple[str, ...]]:
    """The names of the axes of each output."""
    return {port.name: tuple(dim.name for dim in port.type.dims) if port.type else () for port in schema.outputs}


def attribution_of(exact: Exact, call: Call, tokens: Tokens, outputs: Outputs, info: Mapping[str, Any]) -> Attribution:
    """The result of one sequence.

    Args:
        exact: The sequence.
        call: What was asked of it.
        tokens: As the service told them when the run began.
        outputs: What came back.
        info: How it came about.
    """
    target = tokens.target or tokens
    sides = [_tokens(target)] if tokens.target is None else [_tokens(tokens), _tokens(target)]
    table, n_source = outputs.scores, len(sides[0]) if len(sides) > 1 else 0
    if call.segments is not None:
        ids = call.segments.ids(tokens.ids + target.ids if n_source else target.ids)
        labels = [Token(text, id_) for text, id_ in zip(call.segments.labels, ids, strict=True)]
        n_source = len(call.segments.sides[0]) if n_source else 0
        sides = [labels] if len(sides) == 1 else [labels[:n_source], labels[n_source:]]
    rows, columns = _Rows(table, n_source, tuple(sides[-1])), _columns(call, _tokens(target), table.shape[1])
    rows = rows.fitted(call, columns)
    has_encoder, brings_scores = len(sides) > 1, call.schema.name != WITHOUT_SCORES
    of_target = not has_encoder or call.asked.attribute_target
    return Attribution(
        source=tuple(sides[0]) if has_encoder else rows.target[: rows.n_prompt],
        target=rows.target,
        source_attributions=rows.table[:n_source] if has_encoder and brings_scores else None,
        target_attributions=rows.table[n_source:] if of_target and brings_scores else None,
        dims=outputs.dims,
        step_scores=step_scores(call, outputs, info),
        sequence_scores=sequence_scores(call, outputs),
        attr_pos_start=rows.n_prompt,
        attr_pos_end=rows.n_prompt + len(columns),
        info=info,
    )


@dataclass(frozen=True)
class _Rows:
    """A table of scores, the tokens of its target's rows, and how many of them come before the attributed ones."""

    table: np.ndarray
    n_source: int
    target: tuple[Token, ...]
    n_prompt: int = 0

    def fitted(self, call: Call, columns: Sequence[Token]) -> "_Rows":
        """With the columns' tokens among the rows: merged as the columns are, or behind all others."""
        at = self._place(call)
        if at is None:
            blank = np.full((len(columns), *self.table.shape[1:]), np.nan, np.float32)
            table, n = np.concatenate([self.table, blank]), len(self.target)
            return _Rows(table, self.n_source, (*self.target, *columns), n)
        n_tokens, first = call.stop - call.start, self.n_source + at
        merged = call.columns.merge(self.table[first : first + n_tokens], 0, SUM)
        table = np.concatenate([self.table[:first], merged, self.table[first + n_tokens :]])
        return _Rows(table, self.n_source, (*self.target[:at], *columns, *self.target[at + n_tokens :]), at)

    def _place(self, call: Call) -> int | None:
        """Where the attributed tokens are among the rows of the target; ``None``: they are not, one by one."""
        if call.asked.is_value:
            return None
        if call.segments is None:
            return call.start
        own = call.segments.of[call.segments.n_source :]
        found = own[call.start : call.stop]
        is_single = all(own.count(number) == 1 for number in found)
        if -1 in found or not is_single or list(found) != list(range(found[0], found[0] + len(found))):
            return None
        return found[0] - self.n_source


def step_scores(call: Call, outputs: Outputs, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """By name, a number for each column; those of merged tokens by the function of their name."""
    found: dict[str, np.ndarray] = {}
    asked = call.asked.step_scores if not call.asked.is_value else ()
    for name, values in zip(asked, outputs.arrays.get("step_scores", ()), strict=False):
        function = find_function(function_for_step_score(name, info))
        found[name] = call.columns.merge(np.asarray(values, dtype=np.float32), 0, function)
    deltas = np.asarray(outputs.arrays.get("deltas", ()), dtype=np.float32)
    if len(deltas):
        found["deltas"] = deltas[0]
    return found


def sequence_scores(call: Call, outputs: Outputs) -> dict[str, np.ndarray]:
    """By Inseq's names, scores between the tokens of one side, ``[where whose *dims]``."""
    name = INSEQ_NAMES.get(call.schema.name, "scores")
    found = {}
    for output in SELF_OUTPUTS:
        array = np.asarray(outputs.arrays.get(output, ()), dtype=np.float32)
        if array.size:
            found[f"{output}_{name}"] = np.moveaxis(array, [-2, -1], [0, 1])
    return found


def functions_of(scores: Sequence[str]) -> dict[str, str]:
    """For step scores that were written with options, the function that merges them."""
    found = {}
    for text in scores:
        name, _, options = text.partition("(")
        is_logarithm = "logprob=True" in options.replace(" ", "")
        if options:
            found[text] = function_for_step_score(name.strip(), {"step_scores_args": {"logprob": is_logarithm}})
    return found


def _sum(scores: np.ndarray, axis: int) -> np.ndarray:
    return np.where(np.isnan(scores).all(axis), np.nan, np.nansum(scores, axis))


SUM = AggregationFunction("sum of what is there", _sum)


def _tokens(side: Tokens) -> tuple[Token, ...]:
    return tuple(Token(text, id_) for text, id_ in zip(labels(side), side.ids, strict=True))


def _columns(call: Call, target: Sequence[Token], n_columns: int) -> tuple[Token, ...]:
    if call.asked.is_value:
        return tuple(Token("value" if n_columns == 1 else f"value[{number}]", -1) for number in range(n_columns))
    attributed, foils = target[call.start : call.stop], call.compared.foils
    if foils is None or not str(call.asked.target).startswith("contrast_"):
        return call.columns.merge_tokens(attributed)
    merged = call.columns.merge_tokens([Token(*shown) for shown in foils.labels(attributed)])
    begin = foils.constants.get("contrast_start")
    if begin is None:
        return merged
    wholes = " | ".join("".join(strings[begin:]) for strings in foils.strings)
    return tuple(Token(f"{wholes} → {token.text}", -1) for token in merged)
