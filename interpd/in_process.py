"""A daemon in this process: the pool, the scheduler and the service of ``daemon.py`` without Ray and sockets.

    caller's thread ── messages ──> service ── scheduler ── pool        on a thread with an event loop of its own
                                                             └── engine   on a thread per model

For notebooks and tests. There is no watchdog: whoever steps through an operation with a debugger shall not lose his
worker. The log goes where the program sends it (``logging.basicConfig()``), by default nowhere.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from interpd import telemetry
from interpd.config import Config, WorkerConfig
from interpd.engine.plan import Engine
from interpd.scheduler.scheduler import Scheduler
from interpd.service.direct import DirectService, Responses
from interpd.worker.checkpoint import Report
from interpd.worker.factory import engine_on, make_registry
from interpd.worker.given import loaded_from, serves
from interpd.worker.loading import load_model
from interpd.worker.options import ReplicaOptions
from interpd.worker.pool import Pool
from interpd.worker.thread_link import MakeEngine, ThreadStarter

CLOSING_S = 10.0
"""How long ``close`` waits for threads: a pass that is under way ends first."""

NEVER = float("inf")

_T = TypeVar("_T")


class InProcess:
    """A daemon without models; ``LoadModel`` loads some. Any thread may use it.

    Args:
        plugins: Names of installed plugins, or modules by the names that their plugins shall have.
        make_engine: Makes an engine, on its thread; ``None``: the one that daemons have.
    """

    def __init__(
        self,
        plugins: Sequence[str] | Mapping[str, ModuleType] = (),
        *,
        make_engine: MakeEngine | None = None,
    ) -> None:
        logging.getLogger(telemetry.ROOT).addHandler(logging.NullHandler())
        self._modules = plugins if isinstance(plugins, Mapping) else None
        worker = WorkerConfig(op_timeout_s=NEVER, load_timeout_s=NEVER)
        self._config = Config(plugins=tuple(plugins), worker=worker)
        self._given: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._starter = ThreadStarter(make_engine or self._make_engine)
        self._pid = os.getpid()
        # not a TemporaryDirectory, which the child of a fork would remove as well
        self._folder = Path(tempfile.mkdtemp(prefix="interpd-local-"))
        self._loop = asyncio.new_event_loop()
        self._started: Future[DirectService] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="interpd-loop", daemon=True)
        self._thread.start()
        self._pending: set[Future[Any]] = set()
        self._is_closed = False
        self._service = self._started.result()

    def give(self, model: Any, tokenizer: Any = None) -> str:
        """What ``ModelSpec.source`` calls a model that is loaded already; it is the daemon's until that is closed."""
        source = f"{type(model).__name__}-{next(self._numbers)}-of-this-process"
        self._given[source] = (model, tokenizer)
        return source

    def answer(self, method: str, request: Any, timeout_s: float | None) -> "Future[Any]":
        """The response to a request, see ``DirectService.answer``."""
        return self._submit(self._service.answer(method, request, timeout_s))

    def stream(self, method: str, request: Any, timeout_s: float | None) -> "Stream":
        """The responses to a request that has several."""
        return Stream(self, self._service.stream(method, request, timeout_s))

    def close(self) -> None:
        """Ends runs, threads and models. Idempotent."""
        # the child of a fork has no threads that could be ended
        if self._is_closed or os.getpid() != self._pid:
            return
        self._is_closed = True
        for future in list(self._pending):
            future.cancel()
        self._loop.call_soon_threadsafe(self._stop.set)
        # the garbage collector may close us on any thread
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSING_S)
            self._starter.join(CLOSING_S)

    def _submit(self, coroutine: Coroutine[Any, Any, _T]) -> "Future[_T]":
        try:
            if os.getpid() != self._pid:
                raise RuntimeError("local models do not live on in the child of a fork: call local() there")
            if self._is_closed:
                raise RuntimeError("the client is closed; make a new one")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def _make_engine(self, options: ReplicaOptions, report: Report) -> Engine:
        registry = make_registry(options, self._modules)
        given = self._given.pop(options.spec.source, None)
        loaded = load_model(options.spec, registry, report) if given is None else loaded_from(*given, options.spec)
        report("testing sites")
        engine = engine_on(loaded, registry, options)
        if given is not None:
            serves(engine, loaded.model)
        return engine

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        with ThreadPoolExecutor(2) as executor:
            loop.set_default_executor(executor)
            try:
                loop.run_until_complete(self._serve())
            # whoever waits for the start must hear why there is none
            except BaseException as error:
                if not self._started.done():
                    self._started.set_exception(error)
                raise
            finally:
                left = asyncio.all_tasks(loop)
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _serve(self) -> None:
        pool = Pool(self._config, self._folder, self._starter)
        scheduler = Scheduler(pool, self._config.scheduler, unload_grace_s=self._config.drain_grace_s)
        service = DirectService(scheduler)
        clock = asyncio.ensure_future(scheduler.run_clock())
        self._started.set_result(service)
        await self._stop.wait()
        clock.cancel()
        await pool.close()
        service.close()


class Stream:
    """The responses to one request, for one reader at a time."""

    def __init__(self, daemon: InProcess, responses: Responses) -> None:
        self._daemon, self._responses = daemon, responses

    def next(self) -> "Future[Any]":
        """The next response; ``None`` after the last one. Cancelled once the daemon is closed."""
        if self._daemon._is_closed:
            ended: Future[Any] = Future()
            ended.cancel()
            return ended
        return self._daemon._submit(self._responses.next())

    def close(self) -> None:
        """Ends what makes the responses; waits for nothing."""
        # a daemon that is closed has ended it already
        with contextlib.suppress(RuntimeError):
            self._daemon._submit(self._responses.close())
