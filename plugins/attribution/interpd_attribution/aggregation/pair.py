"""The aggregator ``pair``: compares two results of equal shape."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.aggregation.functions import AggregationFunction
from interpd_attribution.aggregation.registry import aggregator
from interpd_attribution.numbers import with_done

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution, Token


@aggregator("pair")
def pair(
    attribution: "Attribution", *, paired_attr: "Attribution", aggregate_fn: AggregationFunction | None
) -> "Attribution":
    """What changes from one result to another: by default ``paired_attr``'s scores minus those of ``attribution``.

    Tokens that differ become ``one → other``, with the id -1.

    Args:
        attribution: The one.
        paired_attr: The other, with as many tokens on each side and the same kinds of scores.
        aggregate_fn: Another function of the arrays of both.
    """
    _refuse_unlike(attribution, paired_attr)
    change = aggregate_fn.call if aggregate_fn else _difference

    def both(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
        return None if one is None else change(one, other)

    what = f"{aggregate_fn.name} of two results" if aggregate_fn else "difference of two results"
    return replace(
        attribution,
        info=with_done(attribution, what),
        source=_labels(attribution.source, paired_attr.source),
        target=_labels(attribution.target, paired_attr.target),
        source_attributions=both(attribution.source_attributions, paired_attr.source_attributions),
        target_attributions=both(attribution.target_attributions, paired_attr.target_attributions),
        step_scores={name: both(one, paired_attr.step_scores[name]) for name, one in attribution.step_scores.items()},
        sequence_scores={
            name: both(one, paired_attr.sequence_scores[name]) for name, one in attribution.sequence_scores.items()
        },
        step_attributions=None,
    )


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return other - one


def _labels(tokens: "Sequence[Token]", others: "Sequence[Token]") -> "tuple[Token, ...]":
    return tuple(
        one if one.text == other.text else one._replace(text=f"{one.text} → {other.text}", id=-1)
        for one, other in zip(tokens, others, strict=True)
    )


def _refuse_unlike(one: "Attribution", other: "Attribution") -> None:
    for name in ("source", "target"):
        lengths = len(getattr(one, name)), len(getattr(other, name))
        if lengths[0] != lengths[1]:
            raise CallerError(
                f"the {name} has {lengths[0]} tokens here and {lengths[1]} there; merge words or spans of both first"
            )
    for name in ("attr_pos_start", "attr_pos_end", "dims"):
        if getattr(one, name) != getattr(other, name):
            raise CallerError(f"{name} is {getattr(one, name)} here and {getattr(other, name)} there")
    for name in ("source_attributions", "target_attributions"):
        sizes = [None if array is None else array.shape for array in (getattr(one, name), getattr(other, name))]
        if sizes[0] != sizes[1]:
            raise CallerError(f"{name} has shape {sizes[0]} here and {sizes[1]} there")
    for kind in ("step_scores", "sequence_scores"):
        if missing := sorted(getattr(one, kind).keys() - getattr(other, kind).keys()):
            raise CallerError(f"{kind} {', '.join(missing)} of the one are missing in the other")
