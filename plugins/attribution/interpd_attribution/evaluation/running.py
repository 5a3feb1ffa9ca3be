"""Methods on inputs, measured: one request for each input, and one for each change under which methods run again."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.client import Attribute
from interpd_attribution.evaluation.asking import DEFAULT_METRICS, REFERENCES, Job, Methods, job_of
from interpd_attribution.evaluation.changes import stages, with_noisy_inputs, with_redrawn_weights
from interpd_attribution.evaluation.likeness import rank_correlation, relative_change
from interpd_attribution.evaluation.table import Evaluation
from interpd_attribution.flights import Flights
from interpd_attribution.requests import Call, call_of
from interpd_attribution.results import axes_of
from interpd_attribution.sequences import Exact, listed, running
from interpd_attribution.spelling import Speller
from interpd_attribution.step_functions import step_functions
from interpd_attribution.under import opened
from interpd_client import Model, PromptTrace, RunHandle

Change = Callable[[PromptTrace], None]


def evaluate(
    model: Model,
    inputs: Any,
    generated: Any = None,
    *,
    methods: Methods,
    metrics: Sequence[str] = DEFAULT_METRICS,
    references: Sequence[str] = REFERENCES,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Evaluation:
    """How methods do on inputs, metric by metric.

    Args:
        model: The model.
        inputs: As for ``model.attribute``.
        generated: As for ``model.attribute``.
        methods: Ids, or pairs of an id and the method's own options; a mapping gives them names.
        metrics: Names of ``METRICS``.
        references: Attributions to compare with: random numbers, and the changes by leaving out each feature.
        on_progress: Called with the requests that are done, and their number.
        options: Those of ``model.attribute`` for all methods (``target``, ``baseline``, ``features``, ...), constants
            of ``attribution.evaluate`` (``bins``, ``n_samples``, ``order``, ...), and those of ``Repeating``.

    Raises:
        CallerError: What cannot be, before anything is sent.
    """
    job = job_of(model.manifest, methods, metrics, references, options)
    changes = _changes(model, job)
    items = [
        _Item(model, exact, job) for exact in Attribute(model).sequences(listed(inputs, generated), job.evaluation)
    ]
    if not items:
        raise CallerError("inputs is empty: there is nothing to evaluate on")
    starts = (start for number, item in enumerate(items) for start in item.starts(changes, number))
    n_each, found = 1 + len(changes), []
    for done, result in enumerate(Flights(starts), 1):
        found.append(result)
        if on_progress is not None:
            on_progress(done, n_each * len(items))
    values = [_measured(job, changes, found[first : first + n_each]) for first in range(0, len(found), n_each)]
    return Evaluation(job.names, job.metrics, np.stack(values, -1), _info(model, job, items))


@dataclass(frozen=True)
class _Changes:
    """What methods run again under."""

    noisy: tuple[Change, ...] = ()
    redrawn: tuple[Change, ...] = ()

    def __len__(self) -> int:
        return len(self.noisy) + len(self.redrawn)


def _changes(model: Model, job: Job) -> _Changes:
    how, noisy, redrawn = job.repeating, (), ()
    if "max_sensitivity" in job.metrics:
        seeds = range(how.seed, how.seed + how.n_noises)
        noisy = tuple(with_noisy_inputs(model.manifest, how.radius, seed) for seed in seeds)
    if "randomization" in job.metrics:
        parts = stages(model.manifest)
        chosen = [parts[: n + 1] if how.is_cascading else parts[n : n + 1] for n in range(len(parts))]
        redrawn = tuple(with_redrawn_weights(model.manifest, some, how.seed) for some in chosen)
    return _Changes(noisy, redrawn)


class _Item:
    """One input."""

    def __init__(self, model: Model, exact: Exact, job: Job) -> None:
        self._model, self.exact, self._job = model, exact, job
        known, speller = step_functions(model.manifest), Speller(model, exact)
        self._calls = {name: call_of(job.schemas[name], known, speller, asked) for name, asked in job.methods.items()}
        self._evaluation = call_of(job.schema, known, speller, job.evaluation)

    def starts(self, changes: _Changes, number: int) -> Iterator[Callable[[], RunHandle]]:
        """Requests: of the scores and their metrics, then of the scores under each change."""
        t = self._opened()
        scores = self._scores(t)
        saved: dict[str, Any] = {"scores": scores}
        if self._job.of_workers:
            saved["values"] = self._metrics(t, tuple(scores.values()), number)
        t.save(**saved)
        yield t.submit
        for change in (*changes.noisy, *changes.redrawn):
            t = self._opened()
            change(t)
            t.save(scores=self._scores(t))
            yield t.submit

    def _opened(self) -> Any:
        asked = self._job.evaluation
        return opened(self._model, self.exact, asked.under, running(asked))

    def _scores(self, t: PromptTrace) -> dict[str, Any]:
        """By name, ``[feature step]``: the mean over layers and heads where there are any."""
        return {name: _averaged(call, call.recorded(t).scores) for name, call in self._calls.items()}

    def _metrics(self, t: PromptTrace, scores: tuple[Any, ...], number: int) -> Any:
        call, target = self._evaluation, self._job.evaluation.target
        ports = (scores,) if isinstance(target, str) else (scores, target(t) if callable(target) else target)
        # other inputs, other random numbers
        seed = int(call.constants.get("seed", 0)) + number
        asked = {"metrics": self._job.of_workers, "references": self._job.references, "seed": seed}
        return t.op(call.schema.name, *ports, **{**call.constants, **asked}).values


def _averaged(call: Call, scores: Any) -> Any:
    axes = axes_of(call.schema)["scores"]
    dims = [number for number, axis in enumerate(axes) if axis not in ("feature", "step")]
    return scores.mean(dims) if dims else scores


def _measured(job: Job, changes: _Changes, results: Sequence[Any]) -> np.ndarray:
    """``[method metric]`` of one input."""
    table = np.full((len(job.names), len(job.metrics)), np.nan)
    first, *changed = results
    noisy, redrawn = changed[: len(changes.noisy)], changed[len(changes.noisy) :]
    if job.of_workers:
        columns = [job.metrics.index(name) for name in job.of_workers]
        table[:, columns] = mean_of_known(np.asarray(first["values"]), -1).T
    for row, name in enumerate(job.methods):
        scores = first["scores"][name]
        if noisy:
            most = np.max([relative_change(scores, one["scores"][name]) for one in noisy], 0)
            table[row, job.metrics.index("max_sensitivity")] = mean_of_known(most)
        if redrawn:
            alike = np.stack([rank_correlation(scores, one["scores"][name]) for one in redrawn])
            table[row, job.metrics.index("randomization")] = mean_of_known(alike)
    return table


def mean_of_known(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The mean of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    counts = known.sum(axis)
    return np.where(counts > 0, np.where(known, values, 0.0).sum(axis) / np.maximum(counts, 1), np.nan)


def _info(model: Model, job: Job, items: Sequence[_Item]) -> Mapping[str, Any]:
    asked = job.evaluation
    return {
        "model_name": model.info.source,
        "target": asked.target if isinstance(asked.target, str) else "value of the graph",
        "baseline": asked.baseline if isinstance(asked.baseline, str | None) else "the caller's",
        "methods": {name: _said(one) for name, one in job.methods.items()},
        "constants": _said(asked)["constants"],
        "repeating": dataclasses.asdict(job.repeating),
        "n_tokens": [item.exact.n_positions for item in items],
        "engine": model.manifest.engine,
    }


def _said(asked: Any) -> dict[str, Any]:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asked.constants.items()}
    return {"method": asked.method, "constants": plain, "reduce": asked.reduce}
