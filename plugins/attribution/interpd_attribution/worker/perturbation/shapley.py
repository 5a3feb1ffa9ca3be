"""Shapley values: what a feature adds to the target, as the mean over all orders in which features may come.

A column's players are those that it sees. The others add nothing to it, so that one game over all serves every column
(the dummy axiom).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.perturbation.declaration import SampledScores, perturbation
from interpd_attribution.worker.perturbation.game import Game, blocks_of, check_samples
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline

MOST_EXACT = 16
"""Players for which all coalitions are passed: 65536."""

_BLOCK = 1 << 12
"""Coalitions, and values of marginal contributions in thousands, that are held at once."""


@perturbation("shapley_values", paper="https://doi.org/10.1515/9781400881970-018")
def shapley_values(problem: Problem, *, baseline: Baseline) -> Tensor:
    """What each feature adds to the target, as the mean over all orders: exact Shapley values.

    A column's scores add up to what separates its target from that of the baseline. All coalitions of up to 16
    features are passed; with more, group positions (``features``), or take the estimates of
    ``shapley_value_sampling`` and ``kernel_shap``.

    Source: Shapley 1953.
    """
    game = Game(problem, baseline)
    if game.n > MOST_EXACT:
        raise CallerError(
            f"exact Shapley values of {game.n} features take 2 to the {game.n} rows, and at most {MOST_EXACT} features "
            "are allowed: group positions with 'features', or take shapley_value_sampling or kernel_shap"
        )
    problem.expect(1 << game.n, "rows")
    total = torch.zeros(game.n, game.n_columns, dtype=torch.float64)
    for start in range(0, 1 << game.n, _BLOCK):
        numbers = torch.arange(start, min(start + _BLOCK, 1 << game.n))
        kept = (numbers[:, None] >> torch.arange(game.n) & 1).bool()
        total += _shares(kept).T @ game.worth(kept)
    return game.table(total)


def _shares(kept: Tensor) -> Tensor:
    """How much each coalition's worth counts in each player's value, ``[row player]``."""
    n = kept.shape[1]
    # of all orders, in which a given player comes directly behind a given set of so many others
    joins = torch.tensor([1 / (n * math.comb(n - 1, size)) for size in range(n)], dtype=torch.float64)
    sizes = kept.sum(1)
    left, joined = joins[sizes.clamp(max=n - 1)], joins[(sizes - 1).clamp(min=0)]
    return torch.where(kept, joined[:, None], -left[:, None])


@perturbation(
    "shapley_value_sampling", returns=SampledScores, paper="https://www.jmlr.org/papers/v11/strumbelj10a.html"
)
def shapley_value_sampling(
    problem: Problem, *, n_samples: int = 25, antithetic: bool = False, baseline: Baseline
) -> Mapping[str, Tensor]:
    """What each feature adds to the target, as the mean over random orders: estimated Shapley values.

    A column's scores add up to what separates its target from that of the baseline, however few orders there are. The
    same orders serve all columns.

    Args:
        n_samples: Orders.
        antithetic: Every other order is the one before it from its end, which makes most estimates closer.

    Source: Strumbelj and Kononenko 2010; antithetic pairs as in Mitchell et al. 2022 (arXiv:2104.12199).
    """
    check_samples("n_samples", n_samples)
    if antithetic and n_samples % 2:
        raise CallerError(f"n_samples is {n_samples}: antithetic orders come in pairs, give an even number")
    game, n_each = Game(problem, baseline), 2 if antithetic else 1
    problem.expect(n_samples * (game.n + 1), "rows")
    units = n_samples // n_each
    moments = Moments()
    most = max(1, _BLOCK * 1000 // (n_each * (game.n + 1) * game.n_columns))
    step = max(1, problem.rows_per_pass(grad=False) // (n_each * (game.n + 1)))
    generator = torch.Generator().manual_seed(game.seed)
    for start, stop in blocks_of(units, step):
        for first in range(start, stop, most):
            n_units = min(most, stop - first)
            orders = torch.rand(n_units, game.n, generator=generator).argsort(1)
            pairs = torch.stack([orders, orders.flip(1)], 1) if antithetic else orders[:, None]
            moments.add(_contributions(game, pairs.flatten(0, 1)).unflatten(0, (n_units, n_each)).mean(1))
        if stop < units:
            game.partial(moments.mean)
    return {"scores": game.table(moments.mean), "standard_errors": game.table(moments.standard_errors())}


def _contributions(game: Game, orders: Tensor) -> Tensor:
    """What each player adds when it comes in each order: ``[order player column]``."""
    n_orders, n = orders.shape
    ranks = orders.argsort(1)
    kept = ranks[:, None] < torch.arange(n + 1)[:, None]
    worth = game.worth(kept.flatten(0, 1)).reshape(n_orders, n + 1, -1)
    adds = worth.diff(dim=1)
    return adds.gather(1, ranks[..., None].expand_as(adds))


class Moments:
    """Mean and spread of samples that come in blocks."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, samples: Tensor) -> None:
        """Takes in samples, ``[sample ...]``."""
        mean, n = samples.mean(0), len(samples)
        total = self.n + n
        # Chan et al. 1979: no difference of large squares
        between = (mean - self.mean) ** 2 * (self.n * n / total)
        self._squares = self._squares + ((samples - mean) ** 2).sum(0) + between
        self.mean = self.mean + (mean - self.mean) * (n / total)
        self.n = total

    def standard_errors(self) -> Tensor:
        """Of the mean; NaN for a single sample."""
        return (self._squares / (self.n - 1) / self.n).sqrt() if self.n > 1 else torch.full_like(self.mean, torch.nan)
