"""One accepted run: its states, its reader count and its events.

    QUEUED ──dispatch──> RUNNING ──terminal event──> ENDED
       └───cancel, deadline, model gone, drain───────^

A run ends once. What the engine still says about a run that was ended here (cancelled, past its deadline) is dropped.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from enum import Enum

from interpd.graph.ir import Graph
from interpd.graph.run import TERMINAL, Cancelled, Event, Failed, Queued, Result, RunRequest
from interpd.scheduler.log import EventLog
from interpd.worker.link import WorkerLink

TEXT_CHARACTERS_PER_TOKEN = 4
"""For the estimate of a prompt that was not tokenised yet; the charge is corrected when the run ends."""


class RunState(Enum):
    """Where a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


class Run:
    """An accepted run.

    Args:
        request: With its deadline bounded.
        now: Monotonic seconds.
        deadline: Monotonic seconds.
        keep_s: Bounded; how long events outlive the end or the last reader.
        bytes_due: Of its results, as far as the checker can tell.
    """

    def __init__(self, request: RunRequest, *, now: float, deadline: float, keep_s: float, bytes_due: int = 0) -> None:
        self.request = request
        self.state = RunState.QUEUED
        self.log = EventLog(request.run_id, keeps=keep_s > 0)
        self.deadline = deadline
        self.keep_s = keep_s
        self.accepted_at = now
        self.started_at = now
        self.ended_at = now
        self.unread_since: float | None = None
        """Since when nobody reads it; ``None`` while somebody does."""
        self.n_readers = 0
        self.link: WorkerLink | None = None
        self.alone = False
        """Whether nothing may run beside it on its replica."""
        self.cost_tokens = estimated_tokens(request)
        self._bytes_due = bytes_due
        self._streams = False
        self._queued: Queued | None = None

    @property
    def run_id(self) -> str:
        """The id that the client gave."""
        return self.request.run_id

    @property
    def held_bytes(self) -> int:
        """Of results that it will bring, or that it has brought and its readers have not read."""
        if self.state is not RunState.ENDED:
            return max(self._bytes_due, self.log.n_bytes)
        return self.log.n_bytes if self.n_readers else 0

    def queued_at(self, position: int, reason: str) -> None:
        """Says where the run waits, when that has changed."""
        event = Queued(self.run_id, position, reason)
        if event != self._queued:
            self._queued = event
            self.log.append(event)

    def start(self, link: WorkerLink, now: float) -> None:
        """Moves it from the queue to a worker."""
        assert self.state is RunState.QUEUED
        self.state, self.link, self.started_at = RunState.RUNNING, link, now

    def add(self, event: Event, now: float) -> None:
        """Appends what the engine says; a terminal event ends the run, later ones are dropped."""
        if self.state is RunState.ENDED:
            return
        self._streams = self._streams or isinstance(event, Result)
        self.log.append(event)
        if isinstance(event, TERMINAL):
            self.state, self.ended_at = RunState.ENDED, now

    def cancelled(self) -> Cancelled:
        """The event that ends it at its caller's wish now."""
        stage = "streaming" if self._streams else self.state.value
        return Cancelled(self.run_id, stage)

    def forget_content(self) -> None:
        """Drops prompts and graph, which nobody needs once the engine has let go."""
        self.request = replace(self.request, prompts=(), graph=Graph((), {}))

    @property
    def outcome(self) -> str:
        """``done``, ``cancelled`` or the reason of the error; for an ended run."""
        event = self.log.ended
        return event.error.reason if isinstance(event, Failed) else type(event).__name__.lower()

    def read(self, start: int) -> AsyncIterator[Event]:
        """The run's events from number ``start`` on."""
        return self.log.read(start)


def estimated_tokens(request: RunRequest) -> float:
    """Positions that the run will compute, as far as its words tell."""
    n = 0.0
    for prompt in request.prompts:
        if prompt.token_ids is not None:
            n += len(prompt.token_ids)
        else:
            texts = [prompt.text or ""] if prompt.messages is None else [content for _, content in prompt.messages]
            n += 1 + sum(map(len, texts)) / TEXT_CHARACTERS_PER_TOKEN
    if request.generation is not None:
        n += len(request.prompts) * request.generation.max_new_tokens
    return max(n, 1.0)
