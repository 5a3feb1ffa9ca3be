"""Numbers of samples of numbers: ranks, correlations, perplexities, how varied texts are."""

import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np

WORD = re.compile(r"\w+(?:['’-]\w+)*")
"""A word of a generated text: letters and digits, joined by apostrophes and hyphens."""


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value, from 1; equal values share the mean of theirs. Values are finite, ``[n]``."""
    order = np.argsort(values, kind="stable")
    of_sorted = values[order]
    starts = np.flatnonzero(np.r_[True, of_sorted[1:] != of_sorted[:-1]])
    ends = np.r_[starts[1:], len(values)]
    found = np.empty(len(values))
    found[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return found


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of two samples; NaN where one of them does not vary, or there are fewer than two values."""
    if len(one) < 2:
        return float("nan")
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else float("nan")


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """The rank correlation of two samples, ties by the mean rank; NaN as for ``pearson``."""
    return pearson(ranks(np.asarray(one, np.float64)), ranks(np.asarray(other, np.float64)))


def perplexity(surprisals: np.ndarray) -> float:
    """exp of the mean of -log p, in nats; NaN of none."""
    return float(np.exp(surprisals.mean())) if surprisals.size else float("nan")


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [found.lower() for found in WORD.findall(text)]


def share_in(texts: Iterable[str], bag: Collection[str]) -> float:
    """The share of the texts' words that are in a bag, whatever their case; NaN where there are no words."""
    wanted = {word.lower() for word in bag}
    words = [word for text in texts for word in words_of(text)]
    return sum(word in wanted for word in words) / len(words) if words else float("nan")


def distinct(texts: Iterable[Sequence[int]], n: int) -> float:
    """Distinct n-grams over all n-grams of some texts' tokens (Li et al. 2016); NaN where there are none."""
    grams = [tuple(text[at : at + n]) for text in texts for at in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def standard_error(values: np.ndarray) -> float:
    """Of a mean; NaN of fewer than two values."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
