"""What every attribution method takes, besides constants of its own."""

from dataclasses import dataclass
from typing import Literal

from interpd_attribution.worker.scoring.contrast import Contrast, Foils


@dataclass(frozen=True, kw_only=True)
class Places(Foils):
    """Which tokens are attributed to which inputs, and what is told of them.

    Args:
        step_scores: Step functions to report for each attributed token, written with their options in parentheses.
        start: The first attributed position of the target; negative ones count from the end.
        stop: The position behind the last one; none: the end.
        span: One column for all attributed tokens, the sum of their scores; otherwise one for each.
        spans: A column number for each attributed token, -1 to leave it out; a column is the sum over its tokens.
        inputs: Which inputs are attributed and varied: those of an encoder-decoder model's source or target, or all.
        features: A feature number for each position (source, then target), -1 to leave it out; empty: each its own.
    """

    step_scores: tuple[str, ...] = ()
    start: int = 1
    stop: int | None = None
    span: bool = False
    spans: tuple[int, ...] = ()
    inputs: Literal["all", "source", "target"] = "all"
    features: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request(Places, Contrast):
    """What is attributed, and how it comes back.

    Args:
        target: The attributed step function, with its options in parentheses: ``probability(logprob=True)``.
        rows_per_pass: The most rows of a pass; 0: as many as memory allows.
    """

    target: str = "probability"
    rows_per_pass: int = 0


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What inputs are compared with: inputs that say nothing, or something else.

    Args:
        baseline: The unknown, padding or mask token, the mean of all token embeddings, zeros, random vectors as long
            as the inputs, or the tokens of ``baseline_ids``.
        baseline_ids: One token for all positions, or one for each position (source, then target); several baselines
            stand one behind the other.
        n_baselines: How many random baselines.
        include_eos_baseline: Replace end tokens too; otherwise they stay. The decoder's start token always stays.
        seed: Of everything that is drawn.
    """

    baseline: Literal["unk", "pad", "mask", "mean", "zeros", "noise", "ids"] = "unk"
    baseline_ids: tuple[int, ...] = ()
    n_baselines: int = 1
    include_eos_baseline: bool = False
    seed: int = 0
