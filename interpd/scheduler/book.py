"""All runs that can still be named: under way, or ended and kept for readers who come back."""

from collections.abc import Iterator

from interpd.errors import RunNotFound
from interpd.scheduler.runs import Run, RunState


class RunBook:
    """Runs by id, with a bound on the bytes of ended ones.

    Args:
        kept_bytes: Of the events of ended runs that nobody reads now.
    """

    def __init__(self, kept_bytes: int) -> None:
        self._limit_bytes = kept_bytes
        self._runs: dict[str, Run] = {}

    def add(self, run: Run) -> None:
        """Makes a run known."""
        self._runs[run.run_id] = run

    def get(self, run_id: str) -> Run:
        """The run. Raises ``RunNotFound``."""
        if run_id not in self._runs:
            raise RunNotFound(f"no run {run_id!r}; it never was, or its events are no longer kept", run=run_id)
        return self._runs[run_id]

    def find(self, run_id: str) -> Run | None:
        """The run, if it is known."""
        return self._runs.get(run_id)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._runs

    def open_runs(self) -> Iterator[Run]:
        """Runs that have not ended."""
        return (run for run in list(self._runs.values()) if run.state is not RunState.ENDED)

    def kept_runs(self) -> Iterator[Run]:
        """Runs that have ended."""
        return (run for run in list(self._runs.values()) if run.state is RunState.ENDED)

    @property
    def held_bytes(self) -> int:
        """Of results that runs will bring, or that their readers have not read."""
        return sum(run.held_bytes for run in self._runs.values())

    def sweep(self, now: float) -> None:
        """Forgets ended runs that nobody reads: those past their time, then the oldest beyond the limit."""
        unread = [run for run in self.kept_runs() if run.unread_since is not None]
        for run in unread:
            if now >= max(run.ended_at, run.unread_since or 0.0) + run.keep_s:
                del self._runs[run.run_id]
        kept = sorted((run for run in unread if run.run_id in self._runs), key=lambda run: run.ended_at)
        n_bytes = sum(run.log.n_bytes for run in kept)
        for run in kept:
            if n_bytes <= self._limit_bytes:
                break
            n_bytes -= run.log.n_bytes
            del self._runs[run.run_id]
