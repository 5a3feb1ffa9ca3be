"""KernelSHAP: Shapley values as the coefficients of a weighted regression on coalitions."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.perturbation.declaration import SampledScores, perturbation
from interpd_attribution.worker.perturbation.game import Game, check_samples
from interpd_attribution.worker.perturbation.regression import Array, FixedSum
from interpd_attribution.worker.perturbation.shapley import MOST_EXACT
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline


@perturbation("kernel_shap", returns=SampledScores, paper="arXiv:1705.07874")
def kernel_shap(
    problem: Problem, *, n_samples: int = 256, paired: bool = True, baseline: Baseline
) -> Mapping[str, Tensor]:
    """What each feature adds to the target: Shapley values by regression on random coalitions.

    A column's scores add up to what separates its target from that of the baseline. Where there are no more coalitions
    than ``n_samples``, all are passed and the values are exact. The same coalitions serve all columns; one that does
    not see some of the features weighs them as if they had been drawn from those it sees.

    Args:
        n_samples: Coalitions; several times as many as features.
        paired: Each with its complement, which makes most estimates closer.

    Source: Lundberg and Lee 2017; pairs as in Covert and Lee 2021 (arXiv:2012.01536).
    """
    check_samples("n_samples", n_samples, 2)
    if paired and n_samples % 2:
        raise CallerError(f"n_samples is {n_samples}: paired coalitions need an even number")
    game = Game(problem, baseline)
    is_all = game.n <= MOST_EXACT and (1 << game.n) - 2 <= n_samples
    if not is_all:
        _check_draws(game, n_samples, paired)
    kept = _all(game.n) if is_all else _drawn(game, n_samples, paired)
    problem.expect(len(kept) + 2, "rows")
    ways = game.worth(game.ends()).numpy()
    if is_all:
        return _fitted(game, kept, ways, game.worth(kept).numpy(), 0)

    def fitted(worth: Tensor) -> dict[str, Tensor]:
        n_draws = len(worth) // (2 if paired else 1)
        rows = slice(n_draws * (2 if paired else 1))
        return _fitted(game, kept[rows], ways, worth[rows].numpy(), n_draws)

    return fitted(game.drawn_worth(kept, lambda worth: fitted(worth)["scores"]))


def _check_draws(game: Game, n_samples: int, paired: bool) -> None:
    """Raises ``CallerError`` where fewer coalitions are drawn than there are features, before any is passed."""
    n_draws, n_features = n_samples // 2 if paired else n_samples, int(game.sees.sum(0).max())
    if n_draws < n_features:
        pairs = f" ({n_draws} pairs of coalitions)" if paired else ""
        least = n_features * 2 if paired else n_features
        raise CallerError(
            f"n_samples is {n_samples}{pairs}, too few to tell {n_features} features apart: raise n_samples to "
            f"{least} at least; several times as many make good estimates"
        )


def _fitted(game: Game, kept: Tensor, ways: Array, worth: Array, n_draws: int) -> dict[str, Tensor]:
    """Scores and their errors from coalitions.

    Args:
        game: Whose players.
        kept: The coalitions, ``[row player]``.
        ways: What nobody and all are worth, ``[2 column]``.
        worth: Of the coalitions, ``[row column]``.
        n_draws: How many draws they are of; 0: they are all that there are.
    """
    found = {name: torch.zeros(game.n, game.n_columns, dtype=torch.float64) for name in ("scores", "standard_errors")}
    total = ways[1] - ways[0]
    for players, columns in game.views():
        if len(players) == 1:
            found["scores"][players[0], columns] = torch.from_numpy(total)[columns]
            continue
        x = kept[:, players].double().numpy()
        regression = FixedSum(x, _weights(x, game.n, not n_draws), n_draws)
        for column in columns.tolist():
            pair = regression.fit(worth[:, column] - ways[0, column], total[column])
            for name, values in zip(found, pair, strict=True):
                found[name][players, column] = torch.from_numpy(values)
            game.problem.ctx.raise_if_cancelled()
    return {name: game.table(values) for name, values in found.items()}


def _all(n: int) -> Tensor:
    """All coalitions but those of nobody and of all, ``[row player]``."""
    return (torch.arange(1, (1 << n) - 1)[:, None] >> torch.arange(n) & 1).bool()


def _drawn(game: Game, n_samples: int, paired: bool) -> Tensor:
    """Random coalitions, by the kernel: ``[row player]``; pairs behind one another."""
    generator = torch.Generator().manual_seed(game.seed)
    n_draws = n_samples // 2 if paired else n_samples
    sizes = 1 + torch.multinomial(torch.from_numpy(_kernel(game.n)), n_draws, replacement=True, generator=generator)
    ranks = torch.rand(n_draws, game.n, generator=generator).argsort(1).argsort(1)
    kept = ranks < sizes[:, None]
    return torch.stack([kept, ~kept], 1).flatten(0, 1) if paired else kept


def _kernel(n: int) -> Array:
    """The probability of each size of a coalition, 1 to ``n - 1``, under the Shapley kernel."""
    sizes = np.arange(1, n)
    found = 1 / (sizes * (n - sizes))
    return found / found.sum()


def _weights(x: Array, n: int, is_all: bool) -> Array:
    """What each row counts for the players of ``x``, ``[row player]``, of ``n`` that were drawn from: ``[row]``.

    The kernel's probability of the coalition of these players over that with which it was drawn; none of nobody and of
    all, whose worth is kept exactly.
    """
    m, sizes = x.shape[1], x.sum(1).astype(int)
    wanted, drawn = np.zeros(m + 1), np.ones(m + 1)
    wanted[1:m] = _kernel(m)
    combinations = _log_combinations(m, np.arange(m + 1))
    if is_all:
        drawn = np.exp(combinations - combinations.max())
    elif m < n:
        # of k drawn from n, so many are among the m
        k, s = np.arange(1, n)[:, None], np.arange(m + 1)
        with np.errstate(invalid="ignore"):
            shares = np.exp(combinations + _log_combinations(n - m, k - s) - _log_combinations(n, k))
        drawn = _kernel(n) @ np.nan_to_num(shares)
    else:
        drawn[1:m] = _kernel(m)
    found = (wanted / np.where(drawn > 0, drawn, 1))[sizes]
    return found / found.max() if found.max() > 0 else found


def _log_combinations(n: int, k: Array) -> Array:
    """The logarithm of ``n`` over ``k``; minus infinity where there are none."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    inside = (k >= 0) & (k <= n)
    at = np.where(inside, k, 0)
    return np.where(inside, factorials[n] - factorials[at] - factorials[n - at], -np.inf)
