"""Gradients by the values of sites: one pass and one way back for all sites and columns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.baselines import baselines
from interpd_attribution.worker.gradient.path import straight
from interpd_attribution.worker.gradient.quadrature import MOST_STEPS, Rule, quadrature
from interpd_attribution.worker.gradient.vjp import columnwise, in_parts
from interpd_attribution.worker.layers.declaration import layer_attribution
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Points, Problem, put
from interpd_attribution.worker.request import Baseline


def gradients_at_inputs(problem: Problem, columns: slice, sites: Sequence[str]) -> tuple[list[Tensor], list[Tensor]]:
    """(gradients ``[column pos ...]``, values ``[pos ...]``) of each site at the inputs as they are."""
    _check_shared(problem)
    problem.expect(problem.columns.n)
    if cuts := problem.cuts(columns.stop - columns.start):
        _, by = in_parts(problem, problem.inputs[None], sites, columns, cuts)
        return [by[site][:, 0].float() for site in sites], values_at(problem, problem.inputs[None], sites)
    scored = problem.scored(reads=sites, grad=True)
    values = [scored.values[site] for site in sites]
    parts = [part.by for part in columnwise(problem, scored, values, slice(0, 1), columns)]
    found = [torch.cat([part[index][:, 0].float() for part in parts]) for index in range(len(sites))]
    return found, [value[0].detach().float() for value in values]


def values_at(problem: Problem, vectors: Tensor, sites: Sequence[str]) -> list[Tensor]:
    """The values of sites where the inputs are ``vectors``, the mean over rows: ``[pos ...]``."""
    scored = problem.scored(vectors, reads=sites)
    return [scored.values[site].float().mean(0) for site in sites]


@layer_attribution("layer_gradient_x_activation", paper="arXiv:1605.01713")
def layer_gradient_x_activation(
    problem: Problem, columns: slice, sites: Sequence[str], *, multiply_by_inputs: bool = True
) -> list[Tensor]:
    """The gradient of the target by what sites hold, times what they hold.

    All sites come from one pass and one way back: with ``contrast_prob_diff`` and every layer this is a map of
    contrastive attribution tracing; ``_heads`` and sites of neurons (``layers.{i}.mlp.post``) locate further.

    Args:
        multiply_by_inputs: Times what they hold; otherwise the gradient alone.
    """
    found, values = gradients_at_inputs(problem, columns, sites)
    if not multiply_by_inputs:
        return found
    return [gradient * value for gradient, value in zip(found, values, strict=True)]


@layer_attribution("layer_gradient_x_difference", paper="arXiv:2310.10348")
def layer_gradient_x_difference(
    problem: Problem,
    columns: slice,
    sites: Sequence[str],
    *,
    multiply_by_inputs: bool = True,
    baseline: Baseline,
) -> list[Tensor]:
    """The gradient of the target by what sites hold, times its difference from the baseline's.

    With the ids of a counterfactual prompt as the baseline this is attribution patching: the first-order guess of what
    the target loses when the site's value is taken from there (Nanda 2023; Syed et al. 2023). Inseq's
    ``layer_deeplift`` computes the same on language models; it is not DeepLIFT.

    Args:
        multiply_by_inputs: Times the difference; otherwise the gradient alone.
    """
    found, values = gradients_at_inputs(problem, columns, sites)
    if not multiply_by_inputs:
        return found
    others = values_at(problem, baselines(problem, baseline), sites)
    return [gradient * (own - other) for gradient, own, other in zip(found, values, others, strict=True)]


@layer_attribution("layer_integrated_gradients", paper="arXiv:1703.01365")
def layer_integrated_gradients(
    problem: Problem,
    columns: slice,
    sites: Sequence[str],
    *,
    n_steps: int = 50,
    rule: Rule = "gausslegendre",
    multiply_by_inputs: bool = True,
    baseline: Baseline,
) -> list[Tensor]:
    """The mean gradient by a site's value on the way from the baseline's value, times the difference.

    The site's value alone is changed, the inputs stay. Sites that hold something else when another is changed need
    ways of their own, so each costs as many passes as one.

    Args:
        n_steps: Points between the two values.
        rule: Where they lie and how they are weighted.
        multiply_by_inputs: Times the difference; otherwise the mean gradient alone.
    """
    _check_shared(problem)
    starts, (places, weights) = baselines(problem, baseline), quadrature(rule, n_steps)
    if len(starts) > 1:
        raise CallerError("layer_integrated_gradients takes one baseline")
    begins, own = values_at(problem, starts, sites), values_at(problem, problem.inputs[None], sites)
    problem.expect(n_steps * problem.columns.n * len(sites))
    found = []
    for site, begin, end in zip(sites, begins, own, strict=True):
        total = _along(problem, columns, site, _line(begin, end, places), weights)
        found.append(total * (end - begin) if multiply_by_inputs else total)
    return found


def _line(begin: Tensor, end: Tensor, places: Tensor) -> Points:
    """Points between two values of a site, ``[row pos ...]``."""
    shaped = places.to(end.device).reshape(-1, *(1,) * end.ndim)
    return Points(len(places), lambda rows: begin + shaped[rows] * (end - begin))


def _along(problem: Problem, columns: slice, site: str, at: Points, weights: Tensor) -> Tensor:
    """The weighted sum of the gradients by a site's value, put there: ``[column pos ...]``."""
    total = None
    for rows in chunks(at.n, problem.rows_per_pass(grad=True)):
        leaf = at.at(rows).requires_grad_()
        scored = problem.scored(edits={site: put(leaf)}, n_rows=len(leaf), grad=True)
        for part in columnwise(problem, scored, (leaf,), rows, columns):
            weight = weights[rows].to(leaf)
            by = torch.einsum("r,cr...->c...", weight, part.by[0])
            if total is None:
                total = by.new_zeros(columns.stop - columns.start, *by.shape[1:])
            total[part.columns] += by
        # what is recorded goes before the next pass is
        del scored, part
    assert total is not None
    return total


@layer_attribution("layer_conductance", paper="arXiv:1805.12233")
def layer_conductance(
    problem: Problem, columns: slice, sites: Sequence[str], *, n_steps: int = 50, baseline: Baseline
) -> list[Tensor]:
    """How much of the target's change flows through sites on the way from the baseline to the inputs.

    The integral of the gradient by the site's value, times how that value moves, by the trapezoid rule; it adds up to
    the target's change at every site that all of it comes by.

    Args:
        n_steps: Steps of equal length on the way of the inputs.

    Source: Dhamdhere et al. 2018. Captum's goes by the left end of each step, between the nodes of a quadrature.
    """
    starts = _one(baselines(problem, baseline), "layer_conductance")
    at = straight(starts, problem.inputs, torch.linspace(0, 1, _steps(n_steps) + 1))
    return _on_the_way(problem, columns, sites, at, None)


@layer_attribution("internal_influence", paper="arXiv:1802.03788")
def internal_influence(
    problem: Problem,
    columns: slice,
    sites: Sequence[str],
    *,
    n_steps: int = 50,
    rule: Rule = "gausslegendre",
    baseline: Baseline,
) -> list[Tensor]:
    """The mean gradient by what sites hold as the inputs go from the baseline to their own.

    Args:
        n_steps: Points on the way of the inputs.
        rule: Where they lie and how they are weighted.

    Source: Leino et al. 2018.
    """
    starts, (places, weights) = _one(baselines(problem, baseline), "internal_influence"), quadrature(rule, n_steps)
    return _on_the_way(problem, columns, sites, straight(starts, problem.inputs, places), weights)


def _on_the_way(
    problem: Problem, columns: slice, sites: Sequence[str], at: Points, weights: Tensor | None
) -> list[Tensor]:
    """The sum of the gradients by sites at points of the inputs, ``[column pos ...]``.

    Times ``weights``, or, where there are none, times half of how far the value moves from the point before to the one
    behind: what the trapezoid rule makes of the integral over the value.
    """
    _check_shared(problem)
    problem.expect(at.n * problem.columns.n)
    totals: list[Tensor] = []
    for rows in chunks(at.n, problem.rows_per_pass(grad=True)):
        # the points before and behind are passed as well: their values say how far it is
        wide = rows if weights is not None else slice(max(rows.start - 1, 0), min(rows.stop + 1, at.n))
        scored = problem.scored(at.at(wide), reads=sites, grad=True)
        values = [scored.values[site] for site in sites]
        each = [_weights(value.detach().float(), rows, wide, at.n, weights) for value in values]
        for part in columnwise(problem, scored, values, wide, columns):
            products = [(by.float() * weight).sum(1) for by, weight in zip(part.by, each, strict=True)]
            totals = totals or [one.new_zeros(columns.stop - columns.start, *one.shape[1:]) for one in products]
            for total, product in zip(totals, products, strict=True):
                total[part.columns] += product
        del scored, values, part
    return totals


def _weights(values: Tensor, rows: slice, wide: slice, n: int, weights: Tensor | None) -> Tensor:
    """What the gradients at the points ``wide`` are multiplied by, ``[row pos ...]``: zero at those not of ``rows``."""
    if weights is not None:
        return weights[rows].to(values).reshape(-1, *(1,) * (values.ndim - 1))
    moves = values.diff(dim=0) / 2
    none = torch.zeros_like(values[:1])
    found = torch.cat([none, moves]) + torch.cat([moves, none])
    inner = torch.arange(wide.start, wide.stop)
    return found * ((inner >= rows.start) & (inner < rows.stop)).to(found).reshape(-1, *(1,) * (values.ndim - 1))


def _one(starts: Tensor, method: str) -> Tensor:
    if len(starts) > 1:
        raise CallerError(f"{method} takes one baseline")
    return starts


def _steps(n_steps: int) -> int:
    if not 1 <= n_steps <= MOST_STEPS:
        raise CallerError(f"n_steps is {n_steps}, expected 1 to {MOST_STEPS}")
    return n_steps


def _check_shared(problem: Problem) -> None:
    if problem.request.contrast_shared:
        raise CallerError("contrast_shared: a foil's context has activations of its own; leave it out here")
