"""Gender bias of occupations: a sense removed or scaled, against a projection (Hewitt et al. 2023, section 6.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interpd.cli import Report
from interpd_backpack.evaluation import Chart
from interpd_backpack.evaluation.charts import svg
from interpd_backpack.evaluation.published import BIAS, TEST_PROMPTS, TRAIN_PROMPTS
from interpd_backpack.finding.projection import projected_bias
from interpd_backpack.reproduce.bundled import Bundled
from interpd_client import Model

PAPER = {
    "transformer": 7.02,
    "transformer, projected": 6.72,
    "transformer, optimised": 7.02,
    "Backpack": BIAS["base"],
    "Backpack, a sense removed": BIAS["removed"],
    "Backpack, a sense scaled": BIAS["optimised"],
}
"""Table 5."""
FACTORS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
"""Of the projection, among which each occupation's is chosen; as published, 0 is the null space, 1 changes nothing."""


def reproduce_bias(both: Bundled, report: Report) -> dict[str, bool]:
    """Adds the section; what is claimed, and whether it holds."""
    words = both.occupations
    scaled = both.backpack.backpack.optimal_scale(words, TRAIN_PROMPTS, test_prompts=TEST_PROMPTS)
    twin = Projected.of(both.twin, words)
    found = dict(
        zip(PAPER, (twin.base, twin.null, twin.optimised, scaled.before, scaled.removed, scaled.after), strict=True)
    )
    means = {name: float(np.mean(values)) for name, values in found.items()}
    bases = {name: "transformer" if name.startswith("transformer") else "Backpack" for name in PAPER}
    gone = {name: share_gone(means[base], means[name]) for name, base in bases.items()}
    gone_there = {name: share_gone(PAPER[base], PAPER[name]) for name, base in bases.items()}
    report.heading("Gender bias")
    report.text(
        f"The mean over the paper's 13 prompts of max(p(he)/p(she), p(she)/p(he)), then over {len(words)} occupations; "
        f"1 is none. Sense {scaled.sense}, and each occupation's factor of it (or of the projection of its embedding), "
        "were chosen on the 5 train prompts. What is gone is a share of what is above 1."
    )
    rows = [
        (name, f"{means[name]:.2f}", f"{gone[name]:.0%}", f"{PAPER[name]:.2f}", f"{gone_there[name]:.0%}")
        for name in PAPER
    ]
    report.table(("", "bias", "gone", "paper: bias", "gone "), rows)
    best = "Backpack, a sense scaled"
    report.text(
        f"The order is the paper's: a projection takes {gone['transformer, projected']:.0%} of the bias, a removed "
        f"sense {gone['Backpack, a sense removed']:.0%}, a scaled one {gone[best]:.0%} (paper: "
        f"{gone_there['transformer, projected']:.0%}, {gone_there['Backpack, a sense removed']:.0%}, "
        f"{gone_there[best]:.0%}). Here the bias is planted on purpose."
    )
    series = {"here": list(means.values()), "paper": list(PAPER.values())}
    report.figure("bias", svg(Chart("bias", tuple(PAPER), series, line=1.0)), "bias, here and in the paper")
    report.numbers["bias"] = {
        "occupations": words,
        "sense": scaled.sense,
        "factors": scaled.factors,
        "here": means,
        "gone": gone,
        "paper": PAPER,
        "paper_gone": gone_there,
        "by_occupation": found,
    }
    removed, projected = (
        gone["Backpack, a sense removed"],
        max(gone["transformer, projected"], gone["transformer, optimised"]),
    )
    return {
        "removing one sense takes a quarter of the bias or more": removed > 0.25,
        "scaling it takes more": gone[best] > removed,
        "a projection of the transformer's embedding takes less than half as much, as in the paper": projected
        < removed / 2,
    }


@dataclass(frozen=True)
class Projected:
    """The baseline for transformers, ``[word]`` each."""

    base: np.ndarray
    null: np.ndarray
    optimised: np.ndarray
    factors: np.ndarray

    @classmethod
    def of(cls, model: Model, words: Sequence[str]) -> "Projected":
        """As it is, projected to the null space, and with each word's best factor on the train prompts."""
        train = projected_bias(model, words, TRAIN_PROMPTS, factors=FACTORS) + np.abs(1 - np.array(FACTORS))
        chosen = train.argmin(1)
        ends = projected_bias(model, words, TEST_PROMPTS, factors=(1.0, 0.0))
        optimised = ends[:, 0].copy()
        for number in sorted(set(chosen.tolist()) - {FACTORS.index(1.0)}):
            rows = np.flatnonzero(chosen == number)
            own = [words[row] for row in rows]
            optimised[rows] = projected_bias(model, own, TEST_PROMPTS, factors=(FACTORS[number],))[:, 0]
        return cls(ends[:, 0], ends[:, 1], optimised, np.array(FACTORS)[chosen])


def share_gone(base: float, after: float) -> float:
    """Of the excess above 1."""
    return (base - after) / (base - 1)
