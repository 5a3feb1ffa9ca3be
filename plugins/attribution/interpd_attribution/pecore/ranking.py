"""Which scores stand out: a threshold of means and standard deviations, and the first few by magnitude."""

from collections.abc import Sequence

import numpy as np


def threshold(scores: Sequence[float], n_deviations: float | None) -> float:
    """The mean of the scores and so many of their standard deviations (of a sample, n - 1); 0.0 for ``None``.

    As Inseq 0.7.1 has it, the mean is of the scores with their signs, while what is compared with it has none. One
    score alone is its own threshold.
    """
    if n_deviations is None or not scores:
        return 0.0
    values = np.asarray(scores, np.float64)
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean() + n_deviations * deviation)


def standing_out(scores: Sequence[float], least: float, most: int | None = None) -> tuple[int, ...]:
    """The places of scores whose magnitude reaches ``least``, the largest first, ``most`` of them at most.

    Scores of zero never do: nothing is there to stand out.
    """
    # a threshold that is the score itself must not miss it by a rounding
    slack = 1e-9 * max((abs(score) for score in scores), default=0.0)
    kept = [place for place, score in enumerate(scores) if score and abs(score) >= least - slack]
    ranked = sorted(kept, key=lambda place: -abs(scores[place]))
    return tuple(ranked if most is None else ranked[:most])
