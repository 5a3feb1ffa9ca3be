"""Runs: sending a request, following it through lost connections, and collecting what comes back."""

import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import final

from interpd.errors import BlobNotFound, DataLoss, DeadlineExceeded, InterpdError, RunNotFound, Unavailable
from interpd.graph.run import TERMINAL, Done, Event, Failed, Progress, Queued, RunRequest, Started, TokenGenerated
from interpd.graph.run import Result as ResultEvent
from interpd.graph.types import TensorData
from interpd_client.blame import placed_texts, point_at
from interpd_client.connection import Connection, may_retry, remaining_s
from interpd_client.places import Places
from interpd_client.progress import ProgressLine
from interpd_client.result import Collector, Result
from interpd_client.transport import EventStream

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
class RunHandle:
    """A run that was sent. ``result()`` waits for it; ``id`` lets ``Client.attach`` find it again.

    One thread at a time follows a run; ``cancel`` may be called from any.
    """

    def __init__(self, connection: Connection, job: Job) -> None:
        self._connection = connection
        self._job = job
        self._id = job.request.run_id
        self._number = job.resume_from
        self._began = False
        self._stage = "waiting for an answer"
        self._n_tries_left = connection.n_retries
        self._events = self._follow()
        self._first: list[Event] = []
        self._result: Result | None = None

    @property
    def id(self) -> str:
        """The name of the run."""
        return self._id

    def __repr__(self) -> str:
        state = "finished" if self._result is not None else "followed" if self._began else "sent"
        return f"<run {self._id} on {self._job.request.model or 'an unnamed model'}: {state}>"

    def wait_accepted(self) -> None:
        """Returns once the service has taken the run in. Raises what refused it."""
        try:
            if not self._first:
                self._first.append(next(self._events))
        except InterpdError as error:
            raise self._pointed(error) from None

    def events(self) -> Generator[Event]:
        """What happens to the run, as it happens; the last event is ``Done``. Raises what ends the run otherwise.

        Leaving the loop early ends a run that is not kept.
        """
        with closing(self._events):
            try:
                while self._first:
                    yield self._first.pop()
                for event in self._events:
                    is_done = isinstance(event, Done)
                    yield replace(event, warnings=placed_texts(event.warnings, self._job.places)) if is_done else event
            except InterpdError as error:
                raise self._pointed(error) from None

    def result(self) -> Result:
        """The result, once the run is done. Raises what ended it otherwise."""
        if self._result is None:
            collector = Collector(self._job.saved)
            with ProgressLine(self._wants_progress) as line, closing(self.events()) as events:
                for event in events:
                    line.show(event)
                    collector.feed(event)
                    if isinstance(event, TokenGenerated) and self._job.on_token is not None:
                        self._job.on_token(event)
            self._result = collector.result(self._id)
        return self._result

    def cancel(self) -> None:
        """Ends the run; nothing happens when it has ended."""
        # unknown there: it ended so long ago that it is not kept any more
        with suppress(RunNotFound):
            self._connection.transport.cancel(self._id, CANCEL_TIMEOUT_S)

    def _late(self, error: DeadlineExceeded, waited_s: float) -> DeadlineExceeded:
        """The error with what the run was doing: where gRPC's own clock ends a call, the service cannot say it."""
        if error.facts.get("stage"):
            return error
        text = f"the deadline passed after {waited_s:.1f} s, while {self._stage}; give the run more timeout_s"
        return DeadlineExceeded(text, **{**error.facts, "stage": self._stage})

    def _pointed(self, error: InterpdError) -> InterpdError:
        return point_at(error, self._job.request.graph, self._job.places)

    @property
    def _wants_progress(self) -> bool | None:
        # printed tokens and a progress line would write over each other
        if self._job.on_token is not None:
            return False
        return self._connection.progress if self._job.progress is None else self._job.progress

    @property
    def _is_kept(self) -> bool:
        return self._job.request.keep_s > 0 or self._job.resume_from is not None

    def _follow(self) -> Generator[Event]:
        """The run's events through any number of connections and tries."""
        resent = False
        started_s = time.monotonic()
        while True:
            try:
                yield from self._stream_once()
                return
            except DeadlineExceeded as error:
                raise self._late(error, time.monotonic() - started_s) from None
            except Unavailable as error:
                self._prepare_next_try(error)
            except BlobNotFound:
                if resent or not self._job.blobs:
                    raise
                resent = True
                self._connection.forget(self._job.request.model, self._job.blobs)
                self._start_over()

    def _stream_once(self) -> Generator[Event]:
        stream = self._open()
        finished = False
        try:
            for event in stream:
                self._began = True
                self._stage = _stage(event) or self._stage
                self._number = stream.next_number
                if isinstance(event, Failed):
                    raise event.error
                finished = isinstance(event, TERMINAL)
                yield event
            if not finished:
                raise DataLoss(f"the stream of run {self._id!r} ended before the run did")
        except KeyboardInterrupt:
            if not self._job.is_detached:
                self._cancel_quietly()
            raise
        except GeneratorExit:
            # without keep_s the end of the stream is enough
            if not finished and self._is_kept and not self._job.is_detached:
                self._cancel_quietly()
            raise
        finally:
            stream.close()

    def _open(self) -> EventStream:
        request = self._job.request
        if self._number is not None:
            left_s = remaining_s(request.deadline_s)
            return self._connection.transport.attach(self._id, self._number, left_s)
        self._connection.upload(request.model, self._job.blobs)
        return self._connection.transport.run(replace(request, run_id=self._id))

    def _prepare_next_try(self, error: Unavailable) -> None:
        """Decides whether to attach again, to send the run again, or to give up."""
        if self._n_tries_left <= 0:
            raise error
        self._n_tries_left -= 1
        lost_connection = not may_retry(error)
        if lost_connection and not (self._began and self._is_kept):
            raise error
        if not lost_connection and (self._job.resume_from is not None or self._has_told):
            raise error
        self._connection.wait(error, self._job.request.deadline_s)
        if not lost_connection:
            self._start_over()

    def _start_over(self) -> None:
        self._id, self._number = uuid.uuid4().hex, None

    @property
    def _has_told(self) -> bool:
        """Whether tokens were handed out, which a second run would hand out again."""
        return self._began and self._job.request.stream_tokens

    def _cancel_quietly(self) -> None:
        # the user is leaving; the end of the stream tells the service too
        with suppress(InterpdError):
            self.cancel()


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
