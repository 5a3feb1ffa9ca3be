"""The one thread on which an engine lives: its inbox, its step loop, and what it does when the engine fails.

The thread sleeps while there is nothing to do. A request that finds the engine idle waits a moment for company, so that
requests sent together share their first pass, unless it comes right after another for which nobody came; a busy engine
is never kept waiting: what arrived during a step joins the next one. Whatever the engine does, each run that was handed
over gets exactly one terminal event.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from interpd.engine.plan import Engine
from interpd.errors import InternalError, InterpdError
from interpd.graph.run import TERMINAL, Event, Failed, RunRequest
from interpd.telemetry import Log
from interpd.worker.options import Busy

PAUSE_S = 0.05
"""Whoever asks again within this time after its last answer, and was alone then, is not kept waiting for company."""

T = TypeVar("T")
Work = Callable[[Engine], None]

log = Log("engine_thread")


class EngineThread:
    """Runs an engine.

    Args:
        make: Makes the engine, on the thread.
        deliver: Takes the events of each step, on the thread; must not wait.
        batch_wait_s: How long an idle engine waits for company when a request arrives.
    """

    def __init__(
        self, make: Callable[[], Engine], deliver: Callable[[Sequence[Event]], None], *, batch_wait_s: float = 0.0
    ) -> None:
        self._make, self._deliver, self._batch_wait_s = make, deliver, batch_wait_s
        self._inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._held: set[str] = set()
        self._is_lonely = False
        """Whether the last wait for company was in vain."""
        self._call = ""
        self._since = 0.0
        self._n_steps, self._busy_s = 0, 0.0
        self.failure: Future[None] = Future()
        """Gets an exception when the engine broke and the thread has ended."""
        # whoever keeps the thread's object shall not keep the engine, and with it the model
        self._made: Future[Engine] = Future()
        self._thread = threading.Thread(target=self._run, args=(self._made,), name="interpd-engine", daemon=True)

    def start(self) -> "Future[Engine]":
        """Starts the thread; the future is done when the engine is made, or has the reason why not."""
        made = self._made
        del self._made
        self._thread.start()
        return made

    def submit(self, requests: Sequence[RunRequest]) -> None:
        """Hands requests to the engine before its next step."""

        def work(engine: Engine) -> None:
            for request in requests:
                self._held.add(request.run_id)
                self._submit(engine, request)

        self._inbox.put(work)

    def cancel(self, run_ids: Sequence[str]) -> None:
        """Cancels runs before the engine's next step."""

        def work(engine: Engine) -> None:
            for run_id in run_ids:
                engine.cancel(run_id)

        self._inbox.put(work)

    def call(self, name: str, function: Callable[[Engine], T]) -> "Future[T]":
        """What ``function`` gives when called with the engine, on the thread, between two steps."""
        future: Future[T] = Future()

        def work(engine: Engine) -> None:
            self._begin(name)
            try:
                future.set_result(function(engine))
            except InterpdError as error:
                future.set_exception(error)
            # the actor boundary: a call that fails in an unforeseen way must not take the runs with it
            except Exception as error:
                future.set_exception(_bug(name, error))
            finally:
                self._end()

        self._inbox.put(work)
        return future

    def busy(self) -> Busy:
        """What the thread does now; for other threads."""
        since, call, engine = self._since, self._call, self._engine
        if not since or engine is None:
            return Busy(n_steps=self._n_steps, busy_s=self._busy_s)
        run_ids, what = engine.busy_with
        return Busy(run_ids, call or what or "pass", time.monotonic() - since, self._n_steps, self._busy_s)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the thread after its current step and closes the engine."""
        self._inbox.put(None)
        # not before it has begun, and not by itself: the garbage collector may end us on any thread
        if self._thread.ident not in (None, threading.get_ident()):
            self._thread.join(timeout_s)

    def _run(self, made: "Future[Engine]") -> None:
        try:
            engine = self._engine = self._make()
        # the actor boundary: any reason why a model cannot be loaded is an answer to whoever asked for it
        except BaseException as error:
            made.set_exception(error if isinstance(error, Exception) else _bug("loading", error))
            return
        made.set_result(engine)
        del made
        try:
            while self._take_in(engine):
                if engine.has_work:
                    self._step(engine)
            engine.close()
        # the actor boundary: an engine that raised has an unknown state, so the process is given up; sys.exit() counts,
        # because a process without this thread would look alive and answer nothing
        except BaseException as error:
            reason = error if isinstance(error, InterpdError) else _bug("the engine", error)
            self._deliver([Failed(run_id, reason) for run_id in self._held])
            self.failure.set_exception(reason)
        finally:
            self._engine = None

    def _take_in(self, engine: Engine) -> bool:
        """Does what the inbox asks, waiting for something while the engine has no work; False: stop."""
        idle_since = None if engine.has_work else time.monotonic()
        window_ends, waited_for = None, 0
        while True:
            try:
                work = self._inbox.get(timeout=self._patience(engine, window_ends))
            except queue.Empty:
                if waited_for:
                    self._is_lonely = len(self._held) <= waited_for
                return True
            if work is None:
                return False
            work(engine)
            if idle_since is not None and window_ends is None and engine.has_work:
                window_ends = time.monotonic()
                if not self._is_lonely or window_ends - idle_since > PAUSE_S:
                    window_ends += self._batch_wait_s
                    waited_for = len(self._held)

    def _patience(self, engine: Engine, window_ends: float | None) -> float | None:
        """How long to wait for the inbox: for ever when idle, the rest of the window, or not at all."""
        if not engine.has_work:
            return None
        return max(0.0, window_ends - time.monotonic()) if window_ends is not None else 0.0

    def _submit(self, engine: Engine, request: RunRequest) -> None:
        self._begin("check")
        try:
            engine.submit(request)
        # the actor boundary: a request that cannot even be taken in must not hurt those that are running
        except Exception as error:
            self._held.discard(request.run_id)
            self._deliver([Failed(request.run_id, _bug("taking a request in", error))])
        finally:
            self._end()

    def _step(self, engine: Engine) -> None:
        self._begin("")
        events = [event for event in engine.step() if event.run_id in self._held]
        self._end()
        self._n_steps += 1
        self._held -= {event.run_id for event in events if isinstance(event, TERMINAL)}
        if self._held and not engine.has_work:
            lost, self._held = self._held, set()
            error = InternalError("the engine ended without a terminal event; please report this")
            events += [Failed(run_id, error) for run_id in lost]
        if events:
            self._deliver(events)

    def _begin(self, call: str) -> None:
        self._call = call
        self._since = time.monotonic()

    def _end(self) -> None:
        self._busy_s += time.monotonic() - self._since
        self._since = 0.0


def _bug(what: str, error: BaseException) -> InternalError:
    log.exception("a bug", what=what)
    return InternalError(f"a bug in interpd: {what} raised {type(error).__name__}: {error}")
