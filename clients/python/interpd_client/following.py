"""Following a run: sending its request, staying with it through lost connections, and collecting what comes back."""

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, final

from interpd.errors import BlobNotFound, DataLoss, DeadlineExceeded, InterpdError, RunNotFound, Unavailable
from interpd.graph.run import TERMINAL, Done, Event, Failed, Progress, Queued, RunRequest, Started, TokenGenerated
from interpd.graph.run import Result as ResultEvent
from interpd.graph.types import TensorData
from interpd_client.blame import placed_texts, point_at
from interpd_client.connection import Connection, may_retry, remaining_s
from interpd_client.places import Places
from interpd_client.progress import ProgressLine
from interpd_client.result import Collector, Result

CANCEL_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """A request, and what the client needs beside it to send it and to read the answer."""

    request: RunRequest
    places: Places = field(default_factory=Places)
    """The user's lines behind it."""
    blobs: Mapping[str, TensorData] = field(default_factory=dict)
    saved: Mapping[str, object] | None = None
    """What was saved, with its structure; ``None``: outputs come back under their flat names."""
    on_token: Callable[[TokenGenerated], None] | None = None
    progress: bool | None = None
    resume_from: int | None = None
    """For a run that goes on already: the number of its first event wanted."""
    is_detached: bool = False
    """Whether the run shall go on when this program stops waiting for it."""


@final
class Follower:
    """One reader of one run; the run is sent by its first wish to read. The handles of runs are its faces."""

    def __init__(self, connection: Connection, job: Job) -> None:
        self._connection = connection
        self._job = job
        self.id = job.request.run_id
        """The name of the run; it changes when a run that was lost is sent again."""
        self._number = job.resume_from
        self._stream: Any = None
        self._reader: Any = None
        self._first: Event | None = None
        self._began = self._is_over = self._has_resent = False
        self._stage = "waiting for an answer"
        self._started_s = 0.0
        self._n_tries_left = connection.n_retries
        self._error: InterpdError | None = None
        self._result: Result | None = None

    def __repr__(self) -> str:
        state = "finished" if self._result is not None else "followed" if self._began else "sent"
        return f"<run {self.id} on {self._job.request.model or 'an unnamed model'}: {state}>"

    @property
    def result_now(self) -> Result | None:
        """The result, where it is there already. Raises what ended the run otherwise."""
        if self._error is not None:
            raise self._error
        return self._result

    async def wait_accepted(self) -> None:
        """Returns once the service has taken the run in. Raises what refused it."""
        if self._first is None:
            self._first = await self.next()

    async def next(self) -> Event | None:
        """What happens to the run next; ``None`` once it is over. Raises what ends the run otherwise."""
        if self._first is not None:
            event, self._first = self._first, None
            return event
        if self._is_over:
            return None
        try:
            event = await self._next()
        except InterpdError as error:
            self._is_over = True
            self._error = point_at(error, self._job.request.graph, self._job.places)
            raise self._error from None
        self._is_over = isinstance(event, TERMINAL)
        is_done = isinstance(event, Done)
        return replace(event, warnings=placed_texts(event.warnings, self._job.places)) if is_done else event

    async def result(self, on_event: Callable[[Event], object] | None = None) -> Result:
        """The result, once the run is done; ``on_event`` is called with each event. Raises what ended it otherwise."""
        if (known := self.result_now) is not None:
            return known
        collector, last = Collector(self._job.saved), None
        try:
            with ProgressLine(self._wants_progress) as line:
                while (event := await self.next()) is not None:
                    line.show(last := event)
                    collector.feed(event)
                    if on_event is not None:
                        on_event(event)
                    if isinstance(event, TokenGenerated) and self._job.on_token is not None:
                        self._job.on_token(event)
        finally:
            await self.leave()
        if not isinstance(last, Done):
            raise RuntimeError("the events of this run were read elsewhere, or it was left before its end")
        self._result = collector.result(self.id)
        return self._result

    async def cancel(self) -> None:
        """Ends the run; nothing happens when it has ended."""
        # unknown there: it ended so long ago that it is not kept any more
        with suppress(RunNotFound):
            await self._connection.waits.call(self._connection.transport.cancel, self.id, CANCEL_TIMEOUT_S)

    async def leave(self) -> None:
        """Stops reading, which ends a run that is not kept. Idempotent."""
        is_left_behind = self._stream is not None and self._is_kept and not self._is_over
        self._hang_up()
        self._is_over = True
        # without keep_s the end of the stream is enough
        if is_left_behind and not self._job.is_detached:
            await self._cancel_quietly()

    async def _next(self) -> Event:
        self._started_s = self._started_s or time.monotonic()
        while True:
            try:
                return await self._next_of_stream()
            except DeadlineExceeded as error:
                raise self._late(error, time.monotonic() - self._started_s) from None
            except Unavailable as error:
                await self._prepare_next_try(error)
            except BlobNotFound:
                if self._has_resent or not self._job.blobs:
                    raise
                self._has_resent = True
                self._connection.forget(self._job.request.model, self._job.blobs)
                self._start_over()

    async def _next_of_stream(self) -> Event:
        waits, event = self._connection.waits, None
        try:
            if self._stream is None:
                self._stream = await self._open()
                self._reader = waits.reader(self._stream)
            event = await waits.next(self._reader)
            if event is None:
                raise DataLoss(f"the stream of run {self.id!r} ended before the run did")
            self._began = True
            self._stage = _stage(event) or self._stage
            self._number = self._stream.next_number
            if isinstance(event, Failed):
                raise event.error
        except waits.interrupts:
            self._is_over = True
            self._hang_up()
            if not self._job.is_detached:
                await self._cancel_quietly()
            raise
        finally:
            if event is None or isinstance(event, TERMINAL):
                self._hang_up()
        return event

    async def _open(self) -> Any:
        connection, request = self._connection, self._job.request
        if self._number is not None:
            left_s = remaining_s(request.deadline_s)
            return await connection.waits.call(connection.transport.attach, self.id, self._number, left_s)
        await connection.upload(request.model, self._job.blobs)
        return await connection.waits.call(connection.transport.run, replace(request, run_id=self.id))

    def _hang_up(self) -> None:
        stream, self._stream, self._reader = self._stream, None, None
        if stream is not None:
            stream.close()

    async def _prepare_next_try(self, error: Unavailable) -> None:
        """Decides whether to attach again, to send the run again, or to give up."""
        if self._n_tries_left <= 0:
            raise error
        self._n_tries_left -= 1
        lost_connection = not may_retry(error)
        if lost_connection and not (self._began and self._is_kept):
            raise error
        if not lost_connection and (self._job.resume_from is not None or self._has_told):
            raise error
        await self._connection.wait(error, self._job.request.deadline_s)
        if not lost_connection:
            self._start_over()

    def _start_over(self) -> None:
        self.id, self._number = uuid.uuid4().hex, None

    def _late(self, error: DeadlineExceeded, waited_s: float) -> DeadlineExceeded:
        """The error with what the run was doing: where gRPC's own clock ends a call, the service cannot say it."""
        if error.facts.get("stage"):
            return error
        text = f"the deadline passed after {waited_s:.1f} s, while {self._stage}; give the run more timeout_s"
        return DeadlineExceeded(text, **{**error.facts, "stage": self._stage})

    @property
    def _wants_progress(self) -> bool | None:
        # printed tokens and a progress line would write over each other
        if self._job.on_token is not None:
            return False
        return self._connection.progress if self._job.progress is None else self._job.progress

    @property
    def _is_kept(self) -> bool:
        return self._job.request.keep_s > 0 or self._job.resume_from is not None

    @property
    def _has_told(self) -> bool:
        """Whether tokens were handed out, which a second run would hand out again."""
        return self._began and self._job.request.stream_tokens

    async def _cancel_quietly(self) -> None:
        # the user is leaving, perhaps with a client that is closed; the end of the stream tells the service too
        with suppress(InterpdError, RuntimeError):
            await self.cancel()


def _stage(event: Event) -> str:
    """What a run is doing once ``event`` has come; ``""``: what it did before."""
    match event:
        case Queued():
            return f"queued ({event.reason})"
        case Started():
            return "running"
        case Progress():
            return f"running ({event.message})" if event.message else "running"
        case ResultEvent():
            return "sending results"
        case _:
            return ""
