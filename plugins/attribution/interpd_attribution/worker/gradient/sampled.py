"""Methods that average over drawn points: equal seeds draw equal numbers, on every device."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.baselines import baselines
from interpd_attribution.worker.declaration import Found, attribution
from interpd_attribution.worker.gradient.path import check_delta
from interpd_attribution.worker.gradient.vjp import gradients, weighted
from interpd_attribution.worker.problem import Points, Problem, points
from interpd_attribution.worker.request import Baseline

MOST_SAMPLES = 10_000


def _noise(problem: Problem, seed: int, number: int) -> Tensor:
    """Normal numbers for one drawn point, ``[position d_model]``: the same in whatever chunk it is passed."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    return torch.randn(problem.inputs.shape, generator=generator).to(problem.inputs.device)


def _noises(problem: Problem, seed: int, rows: slice) -> Tensor:
    return torch.stack([_noise(problem, seed, number) for number in range(rows.start, rows.stop)])


@attribution("gradient_shap", paper="arXiv:1705.07874")
def gradient_shap(
    problem: Problem,
    columns: slice,
    *,
    n_samples: int = 5,
    stdevs: float = 0.0,
    multiply_by_inputs: bool = True,
    convergence_delta: bool = False,
    baseline: Baseline,
) -> Tensor | Found:
    """The mean gradient at random points between baselines and noisy inputs, times the differences.

    Args:
        n_samples: Draws of a baseline, a point and noise.
        stdevs: Standard deviation of the noise on the inputs.
        multiply_by_inputs: Times the difference; otherwise the mean gradient alone.
        convergence_delta: Tell by how much the sum misses the target's change from the drawn baselines to the inputs.

    Source: Lundberg and Lee 2017. The same draws serve all columns.
    """
    _check(n_samples, stdevs)
    check_delta(convergence_delta, multiply_by_inputs)
    starts = baselines(problem, baseline)
    generator = torch.Generator().manual_seed(baseline.seed)
    chosen = torch.randint(len(starts), (n_samples,), generator=generator).to(starts.device)
    places = torch.rand(n_samples, 1, 1, generator=generator).to(starts.device)

    def ends(rows: slice) -> Tensor:
        return problem.inputs + stdevs * _noises(problem, baseline.seed, rows) if stdevs else problem.inputs

    def at(rows: slice) -> Tensor:
        return starts[chosen[rows]] + places[rows] * (ends(rows) - starts[chosen[rows]])

    def weights(rows: slice) -> Tensor:
        if not multiply_by_inputs:
            return torch.full((rows.stop - rows.start,), 1 / n_samples)
        return (ends(rows) - starts[chosen[rows]]) / n_samples

    problem.expect(n_samples * problem.columns.n)
    found = weighted(problem, Points(n_samples, at), columns, weights)
    if not convergence_delta:
        return found
    at_end = problem.scores(Points(n_samples, ends) if stdevs else points(problem.inputs[None]))
    change = at_end.mean(0) - problem.scores(Points(n_samples, lambda rows: starts[chosen[rows]])).mean(0)
    return Found(found, found.flatten(1).sum(1) - change[columns], change[columns])


@attribution("expected_gradients", paper="arXiv:1906.10670")
def expected_gradients(problem: Problem, columns: slice, *, n_samples: int = 50, baseline: Baseline) -> Tensor:
    """The mean gradient at random points between several baselines and the input, times the differences.

    Args:
        n_samples: Points: one in each of as many equal parts of the way, at random within its part.

    Source: Erion et al. 2021. Baselines are those of ``baseline_ids`` or ``n_baselines``, taken equally often.
    """
    starts = baselines(problem, baseline)
    _check(n_samples, 0.0)
    if n_samples % len(starts):
        raise CallerError(f"n_samples is {n_samples}: expected a multiple of the {len(starts)} baselines")
    generator = torch.Generator().manual_seed(baseline.seed)
    n_each = n_samples // len(starts)
    within = torch.rand(len(starts), n_each, generator=generator)
    places = ((torch.arange(n_each) + within) / n_each).T.reshape(-1, 1, 1).to(starts.device)

    def of(rows: slice) -> Tensor:
        return starts[torch.arange(rows.start, rows.stop) % len(starts)]

    at = Points(n_samples, lambda rows: of(rows) + places[rows] * (problem.inputs - of(rows)))
    problem.expect(n_samples * problem.columns.n)
    return weighted(problem, at, columns, lambda rows: (problem.inputs - of(rows)) / n_samples)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Normal noise on the inputs.

    Args:
        n_samples: Noisy inputs.
        noise_level: Standard deviation of the noise, as a part of the inputs' range.
        seed: Of the noise.
    """

    n_samples: int = 25
    noise_level: float = 0.1
    seed: int = 0


@attribution("smoothgrad", paper="arXiv:1706.03825")
def smoothgrad(problem: Problem, columns: slice, *, noise: Noise) -> Tensor:
    """The mean gradient at noisy inputs.

    Source: Smilkov et al. 2017.
    """
    return _moments(problem, columns, noise)[0]


@attribution("squaregrad", paper="arXiv:1806.10758")
def squaregrad(problem: Problem, columns: slice, *, noise: Noise) -> Tensor:
    """The mean of the squared gradients at noisy inputs.

    Source: Hooker et al. 2019.
    """
    return _moments(problem, columns, noise)[1]


@attribution("vargrad", paper="arXiv:1810.03292")
def vargrad(problem: Problem, columns: slice, *, noise: Noise) -> Tensor:
    """The variance of the gradient at noisy inputs.

    Source: Adebayo et al. 2018. Sums are of squares of differences from the first gradient, so that little is lost.
    """
    mean, square, first = _moments(problem, columns, noise, centred=True)
    return square - (mean - first) ** 2


def _moments(problem: Problem, columns: slice, noise: Noise, *, centred: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """(mean of the gradients, mean of their squares, the first); ``centred``: squares of differences from the first."""
    _check(noise.n_samples, noise.noise_level)
    inputs, n_samples = problem.inputs, noise.n_samples
    size = noise.noise_level * (inputs.max() - inputs.min())
    problem.expect(n_samples * problem.columns.n)
    mean = inputs.new_zeros(columns.stop - columns.start, *inputs.shape)
    square, first = torch.zeros_like(mean), torch.zeros_like(mean)
    at = Points(n_samples, lambda rows: inputs + size * _noises(problem, noise.seed, rows))
    for part in gradients(problem, at, columns):
        (by,) = part.by
        mean[part.columns] += by.sum(1) / n_samples
        if centred and part.rows.start == 0:
            first[part.columns] = by[:, 0]
        square[part.columns] += ((by - first[part.columns][:, None]) ** 2).sum(1) / n_samples
    return mean, square, first


def _check(n_samples: int, spread: float) -> None:
    if not 1 <= n_samples <= MOST_SAMPLES:
        raise CallerError(f"n_samples is {n_samples}, expected 1 to {MOST_SAMPLES}")
    if not 0 <= spread < float("inf"):
        raise CallerError(f"the noise has a standard deviation of {spread}, expected 0 or more")
