"""How several scores become one: the seven functions, and which of them a score takes when nobody says.

A score that is NaN (an input that comes after what it would explain) makes every sum, mean, product, norm, largest and
smallest NaN; ``absmax`` looks past it.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

Reduce = Callable[..., np.ndarray]
"""``(scores, axis, **options)`` -> scores without that axis."""


@dataclass(frozen=True)
class AggregationFunction:
    """A function that takes one axis away from an array of scores."""

    name: str
    call: Reduce

    def __call__(self, scores: np.ndarray, axis: int) -> np.ndarray:
        """``scores`` without ``axis``."""
        return self.call(scores, axis)

    @property
    def options(self) -> frozenset[str]:
        """Names of what it takes beside scores and axis."""
        return frozenset(list(inspect.signature(self.call).parameters)[2:])

    def bound(self, options: Mapping[str, Any]) -> "AggregationFunction":
        """This function with values for some of its options."""
        return replace(self, call=partial(self.call, **options)) if options else self


def absmax(scores: np.ndarray, axis: int) -> np.ndarray:
    """The score of the largest magnitude, with its sign; the first of several. NaN only where all are."""
    where = np.nan_to_num(np.abs(scores), nan=-1.0).argmax(axis, keepdims=True)
    return np.take_along_axis(scores, where, axis).squeeze(axis)


def vnorm(scores: np.ndarray, axis: int, vnorm_ord: float = 2) -> np.ndarray:
    """The norm of order ``vnorm_ord``: 2 is Euclid's, ``inf`` the largest magnitude, 0 the number of non-zeros."""
    return np.linalg.norm(scores, ord=vnorm_ord, axis=axis)


BUILT_IN = {
    "mean": AggregationFunction("mean", lambda scores, axis: scores.mean(axis)),
    "max": AggregationFunction("max", lambda scores, axis: scores.max(axis)),
    "min": AggregationFunction("min", lambda scores, axis: scores.min(axis)),
    "sum": AggregationFunction("sum", lambda scores, axis: scores.sum(axis)),
    "prod": AggregationFunction("prod", lambda scores, axis: scores.prod(axis)),
    "absmax": AggregationFunction("absmax", absmax),
    "vnorm": AggregationFunction("vnorm", vnorm),
}

SPAN_DEFAULT = "absmax"
"""Of attributions and sequence scores, where tokens are merged."""

STEP_SCORES = {
    "probability": "prod",
    "entropy": "sum",
    "crossentropy": "sum",
    "perplexity": "prod",
    "contrast_prob": "prod",
    "contrast_prob_diff": "prod",
    "pcxmi": "sum",
    "kl_divergence": "sum",
    "mc_dropout_prob_avg": "prod",
    "deltas": "absmax",
}
"""Where tokens are merged, by step score; others take ``SPAN_DEFAULT``."""

STEP_SCORES_KEY = "step_scores_aggregation"
"""Key of a result's ``info``: the names of functions for step scores that are not ours."""


def function_for_dim(dim: str) -> str:
    """What an axis is reduced with by default: vectors (``d_model``, ...) by their norm, all else by the mean."""
    return "vnorm" if dim.startswith("d_") else "mean"


def function_for_step_score(name: str, info: Mapping[str, object]) -> str:
    """What a step score is merged with by default.

    A result's ``info`` may say it (``STEP_SCORES_KEY``). Probabilities that were asked for as logarithms add up.
    """
    said = info.get(STEP_SCORES_KEY)
    if isinstance(said, Mapping) and name in said:
        return str(said[name])
    arguments = info.get("step_scores_args")
    usual = STEP_SCORES.get(name, SPAN_DEFAULT)
    are_logarithms = isinstance(arguments, Mapping) and bool(arguments.get("logprob"))
    return "sum" if are_logarithms and usual == "prod" and "prob" in name else usual
