"""Runs that were sent: waiting for them, watching them, ending them."""

from collections.abc import Callable, Generator
from typing import final

from interpd.graph.run import Event
from interpd_client.connection import Connection
from interpd_client.following import Follower, Job
from interpd_client.result import Result
from interpd_client.waiting import finished


@final
class RunHandle:
    """A run that was sent. ``result()`` waits for it; ``id`` lets ``Client.attach`` find it again.

    One thread at a time follows a run; ``cancel`` may be called from any.
    """

    def __init__(self, connection: Connection, job: Job) -> None:
        self._run = Follower(connection, job)

    @property
    def id(self) -> str:
        """The name of the run."""
        return self._run.id

    def __repr__(self) -> str:
        return repr(self._run)

    def wait_accepted(self) -> None:
        """Returns once the service has taken the run in. Raises what refused it."""
        finished(self._run.wait_accepted())

    def events(self) -> Generator[Event]:
        """What happens to the run, as it happens; the last event is ``Done``. Raises what ends the run otherwise.

        Leaving the loop early ends a run that is not kept.
        """
        try:
            while (event := finished(self._run.next())) is not None:
                yield event
        finally:
            finished(self._run.leave())

    def result(self, on_event: Callable[[Event], object] | None = None) -> Result:
        """The result, once the run is done. Raises what ended it otherwise.

        ``on_event`` is called with what happens meanwhile: progress, partial results, tokens.
        """
        return finished(self._run.result(on_event))

    def cancel(self) -> None:
        """Ends the run; nothing happens when it has ended."""
        finished(self._run.cancel())
