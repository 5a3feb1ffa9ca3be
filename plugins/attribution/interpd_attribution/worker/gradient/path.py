"""Methods that follow gradients along a path from a baseline to the inputs.

The points of a path are the same for all columns: each is passed once.
"""

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.baselines import baselines
from interpd_attribution.worker.declaration import Found, attribution
from interpd_attribution.worker.gradient.quadrature import Rule, quadrature
from interpd_attribution.worker.gradient.vjp import gradients, weighted
from interpd_attribution.worker.problem import Points, Problem, points
from interpd_attribution.worker.request import Baseline


def straight(starts: Tensor, end: Tensor, places: Tensor) -> Points:
    """Points on the straight lines from ``starts`` to ``end``: those of the first line, of the second, ..."""
    places = places.to(end.device)

    def at(rows: slice) -> Tensor:
        numbers = torch.arange(rows.start, rows.stop, device=end.device)
        begin, place = starts[numbers // len(places)], places[numbers % len(places), None, None]
        return begin + place * (end - begin)

    return Points(len(starts) * len(places), at)


def with_delta(problem: Problem, columns: slice, starts: Tensor, found: Tensor) -> Found:
    """Attributions with how far they are from adding up to the target's change from the baselines."""
    at_end, at_start = problem.scores(points(problem.inputs[None])), problem.scores(points(starts))
    change = (at_end[0] - at_start.mean(0))[columns]
    return Found(found, found.flatten(1).sum(1) - change, change)


@attribution("integrated_gradients", paper="arXiv:1703.01365")
def integrated_gradients(
    problem: Problem,
    columns: slice,
    *,
    n_steps: int = 50,
    rule: Rule = "gausslegendre",
    multiply_by_inputs: bool = True,
    convergence_delta: bool = False,
    baseline: Baseline,
) -> Tensor | Found:
    """The mean gradient on the way from the baseline to the input, times their difference.

    The scores of a column add up to the change of its target, as far as the steps are enough. The mean over baselines.

    Args:
        n_steps: Points between the baseline and the input.
        rule: Where they lie and how they are weighted.
        multiply_by_inputs: Times the difference; otherwise the mean gradient alone.
        convergence_delta: Tell by how much the sum misses the target's change.

    Source: Sundararajan et al. 2017.
    """
    check_delta(convergence_delta, multiply_by_inputs)
    starts, (places, weights) = baselines(problem, baseline), quadrature(rule, n_steps)
    at = straight(starts, problem.inputs, places)
    problem.expect(at.n * problem.columns.n)
    if len(starts) == 1 or not multiply_by_inputs:
        share = weights.repeat(len(starts)) / len(starts)
        found = weighted(problem, at, columns, lambda rows: share[rows])
        found = found * (problem.inputs - starts[0]) if multiply_by_inputs else found
    else:
        differences = (problem.inputs - starts) / len(starts)

        def share_of(rows: slice) -> Tensor:
            numbers = torch.arange(rows.start, rows.stop)
            return differences[numbers // n_steps] * weights[numbers % n_steps, None, None].to(differences)

        found = weighted(problem, at, columns, share_of)
    return with_delta(problem, columns, starts, found) if convergence_delta else found


@attribution("sequential_integrated_gradients", paper="https://aclanthology.org/2023.findings-acl.477")
def sequential_integrated_gradients(
    problem: Problem,
    columns: slice,
    *,
    n_steps: int = 50,
    rule: Rule = "gausslegendre",
    multiply_by_inputs: bool = True,
    convergence_delta: bool = False,
    baseline: Baseline,
) -> Tensor | Found:
    """Integrated gradients of one position at a time, while all others stay as they are.

    Args:
        n_steps: Points between the baseline and the input, for each position.
        rule: Where they lie and how they are weighted.
        multiply_by_inputs: Times the difference; otherwise the mean gradient alone.
        convergence_delta: Tell by how much the sum misses the target's change.

    Source: Enguehard 2023.
    """
    check_delta(convergence_delta, multiply_by_inputs)
    starts, (places, weights) = baselines(problem, baseline), quadrature(rule, n_steps)
    if len(starts) > 1:
        raise CallerError("sequential_integrated_gradients takes one baseline")
    inputs, start = problem.inputs, starts[0]
    places, weights = places.to(inputs.device), weights.to(inputs.device)

    def at(rows: slice) -> Tensor:
        numbers = torch.arange(rows.start, rows.stop, device=inputs.device)
        position, place = numbers // n_steps, places[numbers % n_steps, None]
        vectors = inputs.expand(len(numbers), -1, -1).clone()
        vectors[torch.arange(len(numbers)), position] = start[position] + place * (inputs - start)[position]
        return vectors

    at_all = Points(len(inputs) * n_steps, at)
    problem.expect(at_all.n * problem.columns.n)
    found = inputs.new_zeros(columns.stop - columns.start, *inputs.shape)
    for part in gradients(problem, at_all, columns):
        numbers = torch.arange(part.rows.start, part.rows.stop, device=inputs.device)
        position = numbers // n_steps
        own = part.by[0][:, torch.arange(len(numbers)), position] * weights[numbers % n_steps, None]
        found[part.columns] = found[part.columns].index_add(1, position, own)
    found = found * (inputs - start) if multiply_by_inputs else found
    return with_delta(problem, columns, starts, found) if convergence_delta else found


def check_delta(convergence_delta: bool, multiply_by_inputs: bool) -> None:
    """Raises ``CallerError`` where scores do not add up to anything."""
    if convergence_delta and not multiply_by_inputs:
        raise CallerError("convergence_delta is about scores that add up, and without multiply_by_inputs they do not")
