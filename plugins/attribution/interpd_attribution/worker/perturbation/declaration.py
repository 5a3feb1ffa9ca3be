"""``@perturbation``: a function of a ``Problem`` that gives a number for each feature and column becomes a method.

    @perturbation("feature_ablation")
    def feature_ablation(problem: Problem, *, baseline: Baseline) -> Tensor:
        '''What the target loses without a feature.'''

The function gives ``[feature column]``, or a mapping with that under ``scores`` and whatever else its result class has
a field for. Added around it are the constants of ``Request``, step scores, and NaN where a feature comes behind all of
a column's tokens.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import MethodContext
from interpd_attribution.worker.constants import declared
from interpd_attribution.worker.declaration import Scores, as_if, with_own
from interpd_attribution.worker.problem import Problem, Value
from interpd_attribution.worker.request import Request

Explain = TypeVar("Explain", bound=Callable[..., Any])

BY_FEATURE = ("scores", "standard_errors")
"""Fields with a number for each feature and column."""


@dataclasses.dataclass(frozen=True)
class SampledScores(Scores):
    """Scores with how far off they may be; NaN where the feature comes behind all of the column's tokens."""

    standard_errors: Float32[Tensor, "feature step"]
    """Of the draws: the score is within two of them of what more samples would give, nineteen times in twenty. NaN
    where too few were drawn to tell."""


def perturbation(
    id: str, *, returns: type = Scores, of_values: bool = True, version: int = 1, paper: str | None = None
) -> Callable[[Explain], Explain]:
    """A decorator that declares a function of a ``Problem`` as the attribution method ``attribution.<id>``.

    Args:
        id: Of the method: ``occlusion``.
        returns: A frozen dataclass of tensors with at least the fields of ``Scores``.
        of_values: Whether a value of the graph can be attributed, instead of predictions.
        version: Raised whenever its numbers change.
        paper: Where it comes from.
    """

    def declare(explain: Explain) -> Explain:
        def run(ctx: MethodContext, value: Value | None = None, *, request: Request, **own: Any) -> Any:
            problem = Problem(ctx, request, value)
            found = explain(problem, **own)
            told = found if isinstance(found, Mapping) else {"scores": found}
            return returns(**_completed(problem, told))

        parameters = inspect.signature(explain, eval_str=True).parameters.values()
        own = [one for one in parameters if one.kind is one.KEYWORD_ONLY]
        signature = [one for one in with_own(run, own) if of_values or one.name != "value"]
        name = f"attribution.{id}"
        explain.methods = (  # type: ignore[attr-defined]
            declared(as_if(run, explain), signature, returns, name=name, version=version, paper=paper),
        )
        return explain

    return declare


def _completed(problem: Problem, told: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the function gave in float32, and what every result has."""
    device = problem.session.device
    found = {name: value.to(device, torch.float32) for name, value in told.items()}
    unseen = ~problem.sees().to(device)
    for name in BY_FEATURE:
        if name in found:
            found[name] = found[name].masked_fill(unseen, torch.nan)
    found.setdefault("deltas", found["scores"].new_zeros(0, problem.columns.n))
    return {**found, "step_scores": problem.told().float()}
