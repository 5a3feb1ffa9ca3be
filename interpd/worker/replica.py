"""The supervision of one replica: start, watch, restart, give up.

    starting ──ready──> serving ──process died, hung, engine broke──> waiting (backoff) ──> starting ...
       └──first load failed, or too many restarts in a row──> failed

Nobody else restarts anything (Ray is told ``max_restarts=0``): a restart that nobody sees would hide which runs were
lost. The first load is not repeated, because its reason (a wrong path, no memory) rarely goes away.
"""

import asyncio
import contextlib
import math
from typing import Any, Protocol

from interpd.config import WorkerConfig
from interpd.errors import InternalError, InterpdError, ModelNotReady, OpFailed, WorkerLost
from interpd.graph.schema import Manifest
from interpd.telemetry import Log
from interpd.worker.host_link import RETRY_AFTER_S, HostLink, Starter
from interpd.worker.link import Lost
from interpd.worker.options import LOADING, Busy, ReplicaOptions

MAX_BACKOFF_S = 30.0
MAX_FILES_SHARE = 0.9
"""Of the files that a process may open; one that cannot open any more fails in odd ways."""
MOST_THREADS = 2_000
"""Of a worker process: many times what Ray and torch start on a large machine."""
LOOK_S = 0.5
"""Time between two looks at an engine (less when ``op_timeout_s`` is short)."""
PROGRESS_S = 1.0
"""Time between two words on how far a loading is."""

log = Log("replica")


class ReplicaKeeper(Protocol):
    """Who hears what becomes of a replica: the pool."""

    def on_progress(self, replica: "Replica", text: str) -> None:
        """How far its loading is."""

    def on_ready(self, replica: "Replica", link: HostLink, manifest: Manifest) -> None:
        """It serves."""

    def on_events(self, link: HostLink, events: Any) -> None:
        """Events of its runs."""

    def on_lost(self, replica: "Replica", link: HostLink, lost: Lost) -> None:
        """Its process is gone; it will be started again."""

    def on_failed(self, replica: "Replica", error: InterpdError) -> None:
        """It is given up."""

    async def equip(self, link: HostLink) -> None:
        """Gives a new process what was uploaded to the old one."""


class Replica:
    """One replica, for as long as its model is loaded.

    Args:
        index: Among the replicas of the model.
        options: What its processes are told.
        config: Timeouts.
        starter: Where its hosts come from.
        keeper: Who hears.
    """

    def __init__(
        self, index: int, options: ReplicaOptions, config: WorkerConfig, starter: Starter, keeper: ReplicaKeeper
    ) -> None:
        self.index, self._options, self._config = index, options, config
        self._starter, self._keeper = starter, keeper
        self.model = options.spec.name
        self.n_starts = 0
        self.has_served = False
        self._n_failures = 0
        self._last_word = ""
        """How far the loading was."""
        self._link: HostLink | None = None
        self._task = asyncio.ensure_future(self._supervise_or_give_up())

    async def stop(self) -> None:
        """Ends supervision and process."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._link is not None:
            self._link.kill()

    async def _supervise_or_give_up(self) -> None:
        try:
            await self._supervise()
        # the actor boundary: a replica that nobody supervises any more would stay "restarting" for ever
        except Exception as error:
            log.exception("a bug", what="supervision", model=self.model, replica=self.index)
            if self._link is not None:
                self._link.kill()
            text = f"a bug in interpd: the supervision of model {self.model!r} raised {type(error).__name__}: {error}"
            self._keeper.on_failed(self, InternalError(text))

    async def _supervise(self) -> None:
        while True:
            link = self._link = self._start_host()
            try:
                async with asyncio.timeout(self._config.load_timeout_s):
                    manifest = await self._loaded(link)
            except (InterpdError, TimeoutError) as error:
                link.kill()
                if not await self._may_try_again(error):
                    return
                continue
            self.has_served = True
            self._keeper.on_ready(self, link, manifest)
            lost = await self._watch(link)
            link.kill()
            self._keeper.on_lost(self, link, lost)
            await self._back_off()

    async def _loaded(self, link: HostLink) -> Manifest:
        """What the host offers, once its model is loaded and it has what its siblings have."""
        telling = asyncio.ensure_future(self._tell_progress(link))
        try:
            await link.start()
            await self._keeper.equip(link)
            return await link.describe()
        finally:
            telling.cancel()

    async def _tell_progress(self, link: HostLink) -> None:
        try:
            while True:
                await asyncio.sleep(PROGRESS_S)
                text = await link.progress()
                self._last_word = f"; it was {text}"
                self._keeper.on_progress(self, text)
        except InterpdError as error:
            # whoever waits for the start hears of it, too
            log.debug("no word of the loading", model=self.model, replica=self.index, error=error.message)

    def _start_host(self) -> HostLink:
        self.n_starts += 1
        self._last_word = ""
        name = f"{self.model}/{self.index}.{self.n_starts}"
        return self._starter.start(name, self._options, self._keeper.on_events)

    async def _may_try_again(self, error: InterpdError | TimeoutError) -> bool:
        if isinstance(error, TimeoutError):
            text = f"model {self.model!r} was not loaded after {self._config.load_timeout_s:g} s{self._last_word}"
            error = ModelNotReady(text, model=self.model)
        self._n_failures += 1
        log.warning("load failed", model=self.model, replica=self.index, error=error.message)
        if not self.has_served or self._n_failures >= self._config.max_restarts:
            self._keeper.on_failed(self, error)
            return False
        await self._back_off()
        return True

    async def _back_off(self) -> None:
        wait_s = self._config.restart_backoff_s * 2 ** max(0, self._n_failures - 1)
        await asyncio.sleep(min(wait_s, MAX_BACKOFF_S))

    async def _watch(self, link: HostLink) -> Lost:
        """Waits until the process is of no use any more."""
        tasks = (asyncio.ensure_future(self._read(link)), asyncio.ensure_future(self._watchdog(link)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            lost = next(iter(done)).result()
        finally:
            for task in tasks:
                task.cancel()
        log.warning("worker lost", model=self.model, replica=self.index, cause=lost.error.message)
        return lost

    async def _read(self, link: HostLink) -> Lost:
        """Passes events on until there are none any more."""
        try:
            while True:
                batch = await link.take()
                self._n_failures = 0
                self._keeper.on_events(link, batch)
        except WorkerLost as error:
            return Lost(self._worker_lost(error.message))

    async def _watchdog(self, link: HostLink) -> Lost:
        """Looks at the engine until it hangs, or does not answer at all."""
        limit_s = self._config.op_timeout_s
        while True:
            await asyncio.sleep(min(LOOK_S, limit_s / 4))
            try:
                async with asyncio.timeout(limit_s):
                    busy = await link.look()
            except TimeoutError:
                return self._hung(link.last_busy)
            except InterpdError as error:
                # the reader of events sees the same death, with less to say
                return Lost(error)
            if busy.for_s > (self._config.load_timeout_s if busy.what == LOADING else limit_s):
                return self._hung(busy)
            if leak := self._leak(busy):
                return Lost(self._worker_lost(f"was stopped because {leak}"))

    def _leak(self, busy: Busy) -> str:
        """What the process holds too much of; empty: nothing."""
        most = self._config.max_resident_bytes
        if most and busy.resident_bytes > most:
            return f"it held {busy.resident_bytes} bytes of memory, more than {most} (worker.max_resident_bytes)"
        if busy.files_share > MAX_FILES_SHARE:
            return f"it held {busy.files_share:.0%} of the files that a process may open"
        if busy.n_threads > MOST_THREADS:
            return f"it ran {busy.n_threads} threads, more than {MOST_THREADS}"
        return ""

    def _hung(self, busy: Busy) -> Lost:
        what = busy.what or "the process"
        error = self._worker_lost(f"was stopped because {what!r} took longer than {self._config.op_timeout_s:g} s")
        if not what.startswith(("op ", "method ")):
            return Lost(error)
        limit = f"{self._config.op_timeout_s:g} s (worker.op_timeout_s)"
        message = f"{what!r} took longer than {limit}; its worker was stopped and is being restarted"
        return Lost(error, {run_id: OpFailed(message, op=what) for run_id in busy.run_ids})

    def _worker_lost(self, what: str) -> WorkerLost:
        retry_after_s = max(RETRY_AFTER_S, math.ceil(self._config.restart_backoff_s))
        return WorkerLost(
            f"the worker of model {self.model!r} {what} while it held the run; it is being restarted, so try again",
            retry_after_s=retry_after_s,
            model=self.model,
        )
