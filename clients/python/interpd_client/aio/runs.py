"""Runs that were sent, for programs with an event loop."""

from collections.abc import AsyncGenerator, Callable
from typing import final

from interpd.graph.run import Event
from interpd_client.connection import Connection
from interpd_client.following import Follower, Job
from interpd_client.result import Result


@final
class RunHandle:
    """A run that was sent. ``await result()`` waits for it; ``id`` lets ``Client.attach`` find it again.

    One task at a time follows a run; ``cancel`` may be called from any. Cancelling the task that waits for a run ends
    the run too, unless it was submitted with ``keep_s``.
    """

    def __init__(self, connection: Connection, job: Job) -> None:
        self._run = Follower(connection, job)

    @property
    def id(self) -> str:
        """The name of the run."""
        return self._run.id

    def __repr__(self) -> str:
        return repr(self._run)

    async def wait_accepted(self) -> None:
        """Returns once the service has taken the run in. Raises what refused it."""
        await self._run.wait_accepted()

    async def events(self) -> AsyncGenerator[Event]:
        """What happens to the run, as it happens; the last event is ``Done``. Raises what ends the run otherwise.

        Leaving the loop early and closing the generator (``contextlib.aclosing``) ends a run that is not kept.
        """
        try:
            while (event := await self._run.next()) is not None:
                yield event
        finally:
            await self._run.leave()

    async def result(self, on_event: Callable[[Event], object] | None = None) -> Result:
        """The result, once the run is done. Raises what ended it otherwise.

        ``on_event`` is called with what happens meanwhile: progress, partial results, tokens.
        """
        return await self._run.result(on_event)

    async def cancel(self) -> None:
        """Ends the run; nothing happens when it has ended."""
        await self._run.cancel()

    @property
    def _result_now(self) -> Result | None:
        return self._run.result_now
