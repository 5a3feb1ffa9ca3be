"""What the front counts, and the snapshot made of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from interpd.graph.run import Cost, Done
from interpd.scheduler.book import RunBook
from interpd.scheduler.interface import ModelStatistics, Statistics
from interpd.scheduler.queue import RunQueue
from interpd.scheduler.runs import Run, RunState
from interpd.worker.link import ModelStatus, Workers


@dataclass(slots=True)
class _ModelCounts:
    """Sums over the finished runs of one model.

    Each of the k runs that shared a pass says k, so a pass is counted as k times 1/k.
    """

    n_passes: float = 0.0
    n_shared_passes: float = 0.0
    n_rows: int = 0
    n_tokens: int = 0

    def add(self, cost: Cost) -> None:
        self.n_tokens += cost.n_tokens
        self.n_rows += len(cost.shared_with)
        self.n_passes += sum(1 / n for n in cost.shared_with)
        self.n_shared_passes += sum(1 / n for n in cost.shared_with if n > 1)


@dataclass(slots=True)
class Counters:
    """Counts since the start of the daemon."""

    n_accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    _models: dict[str, _ModelCounts] = field(default_factory=dict)

    def note_end(self, run: Run) -> None:
        """Takes in a run that has just ended."""
        self.ended[run.outcome] += 1
        if isinstance(run.log.ended, Done):
            self._models.setdefault(run.request.model, _ModelCounts()).add(run.log.ended.cost)

    def snapshot(
        self, *, uptime_s: float, draining: bool, book: RunBook, queues: Mapping[str, RunQueue], workers: Workers
    ) -> Statistics:
        """The counters now, with the state of book, queues and workers."""
        running = Counter(run.request.model for run in book.open_runs() if run.state is RunState.RUNNING)
        kept = list(book.kept_runs())
        return Statistics(
            uptime_s=uptime_s,
            draining=draining,
            n_accepted=self.n_accepted,
            n_refused=dict(self.refused),
            n_ended=dict(self.ended),
            n_kept=len(kept),
            kept_bytes=sum(run.log.n_bytes for run in kept),
            models=tuple(self._model(status, running, queues, workers) for status in workers.models()),
            owners=dict(_owners(book.open_runs())),
        )

    def _model(
        self, status: ModelStatus, running: Counter[str], queues: Mapping[str, RunQueue], workers: Workers
    ) -> ModelStatistics:
        counts = self._models.get(status.name, _ModelCounts())
        engines = [link.statistics() for link in workers.links(status.name)]
        return ModelStatistics(
            name=status.name,
            n_queued=len(queues.get(status.name, ())),
            n_running=running[status.name],
            n_restarts=status.n_restarts,
            n_passes=round(counts.n_passes),
            n_shared_passes=round(counts.n_shared_passes),
            rows_per_pass=counts.n_rows / counts.n_passes if counts.n_passes else 0.0,
            n_tokens=counts.n_tokens,
            busy_s=sum(engine.busy_s for engine in engines),
            resident_bytes=sum(engine.resident_bytes for engine in engines),
        )


def _owners(runs: Iterable[Run]) -> Counter[str]:
    return Counter(run.request.owner for run in runs)
