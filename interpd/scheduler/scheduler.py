"""The front: admits runs, queues them fairly, places them on replicas, and ends each exactly once.

One event loop owns all of it, so there are no locks: what the service calls (``submit``, ``cancel``) and what the pool
calls (``on_events``, ``on_lost``) are plain functions that leave a consistent state behind. Time enters in one place,
``tick``, which the daemon calls a few times a second and tests call with a clock of their own.

A run that is cancelled or past its deadline ends at once; its place on the replica stays taken until the engine says
that it has let go. So a client never waits for a busy engine, and no replica ever holds more than its limit.
"""

import asyncio
import difflib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace

from interpd.config import SchedulerConfig
from interpd.errors import (
    DeadlineExceeded,
    Draining,
    InterpdError,
    InvalidRequest,
    LimitExceeded,
    ModelNotFound,
    ModelNotReady,
)
from interpd.graph.check import CheckReport
from interpd.graph.ir import Prompt
from interpd.graph.rules_request import prompts_too_large
from interpd.graph.run import TERMINAL, Done, Event, Failed, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest
from interpd.graph.types import TensorData
from interpd.scheduler.admission import Admission
from interpd.scheduler.book import RunBook
from interpd.scheduler.counters import Counters
from interpd.scheduler.hold import Hold
from interpd.scheduler.interface import Statistics
from interpd.scheduler.placement import least_loaded
from interpd.scheduler.queue import FairQueue
from interpd.scheduler.runs import Run, RunState
from interpd.scheduler.suspects import Suspects
from interpd.specs import AdapterSpec, ModelSpec
from interpd.telemetry import Log
from interpd.worker.link import FAILED, RESTARTING, UNLOADING, Lost, ModelStatus, WorkerLink, Workers

TICK_S = 0.2
"""Time between two looks at deadlines, kept runs and queue positions."""

log = Log("scheduler")


class Scheduler:
    """Implements ``scheduler.interface.Front`` and ``worker.link.WorkerObserver``.

    Args:
        workers: The pool; this scheduler becomes its observer.
        config: Bounds and weights.
        unload_grace_s: How long running runs of a model may go on when it is unloaded.
        clock: Monotonic seconds.
        wall: Seconds of the Unix clock, for the deadlines that requests carry.
    """

    def __init__(
        self,
        workers: Workers,
        config: SchedulerConfig,
        *,
        unload_grace_s: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._workers = workers
        self._config = config
        self._unload_grace_s = unload_grace_s
        self._clock = clock
        self._started_at = clock()
        self._admission = Admission(config, clock, wall)
        self._book = RunBook(config.kept_bytes)
        self._queues: dict[str, FairQueue] = {}
        self._held: dict[str, set[str]] = {}
        self._closed: dict[str, str] = {}
        """Replicas that take nothing else now: the run that must be alone there."""
        self._suspects = Suspects(clock)
        self._counters = Counters()
        self._leaving: set[str] = set()
        self._draining = False
        self._changed = asyncio.Event()
        workers.observe(self)

    # what the service asks

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model, in the order of loading."""
        return tuple(
            replace(status, state=UNLOADING) if status.name in self._leaving else status
            for status in self._workers.models()
        )

    async def watch_models(self) -> AsyncIterator[tuple[ModelStatus, ...]]:
        """``models()`` now, and again after each change."""
        last = None
        while True:
            changed = self._changed
            if (now := self.models()) != last:
                last = now
                yield now
            await changed.wait()

    def manifest(self, model: str) -> Manifest:
        """What a model offers."""
        self._status(model)
        return self._workers.manifest(model)

    async def load(self, spec: ModelSpec) -> ModelStatus:
        """The status once the model serves."""
        if self._draining:
            raise Draining("the daemon is shutting down and loads no models")
        await self._workers.load(spec)
        return next(status for status in self.models() if status.name == spec.name)

    async def unload(self, model: str) -> None:
        """Takes a model away."""
        if model in self._leaving:
            raise ModelNotReady(f"model {model!r} is being unloaded", model=model, state=UNLOADING)
        self._status(model)
        self._leaving.add(model)
        self.on_change()
        try:
            await self._wait_ended(lambda run: run.request.model == model, self._unload_grace_s)
            # an unload that has begun is not left half done by a caller who goes away
            await asyncio.shield(self._workers.unload(model))
            self._suspects.forget_model(model)
        finally:
            self._leaving.discard(model)
            self.on_change()

    async def tokenize(self, model: str, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """The prompts as tokens."""
        for violation in prompts_too_large(prompts, self.manifest(model).limits):
            raise LimitExceeded(str(violation), path=violation.path)
        link = least_loaded(self._workers.links(model), self._n_held(), limit=1 << 30)
        if link is None:
            raise ModelNotReady(f"model {model!r} has no worker now; try again in a moment", model=model)
        return await link.tokenize(prompts)

    def submit(self, request: RunRequest, report: CheckReport | None = None) -> Hold:
        """A hold on the accepted run."""
        try:
            run = self._admit(request, report)
        except InterpdError as error:
            self._counters.refused[error.reason] += 1
            raise
        self._counters.n_accepted += 1
        self._book.add(run)
        self._queues.setdefault(request.model, FairQueue(self._config.owner_weights)).push(run)
        hold = Hold(self, run)
        self._dispatch(request.model)
        if run.state is RunState.QUEUED:
            # the others hear of a change at the next tick
            self._say_positions(request.model, only=run)
        return hold

    def attach(self, run_id: str) -> Hold:
        """Another hold on a run."""
        return Hold(self, self._book.get(run_id))

    def cancel(self, run_id: str) -> None:
        """Ends a run at its caller's wish."""
        self.stop(self._book.get(run_id))

    async def put_blob(self, model: str | None, digest: str, tensor: TensorData) -> None:
        """Sends a constant to the workers."""
        if model is not None:
            self.manifest(model)
        await self._workers.put_blob(model, digest, tensor)

    async def put_artifact(self, model: str, name: str, kind: str, data: bytes) -> ArtifactInfo:
        """Sends an artifact to the workers."""
        self.manifest(model)
        return await self._workers.put_artifact(model, name, kind, data)

    async def get_artifact(self, model: str, name: str) -> tuple[ArtifactInfo, bytes]:
        """An artifact and its file."""
        self.manifest(model)
        return await self._workers.get_artifact(model, name)

    async def delete_artifact(self, model: str, name: str) -> None:
        """Takes an artifact away from the workers."""
        self.manifest(model)
        await self._workers.delete_artifact(model, name)

    async def load_adapter(self, model: str, spec: AdapterSpec) -> AdapterInfo:
        """Loads an adapter into the workers."""
        self.manifest(model)
        return await self._workers.load_adapter(model, spec)

    async def unload_adapter(self, model: str, name: str) -> None:
        """Takes an adapter away from the workers."""
        self.manifest(model)
        await self._workers.unload_adapter(model, name)

    def statistics(self) -> Statistics:
        """Counters now."""
        uptime_s = self._clock() - self._started_at
        return self._counters.snapshot(
            uptime_s=uptime_s, draining=self._draining, book=self._book, queues=self._queues, workers=self._workers
        )

    async def drain(self, grace_s: float) -> None:
        """Refuses new runs and waits for the others, ``grace_s`` at most."""
        self._draining = True
        await self._wait_ended(lambda run: True, grace_s)
        self._fail(self._book.open_runs(), Draining("the daemon shut down before the run had ended", retry_after_s=5.0))

    # what the workers say

    def on_events(self, link: WorkerLink, events: Sequence[Event]) -> None:
        """Events of runs that ``link`` holds."""
        held = self._held.setdefault(link.name, set())
        for event in events:
            run = self._book.find(event.run_id)
            is_terminal = isinstance(event, TERMINAL)
            if run is not None and event.run_id in held:
                self._add(run, event)
                if is_terminal:
                    self._suspects.clear(run.request)
                    run.forget_content()
            if is_terminal:
                held.discard(event.run_id)
        self._dispatch(link.model)

    def on_lost(self, link: WorkerLink, lost: Lost) -> None:
        """``link`` is gone, and with it the runs that it held."""
        held = self._held.pop(link.name, set())
        for run_id in held:
            run = self._book.find(run_id)
            if run is None:
                continue
            known = lost.culprits.get(run_id)
            if known is None and link.model not in self._leaving:
                known = self._suspects.note_death(run.request, was_alone=run.alone and len(held) == 1)
            if run.state is not RunState.ENDED:
                self._end(run, Failed(run_id, known or lost.error))
            run.forget_content()
        self.on_change()

    def on_change(self) -> None:
        """Some model came, went, failed or got a replica."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        states = {status.name: status for status in self.models()}
        for model, queue in list(self._queues.items()):
            status = states.get(model)
            if status is None or status.state in (FAILED, UNLOADING):
                detail = "was unloaded" if status is None else f"is {status.state}: {status.detail}".rstrip(": ")
                self._fail(queue.ordered(), ModelNotReady(f"model {model!r} {detail}", model=model))
            if status is None:
                del self._queues[model]
            else:
                self._dispatch(model)

    # what time and readers do

    def tick(self) -> None:
        """Ends what is past its time and tells waiting runs their position."""
        now = self._clock()
        for run in self._book.open_runs():
            if now >= run.deadline:
                stage = run.state.value
                self._end(run, Failed(run.run_id, DeadlineExceeded(f"the deadline passed while {stage}", stage=stage)))
            elif run.unread_since is not None and now >= run.unread_since + run.keep_s:
                self._end(run, run.cancelled())
        self._book.sweep(now)
        for model in self._queues:
            self._say_positions(model)

    async def run_clock(self) -> None:
        """Ticks for ever."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    def hold(self, run: Run) -> None:
        """Counts a reader in."""
        run.n_readers += 1
        run.unread_since = None

    def release(self, run: Run) -> None:
        """Counts a reader out; nobody left and nothing kept ends the run."""
        run.n_readers -= 1
        if run.n_readers == 0:
            run.unread_since = self._clock()
            if run.keep_s == 0:
                self.stop(run)
            self._book.sweep(self._clock())

    def stop(self, run: Run) -> None:
        """Ends a run at its caller's wish."""
        if run.state is not RunState.ENDED:
            self._end(run, run.cancelled())

    # the machine

    def _status(self, model: str) -> ModelStatus:
        for status in self.models():
            if status.name == model:
                return status
        raise self._unknown(model)

    def _unknown(self, model: str) -> ModelNotFound:
        names = [status.name for status in self._workers.models() if status.state != FAILED]
        near = difflib.get_close_matches(model, names, n=1)
        hint = f"nearest is {near[0]!r}" if near else f"loaded are {', '.join(names) or 'none'}"
        return ModelNotFound(f"no model {model!r}; {hint}", model=model)

    def _admit(self, request: RunRequest, report: CheckReport | None) -> Run:
        if self._draining:
            raise Draining("the daemon is shutting down and takes no new runs", retry_after_s=5.0)
        if not request.run_id or request.run_id in self._book:
            raise InvalidRequest(f"run id {request.run_id!r} is empty or taken", run=request.run_id)
        manifest = self.manifest(request.model)
        status = self._status(request.model)
        if status.state in (FAILED, UNLOADING):
            raise ModelNotReady(f"model {request.model!r} is {status.state}: {status.detail}", model=request.model)
        self._suspects.refuse(request)
        run = self._admission.admit(request, manifest, self._queues, self._book, report)
        run.alone = self._suspects.must_be_alone(request)
        return run

    def _dispatch(self, model: str) -> None:
        """Hands over as many waiting runs as the replicas have room for."""
        queue = self._queues.get(model)
        links = self._workers.links(model)
        batches: dict[str, tuple[WorkerLink, list[RunRequest]]] = {}
        while queue:
            limit = 1 if queue.first().alone else self._config.max_in_flight
            link = least_loaded(links, self._n_held(), limit)
            if link is None:
                break
            run = queue.pop()
            run.start(link, self._clock())
            self._held.setdefault(link.name, set()).add(run.run_id)
            if run.alone:
                self._closed[link.name] = run.run_id
            batches.setdefault(link.name, (link, []))[1].append(run.request)
        for link, requests in batches.values():
            link.submit(requests)

    def _add(self, run: Run, event: Event) -> None:
        if isinstance(event, Done):
            queued_ms = 1e3 * (run.started_at - run.accepted_at)
            event = replace(event, cost=replace(event.cost, queued_ms=queued_ms))
        was_open = run.state is not RunState.ENDED
        run.add(event, self._clock())
        if was_open and run.state is RunState.ENDED:
            self._note_end(run)

    def _end(self, run: Run, event: Event) -> None:
        """Ends a run from here, wherever it is."""
        if run.state is RunState.QUEUED:
            self._queues[run.request.model].remove(run)
            run.forget_content()
        elif run.link is not None and run.run_id in self._held.get(run.link.name, ()):
            run.link.cancel([run.run_id])
        self._add(run, event)

    def _fail(self, runs: Iterable[Run], error: InterpdError) -> None:
        for run in runs:
            self._end(run, Failed(run.run_id, error))

    def _note_end(self, run: Run) -> None:
        self._counters.note_end(run)
        self._admission.note_end(run.ended_at)
        done = run.log.ended
        if isinstance(done, Done) and (queue := self._queues.get(run.request.model)) is not None:
            queue.charge(run.request.owner, done.cost.n_tokens - run.cost_tokens)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _n_held(self) -> dict[str, int]:
        """Runs of each replica; one that holds a run that must be alone is full."""
        full = self._config.max_in_flight
        self._closed = {name: run_id for name, run_id in self._closed.items() if run_id in self._held.get(name, ())}
        return {name: full if name in self._closed else len(held) for name, held in self._held.items()}

    def _say_positions(self, model: str, only: Run | None = None) -> None:
        reason = "waiting for a worker"
        if not self._workers.links(model):
            state = next((s.state for s in self.models() if s.name == model), RESTARTING)
            reason = f"model is {state}"
        for position, run in enumerate(self._queues[model].ordered()):
            if only is None or run is only:
                run.queued_at(position, reason)

    async def _wait_ended(self, chosen: Callable[[Run], bool], grace_s: float) -> None:
        try:
            async with asyncio.timeout(grace_s):
                while any(chosen(run) for run in self._book.open_runs()):
                    await self._changed.wait()
        except TimeoutError:
            log.warning("runs did not end within the grace", grace_s=grace_s)
