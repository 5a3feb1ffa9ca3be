"""ContextCite: which parts of a context a continuation rests on, by a sparse surrogate of random ablations."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.declaration import Scores
from interpd_attribution.worker.perturbation.declaration import perturbation
from interpd_attribution.worker.perturbation.game import Game, check_samples
from interpd_attribution.worker.perturbation.regression import Array, Fit, rank_correlations, standardised_lasso
from interpd_attribution.worker.perturbation.surrogates import random_masks, surrogates
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline, Request

LOG_PROBABILITY = "probability(logprob=True)"

SURE = 1e-15
"""How far from one a probability is at least, in log-odds: those of 34.5 nats are the largest."""


@dataclasses.dataclass(frozen=True)
class CitedScores(Scores):
    """The weights of a sparse surrogate, and how good they are; NaN where the feature comes behind the column."""

    intercepts: Float32[Tensor, " step"]
    """What the surrogate says of the column without any feature."""
    lds: Float32[Tensor, " step"]
    """The linear datamodeling score: Spearman's correlation of what the surrogate and the model say of ablations that
    it was not made of. NaN where nothing varies, and without such ablations."""
    drops: Float32[Tensor, "_ step"]
    """For each of ``top_k``: by how much the column's score falls when its features with the largest weights go. NaN
    where it sees fewer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Citing:
    """How a surrogate is made and judged.

    Args:
        n_ablations: Random ablations that it is made of.
        keep_prob: How likely each feature stays in one.
        alpha: The penalty of the lasso, on features scaled to a standard deviation of one and outcomes per token.
        output: What it is a surrogate of: the log-odds of the column's tokens together, or what ``target`` says.
        n_held_out: Further ablations, to judge it by (``lds``).
        top_k: How many of the features with the largest weights are taken away, to judge them by (``drops``).
    """

    n_ablations: int = 64
    keep_prob: float = 0.5
    alpha: float = 0.01
    output: Literal["log_odds", "target"] = "log_odds"
    n_held_out: int = 32
    top_k: tuple[int, ...] = (1, 3, 5)


@perturbation("context_cite", returns=CitedScores, paper="arXiv:2409.00729")
def context_cite(problem: Problem, *, citing: Citing, baseline: Baseline) -> Mapping[str, Tensor]:
    """How much each feature carries the continuation, as the weight of a sparse linear function.

    The function says from which features stay what the continuation's log-odds are.
    For the sources of a context, let ``features`` be its segments (-1 elsewhere) and ``span`` the continuation. The
    same ablations serve all columns.

    Source: Cohen-Wang et al. 2024; the outcome, its scale and the lasso are theirs.
    """
    _check(problem, citing)
    if citing.output == "log_odds":
        asked = dataclasses.replace(problem.request, target=LOG_PROBABILITY)
        problem = Problem(problem.ctx, asked)
    game = Game(problem, baseline)
    kept = random_masks(game, citing.n_ablations + citing.n_held_out, citing.keep_prob)
    problem.expect(len(kept) + 1 + len(citing.top_k) * game.n_columns, "rows")
    n_tokens = problem.columns.members().sum(1).double()
    rest = slice(citing.n_ablations, None)

    def fitted(x: Array, y: Array) -> tuple[Fit, Mapping[str, Array]]:
        fit = standardised_lasso(x[: rest.start], y[: rest.start], citing.alpha)
        return fit, {"lds": rank_correlations(fit.predicted(x[rest]), y[rest])}

    def found(worth: Tensor) -> dict[str, Tensor]:
        outcomes = _log_odds(worth[1:].numpy()) if citing.output == "log_odds" else worth[1:].numpy()
        told = surrogates(game, kept[: len(outcomes)], outcomes / n_tokens.numpy(), fitted, ("lds",))
        return told | {name: told[name] * n_tokens for name in ("scores", "intercepts")}

    worth = game.drawn_worth(torch.cat([game.ends()[1:], kept]), lambda worth: found(worth)["scores"])
    told = found(worth)
    return {**told, "drops": _drops(game, told["scores"][game.players], worth[0].numpy(), citing.top_k)}


def _log_odds(log_probabilities: Array) -> Array:
    bounded = np.minimum(log_probabilities, -SURE)
    return bounded - np.log(-np.expm1(bounded))


def _drops(game: Game, weights: Tensor, whole: Array, top_k: tuple[int, ...]) -> Tensor:
    """By how much each column falls without its features of the largest weights, ``[k column]``."""
    found = torch.full((len(top_k), game.n_columns), torch.nan, dtype=torch.float64)
    if not top_k:
        return found
    ranks = weights.masked_fill(~game.sees, -torch.inf).argsort(dim=0, descending=True, stable=True).argsort(0)
    kept = torch.stack([k <= ranks.T for k in top_k])
    worth = game.worth(kept.flatten(0, 1)).reshape(*kept.shape[:2], -1).diagonal(dim1=1, dim2=2)
    enough = game.sees.sum(0) >= torch.tensor(top_k)[:, None]
    return torch.where(enough, torch.from_numpy(whole) - worth, found)


def _check(problem: Problem, citing: Citing) -> None:
    check_samples("n_ablations", citing.n_ablations, 2)
    check_samples("n_held_out", citing.n_held_out, 0)
    if not 0 < citing.keep_prob < 1 or not 0 <= citing.alpha < float("inf"):
        raise CallerError(
            f"keep_prob is {citing.keep_prob}, expected a number between 0 and 1; alpha is {citing.alpha}, expected 0 "
            "or more"
        )
    if any(k < 1 for k in citing.top_k):
        raise CallerError(f"top_k is {list(citing.top_k)}, expected numbers of features from 1")
    other = problem.request.target not in (Request.target, LOG_PROBABILITY)
    if citing.output == "log_odds" and (other or problem.value is not None):
        said = "a value" if problem.value is not None else repr(problem.request.target)
        raise CallerError(
            f"log-odds are those of the tokens' probability, and the target is {said}: set output='target'"
        )
