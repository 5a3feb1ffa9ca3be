"""The composition root: puts Ray, the pool, the scheduler and the service together, and takes them apart again.

    cluster (Ray) ── pool (replicas) ── scheduler (the front) ── server (gRPC)

Ready means that every configured model serves or has failed, and at least one serves; a model that failed stays visible
with its cause while the others serve. SIGTERM and SIGINT drain: new runs are refused, running ones get the grace, and
the exit code is 0. A second signal ends the grace.
"""

import asyncio
import contextlib
import ctypes
import gc
import io
import signal
import socket
import sys
from collections.abc import Callable

from interpd import telemetry
from interpd.config import Config, ModelSpec
from interpd.errors import InterpdError, PreconditionFailed
from interpd.scheduler.scheduler import Scheduler
from interpd.service.server import Server, make_server
from interpd.telemetry import Log
from interpd.worker.cluster import Cluster
from interpd.worker.options import ENGINE_FACTORY
from interpd.worker.pool import Pool
from interpd.worker.ray_link import RayStarter

EXIT_OK, EXIT_NO_MODEL = 0, 1
STOP_GRACE_S = 2.0
"""For clients to read the last events after the drain."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""

KEPT_BYTES = 32 << 20
"""Of freed memory, at most."""

log = Log("daemon")


def print_ready(host: str, port: int) -> None:
    """Prints the one line that says that the daemon serves."""
    sys.__stdout__.write(f"listening on {host}:{port}\n")  # type: ignore[union-attr]  # a daemon has a stdout
    sys.__stdout__.flush()  # type: ignore[union-attr]


async def serve(
    config: Config, *, on_ready: Callable[[str, int], None] = print_ready, engine_factory: str = ENGINE_FACTORY
) -> int:
    """The exit code, once a signal has ended the daemon. Call it on the main thread.

    Args:
        config: All there is to know.
        on_ready: Called once with host and port when the daemon serves.
        engine_factory: ``module:function`` of ours that makes a replica's engine.

    Raises:
        InterpdError: The address cannot be used, or Ray cannot be started.
    """
    telemetry.configure(config.log_level)
    _keep_freed_memory()
    cluster = Cluster(config.worker.state_dir, config.worker.object_store_bytes)
    pool = Pool(config, cluster.state_dir, RayStarter(engine_factory))
    scheduler = Scheduler(pool, config.scheduler, unload_grace_s=config.drain_grace_s)
    # what Ray prints is for whoever debugs; standard output is ours
    with contextlib.redirect_stdout(_LogStream()):
        try:
            server = make_server(scheduler, host=config.host, port=config.port)
            _refuse_taken_port(config.host, config.port)
            # Ray first: it forks, and a process in which gRPC has threads should not
            cluster.start()
            port = await server.start()
            try:
                return await _serve(config, scheduler, server, lambda: on_ready(config.host, port))
            finally:
                await server.stop(STOP_GRACE_S)
                await pool.close()
        finally:
            cluster.stop()


def _keep_freed_memory() -> None:
    """Lets glibc keep what it would give back at once: messages of a megabyte come one after the other, and taking the
    pages of each from the system again costs more than copying the bytes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 4)


async def _serve(config: Config, scheduler: Scheduler, server: Server, on_ready: Callable[[], None]) -> int:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    clock = asyncio.ensure_future(scheduler.run_clock())
    loading = asyncio.ensure_future(_load_all(scheduler, config.models))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and not loading.result():
            log.error("no configured model could be loaded")
            return EXIT_NO_MODEL
        if not stop.is_set():
            # what is here now is here to stay: no collection shall look through it again
            gc.collect()
            gc.freeze()
            on_ready()
            await stopping
        return await _drain(config, scheduler, server, stop)
    finally:
        for task in (clock, loading, stopping):
            task.cancel()


def _refuse_taken_port(host: str, port: int) -> None:
    """Says at once, and not when Ray is up, what the server would say."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        text = f"cannot listen on '{host}:{port}': {error.strerror}; stop who listens there, or choose another port"
        raise PreconditionFailed(text, address=f"{host}:{port}") from None


async def _drain(config: Config, scheduler: Scheduler, server: Server, stop: asyncio.Event) -> int:
    log.info("draining", grace_s=config.drain_grace_s)
    stop.clear()
    server.set_draining()
    draining = asyncio.ensure_future(scheduler.drain(config.drain_grace_s))
    again = asyncio.ensure_future(stop.wait())
    await asyncio.wait((draining, again), return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not draining.done():
        draining.cancel()
        await scheduler.drain(0.0)
    return EXIT_OK


async def _load_all(scheduler: Scheduler, specs: tuple[ModelSpec, ...]) -> bool:
    """Whether some model serves, or none was asked for."""
    if not specs:
        log.warning("no model is configured: `interpd load SOURCE` loads one")
    answers = await asyncio.gather(*(scheduler.load(spec) for spec in specs), return_exceptions=True)
    for spec, answer in zip(specs, answers, strict=True):
        if isinstance(answer, InterpdError):
            log.error("model failed to load", model=spec.name, source=spec.source, cause=answer.message)
        elif isinstance(answer, BaseException):
            raise answer
    return not specs or any(not isinstance(answer, BaseException) for answer in answers)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


class _LogStream(io.TextIOBase):
    """A text stream whose lines become debug log lines."""

    def write(self, text: str) -> int:
        """Logs the text."""
        if text.strip():
            log.debug("library output", text=text.strip())
        return len(text)
