"""Methods that take the gradient at the inputs as they are."""

import torch
from torch import Tensor

from interpd_attribution.worker.baselines import baselines
from interpd_attribution.worker.declaration import Found, attribution
from interpd_attribution.worker.gradient.path import with_delta
from interpd_attribution.worker.gradient.vjp import gradients
from interpd_attribution.worker.problem import Problem, points
from interpd_attribution.worker.request import Baseline


def gradient(problem: Problem, columns: slice) -> Tensor:
    """The gradient of each column's target at the inputs, ``[column position d_model]``."""
    problem.expect(problem.columns.n)
    parts = [part.by[0][:, 0] for part in gradients(problem, points(problem.inputs[None]), columns)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@attribution("saliency", paper="arXiv:1312.6034")
def saliency(problem: Problem, columns: slice, *, absolute: bool = True) -> Tensor:
    """The gradient of the target by each input vector.

    Args:
        absolute: Without its sign, dimension by dimension.

    Source: Simonyan et al. 2013.
    """
    found = gradient(problem, columns)
    return found.abs() if absolute else found


@attribution("input_x_gradient", paper="arXiv:1605.01713")
def input_x_gradient(problem: Problem, columns: slice) -> Tensor:
    """The gradient of the target by each input vector, times the vector.

    Source: Shrikumar et al. 2016.
    """
    return gradient(problem, columns) * problem.inputs


@attribution("gradient_x_difference")
def gradient_x_difference(
    problem: Problem, columns: slice, *, convergence_delta: bool = False, baseline: Baseline
) -> Tensor | Found:
    """The gradient of the target by each input vector, times its difference from the baseline.

    One step of integrated gradients, at the input. Inseq's ``deeplift`` computes this on language models, which have no
    module that Captum's rescale rule knows; it is not DeepLIFT, and is not called so here. The mean over baselines.

    Args:
        convergence_delta: Tell by how much the sum misses the target's change.
    """
    starts = baselines(problem, baseline)
    found = gradient(problem, columns) * (problem.inputs - starts).mean(0)
    return with_delta(problem, columns, starts, found) if convergence_delta else found
