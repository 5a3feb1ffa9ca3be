"""No attribution: the step scores alone."""

import torch

from interpd.sdk import MethodContext
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.declaration import Scores
from interpd_attribution.worker.internals.maps import problem_of
from interpd_attribution.worker.request import Places


@grouped_method("attribution.dummy")
def dummy(ctx: MethodContext, *, places: Places) -> Scores:
    """Step scores, and no attribution: all scores are NaN. It costs what the step scores cost."""
    problem = problem_of(ctx, places)
    ctx.raise_if_cancelled()
    scores = torch.full((problem.features.n, problem.columns.n), torch.nan, device=ctx.session.device)
    return Scores(scores, problem.told(), scores.new_zeros(0, problem.columns.n))
