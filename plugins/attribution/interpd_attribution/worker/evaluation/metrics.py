"""Metrics of one column's scores. Each asks for inputs of which some features are removed, and says what it makes of
the target's scores there."""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.evaluation.statistics import area, kendall, pearson, spearman


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How metrics are taken.

    Args:
        order: Features are ranked by their scores as they are, or without signs.
        bins: Shares of the features that comprehensiveness and sufficiency look at.
        curve_points: Into how many equal steps the curves of deletion and insertion are cut at most; 0: one feature at
            a time.
        n_samples: Random sets of features.
        sizes: Shares of the features that make the sets of sensitivity-n.
    """

    order: Literal["signed", "magnitude"] = "signed"
    bins: tuple[float, ...] = (0.01, 0.05, 0.1, 0.2, 0.5)
    curve_points: int = 20
    n_samples: int = 64
    sizes: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Draws:
    """Random numbers, the same for all columns and methods."""

    sets: Tensor
    """``[sample feature]``: true where the feature is removed, each with probability a half."""
    orders: Tensor
    """``[sample feature]``: the features in random orders."""


@dataclass(frozen=True)
class Case:
    """One column's scores, and what metrics may need."""

    scores: Tensor
    """``[feature]``, float64; zero for features that the column does not see."""
    sees: Tensor
    """``[feature]``: which features may explain the column."""
    settings: Settings
    draws: Draws

    @property
    def n(self) -> int:
        """How many features may explain the column."""
        return int(self.sees.sum())

    @cached_property
    def ranking(self) -> Tensor:
        """The features that may explain the column, the most important one first; of equals the earlier."""
        scores = self.scores if self.settings.order == "signed" else self.scores.abs()
        seen = self.sees.nonzero()[:, 0]
        return seen[scores[seen].argsort(descending=True, stable=True)]

    def removed(self, features: Tensor) -> Tensor:
        """A mask that removes these features."""
        mask = torch.zeros_like(self.sees)
        mask[features] = True
        return mask

    def but(self, features: Tensor) -> Tensor:
        """A mask that keeps these features of those that may explain the column, and removes the rest."""
        return self.sees & ~self.removed(features)

    def top(self, share: float) -> Tensor:
        """The most important features: this share of them, rounded up."""
        # 0.1 * 30 is a little more than 3
        return self.ranking[: math.ceil(share * self.n - 1e-9)]

    @property
    def whole(self) -> Tensor:
        """Masks of the input as it is."""
        return torch.zeros_like(self.sees)[None]

    @property
    def empty(self) -> Tensor:
        """Masks of the baseline."""
        return self.sees[None]


Metric = Generator[Tensor, Tensor, Tensor]
"""Yields masks once, ``[row feature]``; is sent the target's scores, ``[row]``; returns a number."""


def comprehensiveness(case: Case) -> Metric:
    """The mean over bins of f(x) - f(x without the top share)."""
    tops = torch.stack([case.removed(case.top(share)) for share in case.settings.bins])
    whole, *without = yield torch.cat([case.whole, tops])
    return whole - torch.stack(without).mean()


def sufficiency(case: Case) -> Metric:
    """The mean over bins of f(x) - f(the top share alone)."""
    tops = torch.stack([case.but(case.top(share)) for share in case.settings.bins])
    whole, *alone = yield torch.cat([case.whole, tops])
    return whole - torch.stack(alone).mean()


def deletion(case: Case) -> Metric:
    """The area under f where the most important features are removed first, over the share that is removed."""
    counts = _counts(case)
    scores = yield torch.stack([case.removed(case.ranking[:count]) for count in counts])
    return area(scores, counts / case.n)


def insertion(case: Case) -> Metric:
    """The area under f where the most important features are put into the baseline first, over the share of them."""
    counts = _counts(case)
    scores = yield torch.stack([case.but(case.ranking[:count]) for count in counts])
    return area(scores, counts / case.n)


def infidelity(case: Case) -> Metric:
    """The mean square of what the scores of random sets miss of f(x) - f(x without the set)."""
    claimed, drops = yield from _at_random(case)
    return (claimed - drops).square().mean()


def infidelity_scaled(case: Case) -> Metric:
    """Infidelity of the scores times the number that makes it least."""
    claimed, drops = yield from _at_random(case)
    size = claimed.square().mean()
    best = (claimed * drops).mean() / size if size > 0 else 1.0
    return (best * claimed - drops).square().mean()


def linear_datamodeling(case: Case) -> Metric:
    """The rank correlation of random sets' scores with f(x) - f(x without the set)."""
    claimed, drops = yield from _at_random(case)
    return spearman(claimed, drops)


def sensitivity_n(case: Case) -> Metric:
    """The mean over sizes of the correlation of random sets' scores with f(x) - f(x without the set)."""
    seen = case.draws.orders[case.sees[case.draws.orders]].reshape(len(case.draws.orders), -1)
    sizes = {min(max(1, round(share * case.n)), case.n - 1) for share in case.settings.sizes} - {0}
    masks = [torch.stack([case.removed(order[:size]) for order in seen]) for size in sorted(sizes)]
    whole, *without = yield torch.cat([case.whole, *masks])
    if not masks:
        return torch.tensor(torch.nan)
    drops = (whole - torch.stack(without)).reshape(len(masks), -1)
    pairs = zip(masks, drops, strict=True)
    return torch.stack([pearson(mask.double() @ case.scores, drop) for mask, drop in pairs]).nanmean()


def tau_loo(case: Case) -> Metric:
    """Kendall's tau-b of the scores with f(x) - f(x without the feature)."""
    seen = case.sees.nonzero()[:, 0]
    whole, *without = yield torch.cat([case.whole, single(case)[seen]])
    return kendall(case.scores[seen], whole - torch.stack(without))


def completeness(case: Case) -> Metric:
    """How far the sum of the scores is from f(x) - f(baseline)."""
    whole, empty = yield torch.cat([case.whole, case.empty])
    return (case.scores.sum() - (whole - empty)).abs()


def gini(case: Case) -> Metric:
    """The Gini index of the scores' magnitudes: 0 when all are equal, near 1 when one has all."""
    yield case.whole
    sizes = case.scores[case.sees].abs().sort().values
    weights = 2 * torch.arange(1, case.n + 1) - case.n - 1
    return (weights * sizes).sum() / (case.n * sizes.sum())


def entropy(case: Case) -> Metric:
    """The entropy of the shares of the scores' magnitudes, in nats."""
    yield case.whole
    sizes = case.scores[case.sees].abs()
    return torch.special.entr(sizes / sizes.sum()).sum()


METRICS: Mapping[str, Callable[[Case], Metric]] = MappingProxyType(
    {
        one.__name__: one
        for one in (
            *(comprehensiveness, sufficiency, deletion, insertion, infidelity, infidelity_scaled, sensitivity_n),
            *(linear_datamodeling, tau_loo, completeness, gini, entropy),
        )
    }
)
"""By name."""


def check(settings: Settings, metrics: tuple[str, ...]) -> None:
    """Refuses, with ``CallerError``, what no metric can be taken of."""
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        said = f"there is no {unknown[0]!r}" if unknown else "none was asked for"
        raise CallerError(f"metrics: {said}; there are {', '.join(METRICS)}")
    for name in ("bins", "sizes"):
        wrong = [share for share in getattr(settings, name) if not 0 < share <= 1]
        if wrong or not getattr(settings, name):
            raise CallerError(f"{name}: expected shares above 0 and up to 1, got {wrong or 'none'}")
    if settings.n_samples < 2 or settings.curve_points < 0:
        raise CallerError(
            f"n_samples is {settings.n_samples} and curve_points {settings.curve_points}: expected 2 or more, and 0 or "
            "more"
        )


def drawn(settings: Settings, n_features: int, seed: int) -> Draws:
    """The random numbers that metrics share."""
    generator = torch.Generator().manual_seed(seed)
    sets = torch.rand(settings.n_samples, n_features, generator=generator) < 0.5
    orders = torch.rand(settings.n_samples, n_features, generator=generator).argsort(-1)
    return Draws(sets, orders)


def single(case: Case) -> Tensor:
    """Masks that remove one feature each, ``[feature feature]``."""
    return torch.eye(len(case.sees), dtype=torch.bool)


def _counts(case: Case) -> Tensor:
    n_steps = min(case.n, case.settings.curve_points or case.n)
    return torch.linspace(0, case.n, n_steps + 1, dtype=torch.float64).round().long()


def _at_random(case: Case) -> Generator[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """(the sum of the scores, f(x) - f(x without them)) of random sets of features."""
    whole, *without = yield torch.cat([case.whole, case.draws.sets])
    # sets that differ behind the column only are equal: so are their scores, to the last digit
    _, which = torch.unique(case.draws.sets & case.sees, dim=0, return_inverse=True)
    first = {number: place for place, number in reversed(list(enumerate(which.tolist())))}
    drops = whole - torch.stack([without[first[number]] for number in which.tolist()])
    return case.draws.sets.double() @ case.scores, drops
