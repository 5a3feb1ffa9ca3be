"""``attribution.evaluate``: metrics of the scores that attribution methods gave, in the same graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_attribution.worker.baselines import baselines
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.evaluation.metrics import METRICS, Case, Draws, Metric, Settings, check, drawn
from interpd_attribution.worker.evaluation.rows import Rows
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Problem, Value
from interpd_attribution.worker.request import Baseline, Request

CASES = 128
"""Columns of methods whose masks are held at once."""

REFERENCES = ("random", "leave_one_out")


@dataclass(frozen=True)
class Evaluation:
    """A number for each metric, method and column; NaN where a metric is not defined."""

    values: Float32[Tensor, "_ _ step"]
    """``[metric method step]``: metrics as they were asked for, methods as their ports, then the references."""
    whole: Float32[Tensor, " step"]
    """The target's scores of the input."""
    empty: Float32[Tensor, " step"]
    """Those of the baseline."""
    step_scores: Float32[Tensor, "score token"]


@grouped_method("attribution.evaluate")
def evaluate(
    ctx: MethodContext,
    scores: tuple[Float32[Tensor, "feature step"], ...],
    value: Value | None = None,
    *,
    metrics: tuple[str, ...] = ("comprehensiveness", "sufficiency", "deletion", "insertion", "tau_loo"),
    references: tuple[str, ...] = (),
    settings: Settings,
    request: Request,
    baseline: Baseline,
) -> Evaluation:
    """How well scores say what removing features does to the target: metrics for each method and column.

    Removed features have the vectors of the baseline. Constants that say what is attributed are to be those of the
    methods. Rows of changed inputs are passed once for all metrics, methods and columns.

    Args:
        metrics: Which; a table in the README says what each is.
        references: Attributions to compare with: ``random`` numbers, and the drops by ``leave_one_out``.
    """
    check(settings, metrics)
    problem = Problem(ctx, request, value)
    work = _Work(problem, Rows(problem, baselines(problem, baseline)), settings, baseline.seed)
    given = [work.checked(table, number) for number, table in enumerate(scores)]
    given += [work.reference(name) for name in references]
    if not given:
        raise CallerError("there are no scores: give those of a method, or references")
    ends = work.ends()
    return Evaluation(work.values(metrics, given).float(), *ends.float(), problem.told().float())


class _Work:
    def __init__(self, problem: Problem, rows: Rows, settings: Settings, seed: int) -> None:
        self._problem, self._rows, self._settings, self._seed = problem, rows, settings, seed
        self._sees = problem.sees() & (problem.features.members().sum(-1) > 0)[:, None]
        self._draws: Draws = drawn(settings, problem.features.n, seed)

    def checked(self, table: Tensor, number: int) -> Tensor:
        """A port's scores as float64, zero where nothing is seen. Raises ``CallerError``."""
        table = table.detach().double().cpu()
        if table.shape != self._sees.shape:
            raise CallerError(
                f"scores {number} are {list(table.shape)}, but the constants say {list(self._sees.shape)} (feature, "
                "step): give those of the method that made them"
            )
        if not table[self._sees].isfinite().all():
            raise CallerError(f"scores {number} are not finite where a feature may explain a column")
        return table.where(self._sees, 0.0)

    def reference(self, name: str) -> Tensor:
        """Scores to compare with, ``[feature column]``."""
        if name == "random":
            generator = torch.Generator().manual_seed(self._seed + 1)
            found = torch.randn(self._sees.shape, generator=generator, dtype=torch.float64)
        elif name == "leave_one_out":
            n_features = len(self._sees)
            masks = torch.cat([torch.zeros(1, n_features, dtype=torch.bool), torch.eye(n_features, dtype=torch.bool)])
            (scores,) = self._rows.scores([masks])
            found = scores[0] - scores[1:]
        else:
            raise CallerError(f"references: there is no {name!r}; there are {', '.join(REFERENCES)}")
        return found.where(self._sees, 0.0)

    def ends(self) -> Tensor:
        """The target's scores of the input and of the baseline, ``[2 column]``."""
        masks = torch.tensor([[False], [True]]).expand(2, len(self._sees))
        return self._rows.scores([masks.contiguous()])[0].to(self._problem.session.device)

    def values(self, metrics: Sequence[str], given: Sequence[Tensor]) -> Tensor:
        """``[metric method column]``."""
        n_columns = self._problem.columns.n
        places, cases = [], []
        for method, table in enumerate(given):
            for column in range(n_columns):
                if not self._sees[:, column].any():
                    continue
                cases.append(Case(table[:, column], self._sees[:, column], self._settings, self._draws))
                places.append((method, column))
        table = torch.full((len(metrics), len(given), n_columns), torch.nan, dtype=torch.float64)
        for metric, name in enumerate(metrics):
            for part in chunks(len(cases), CASES):
                found = self._taken(METRICS[name], cases[part], [column for _, column in places[part]])
                for (method, column), number in zip(places[part], found, strict=True):
                    table[metric, method, column] = number
        return table.to(self._problem.session.device)

    def _taken(self, metric: Callable[[Case], Metric], cases: Sequence[Case], columns: Sequence[int]) -> list[Tensor]:
        """A metric of some cases."""
        under_way = [metric(case) for case in cases]
        masks = [self._known(next(one), case) for one, case in zip(under_way, cases, strict=True)]
        found = self._rows.scores(masks)
        self._problem.ctx.raise_if_cancelled()
        return [_sent(one, scores[:, column]) for one, scores, column in zip(under_way, found, columns, strict=True)]

    def _known(self, masks: Tensor, case: Case) -> Tensor:
        """Masks, less what comes behind the column where the graph's writes might carry it forward."""
        return masks & case.sees if self._problem.session.written else masks


def _sent(metric: Metric, scores: Tensor) -> Tensor:
    """What a metric returns when it gets its scores."""
    try:
        metric.send(scores)
    except StopIteration as done:
        return done.value
    raise AssertionError("a metric asks once")
