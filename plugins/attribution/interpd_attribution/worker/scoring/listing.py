"""The step functions that workers have, as a method of graphs: what it says of itself lists them.

It also tells which methods are other packages', and which entry points of theirs are not used.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import MethodContext
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Places, Request
from interpd_attribution.worker.scoring.registry import StepFunction, offered

NOTES = {"contrastive": "needs a foil", "differentiable": "no gradient"}


@dataclasses.dataclass(frozen=True)
class StepScores:
    """A number for each step function and attributed token."""

    step_scores: Float32[Tensor, "score token"]


def listing(origins: Mapping[str, str], problems: Sequence[str]) -> Any:
    """The method ``attribution.step_scores``, with the step functions of this worker in its documentation.

    Args:
        origins: Ids of other packages' methods, and the distribution that each comes from.
        problems: Of entry points of methods that are not used; those of step functions are added.
    """

    def step_scores(ctx: MethodContext, *, places: Places) -> StepScores:
        # without a step function there is no pass, and so no turn of others
        ctx.raise_if_cancelled()
        given = {field.name: getattr(places, field.name) for field in dataclasses.fields(places)}
        return StepScores(Problem(ctx, Request(**given)).told())

    known, unused = offered()
    lines = [_line(one) for one in known.values()]
    lines += [f"= {id_}: {origin}" for id_, origin in origins.items()]
    lines += [f"! {problem}" for problem in (*problems, *unused)]
    step_scores.__doc__ = "\n".join(["Step functions at the attributed tokens.", "", *lines])
    step_scores.__module__ = __name__
    return grouped_method("attribution.step_scores")(step_scores)


def _line(one: StepFunction) -> str:
    """``- name(option: kind = default) [note,note]: summary``; a client reads it."""
    options = ", ".join(map(str, one.options.values()))
    notes = [NOTES["contrastive"]] * one.contrastive + [NOTES["differentiable"]] * (not one.differentiable)
    notes += [f"of {one.origin}"] * bool(one.origin)
    marks = f" [{','.join(notes)}]" if notes else ""
    summary = (inspect.getdoc(one.fn) or "").split("\n\n")[0].replace("\n", " ")
    return f"- {one.name}({options}){marks}: {summary}"
