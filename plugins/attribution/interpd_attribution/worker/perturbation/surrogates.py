"""Linear surrogates: which features a simple function of random masks has to look at to say what the model says."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.declaration import Scores
from interpd_attribution.worker.perturbation.declaration import perturbation
from interpd_attribution.worker.perturbation.game import Game, check_samples
from interpd_attribution.worker.perturbation.regression import Array, Fit, lasso, ridge
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline

Fitted = Callable[[Array, Array], tuple[Fit, Mapping[str, Array]]]
"""Fits a surrogate to rows, ``[row player]``, and outcomes, ``[row column]``, and may tell more of each column."""


@dataclasses.dataclass(frozen=True)
class SurrogateScores(Scores):
    """The coefficients of a linear surrogate; NaN where the feature comes behind all of the column's tokens."""

    intercepts: Float32[Tensor, " step"]
    """What the surrogate says without any feature."""
    fits: Float32[Tensor, " step"]
    """The part of the weighted variance that the surrogate explains, 1 at best; NaN where nothing varies."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lime:
    """How a surrogate is made.

    Args:
        n_samples: Masks, the one that masks nothing included.
        mask_prob: How likely each feature is masked.
        distance: Of a mask from the input, among the features before the column: one less the cosine of both as
            binary vectors, or the part of them that is masked.
        kernel_width: A mask at distance d counts ``exp(-d^2 / (2 kernel_width^2))``.
        surrogate: Linear regression with a penalty on squares (ridge), or on absolute values (lasso).
        alpha: The penalty, as in scikit-learn: of the weighted sum of squares (ridge), of half their mean (lasso).
    """

    n_samples: int = 50
    mask_prob: float = 0.3
    distance: Literal["cosine", "hamming"] = "cosine"
    kernel_width: float = 0.25
    surrogate: Literal["ridge", "lasso"] = "ridge"
    alpha: float = 1.0


@perturbation("lime", returns=SurrogateScores, paper="arXiv:1602.04938")
def lime(problem: Problem, *, lime: Lime, baseline: Baseline) -> Mapping[str, Tensor]:
    """The coefficients of a linear function of which features are masked, close to the input.

    A masked feature has the baseline's vectors. What the baseline leaves as it is (end tokens, a decoder's start) takes
    no part, and has zero. The same masks serve all columns; each has a surrogate of the features before it.

    Source: Ribeiro et al. 2016.
    """
    _check(lime)
    game = Game(problem, baseline)
    kept = random_masks(game, lime.n_samples - 1, 1 - lime.mask_prob)
    kept = torch.cat([game.ends()[1:], kept])
    problem.expect(len(kept), "rows")
    surrogate = {"ridge": ridge, "lasso": lasso}[lime.surrogate]

    def fitted(x: Array, y: Array) -> tuple[Fit, Mapping[str, Array]]:
        weights = _proximity(x, lime)
        fit = surrogate(x, y, weights, lime.alpha)
        return fit, {"fits": _explained(y, fit.predicted(x), weights)}

    def found(worth: Tensor) -> dict[str, Tensor]:
        return surrogates(game, kept[: len(worth)], worth.numpy(), fitted, ("fits",))

    return found(game.drawn_worth(kept, lambda worth: found(worth)["scores"]))


def random_masks(game: Game, n: int, keep_prob: float) -> Tensor:
    """Masks in which each player stays with that probability, ``[row player]``."""
    generator = torch.Generator().manual_seed(game.seed)
    return torch.rand(n, game.n, generator=generator) < keep_prob


def surrogates(
    game: Game, kept: Tensor, worth: Array, fitted: Fitted, tells: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """A surrogate for each column, of the players that it sees.

    Args:
        game: Whose players.
        kept: Masks, ``[row player]``.
        worth: Of the masks, ``[row column]``.
        fitted: Called for columns that see the same players.
        tells: The names of what it tells, ``[column]`` each.
    """
    found = {"scores": torch.zeros(game.n, game.n_columns, dtype=torch.float64)}
    # a column without players is what it is
    found["intercepts"] = torch.from_numpy(worth[0].copy())
    found |= {name: torch.full((game.n_columns,), torch.nan, dtype=torch.float64) for name in tells}
    for players, columns in game.views():
        fit, told = fitted(kept[:, players].double().numpy(), worth[:, columns.numpy()])
        found["scores"][players[:, None], columns] = torch.from_numpy(fit.coefficients)
        for name, values in {"intercepts": fit.intercepts, **told}.items():
            found[name][columns] = torch.from_numpy(np.asarray(values))
    return {**found, "scores": game.table(found["scores"])}


def _proximity(x: Array, asked: Lime) -> Array:
    stays = x.mean(1)
    distance = 1 - np.sqrt(stays) if asked.distance == "cosine" else 1 - stays
    return np.exp(-(distance**2) / (2 * asked.kernel_width**2))


def _explained(y: Array, predicted: Array, weights: Array) -> Array:
    varies = weights @ (y - weights @ y / weights.sum()) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varies > 0, 1 - weights @ (y - predicted) ** 2 / varies, np.nan)


def _check(asked: Lime) -> None:
    check_samples("n_samples", asked.n_samples, 2)
    if not 0 < asked.mask_prob < 1:
        raise CallerError(f"mask_prob is {asked.mask_prob}, expected a number between 0 and 1")
    if not 0 < asked.kernel_width < float("inf") or not 0 <= asked.alpha < float("inf"):
        raise CallerError(
            f"kernel_width is {asked.kernel_width}, expected a positive number; alpha is {asked.alpha}, expected 0 or "
            "more"
        )
