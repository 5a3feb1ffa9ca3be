"""One reader's hold on a run."""

from collections.abc import AsyncIterator
from typing import Protocol

from interpd.graph.run import Event
from interpd.scheduler.runs import Run


class Holder(Protocol):
    """Who counts the readers."""

    def hold(self, run: Run) -> None:
        """Counts one in."""

    def release(self, run: Run) -> None:
        """Counts one out."""

    def stop(self, run: Run) -> None:
        """Ends the run, if it has not ended."""


class Hold:
    """Implements ``scheduler.interface.RunHandle``."""

    def __init__(self, holder: Holder, run: Run) -> None:
        self._holder, self._run = holder, run
        self._is_released = False
        holder.hold(run)

    @property
    def run_id(self) -> str:
        """The run."""
        return self._run.run_id

    def events(self, start: int = 0) -> AsyncIterator[Event]:
        """The run's events from number ``start`` on, ending with its terminal event."""
        return self._run.read(start)

    def has(self, number: int) -> bool:
        """Whether the event of this number has happened."""
        return self._run.log.has(number)

    def cancel(self) -> None:
        """Ends the run with ``Cancelled``."""
        self._holder.stop(self._run)

    def release(self) -> None:
        """Says that this reader is gone."""
        if not self._is_released:
            self._is_released = True
            self._holder.release(self._run)
