"""What holds one replica: an asyncio side that always answers, and one thread on which the engine lives.

Methods answer with a value or with the ``InterpdError`` that says why not: what is raised is then always about the
process, never about the request. In a process of its own a host is a Ray actor (``actor.py``).
"""

import asyncio
import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from interpd.engine.plan import Engine
from interpd.errors import InterpdError, ModelNotReady
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest
from interpd.graph.types import TensorData
from interpd.worker.engine_thread import EngineThread
from interpd.worker.options import LOADING, Busy, ReplicaOptions


class ReplicaHost:
    """One replica. Made on the event loop that will call it.

    Args:
        options: Model and manners.
        make_engine: Makes the engine, on its thread.
    """

    def __init__(self, options: ReplicaOptions, make_engine: Callable[[], Engine]) -> None:
        self._options = options
        self._progress = "starting"
        self._loop = asyncio.get_event_loop()
        self._out: deque[Event] = deque()
        self._has_out = asyncio.Event()
        self._thread = EngineThread(make_engine, self._deliver, batch_wait_s=options.batch_wait_ms / 1e3)
        self._thread.failure.add_done_callback(lambda _: self._tell_loop(self._has_out.set))

    async def start(self) -> Manifest | InterpdError:
        """Loads the model; what it offers, or why it could not be loaded."""
        try:
            await asyncio.wrap_future(self._thread.start())
        except InterpdError as error:
            return error
        # the actor boundary: the cause of a failed load is an answer, whatever raised it
        except Exception as error:
            name = self._options.spec.name
            return ModelNotReady(f"model {name!r} failed to load: {type(error).__name__}: {error}", model=name)
        return await self.describe()

    async def progress(self) -> str:
        """How far the loading is, in words."""
        return self._progress

    def report(self, text: str) -> None:
        """Says how far the loading is; any thread may call it."""
        self._progress = text

    async def describe(self) -> Manifest | InterpdError:
        """What the engine offers now."""
        return await _answer(self._thread.call("describe", lambda engine: engine.describe()))

    async def tokenize(self, prompts: Sequence[Prompt]) -> tuple[Tokens, ...] | InterpdError:
        """The prompts as tokens."""
        return await _answer(self._thread.call("tokenize", lambda engine: engine.tokenize(prompts)))

    async def put_blob(self, digest: str, tensor: TensorData) -> InterpdError | None:
        """Keeps an uploaded constant."""
        return await _answer(self._thread.call("put_blob", lambda engine: engine.put_blob(digest, tensor)))

    async def put_artifact(self, name: str, kind: str, data: bytes) -> ArtifactInfo | InterpdError:
        """Writes the bytes to a file of this worker's and makes it known."""
        path = Path(self._options.artifact_dir) / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(data)
            part.rename(path)
        return await _answer(
            self._thread.call("put_artifact", lambda engine: engine.put_artifact(name, kind, str(path)))
        )

    async def drop_artifact(self, name: str) -> InterpdError | None:
        """Forgets an artifact. Its file stays: other replicas of the model, and other names, may use it."""
        return await _answer(self._thread.call("drop_artifact", lambda engine: engine.drop_artifact(name)))

    async def put_adapter(self, info: AdapterInfo, folder: str) -> AdapterInfo | InterpdError:
        """Loads an adapter from a folder of the pool's."""
        self.report(f"loading adapter {info.name!r}")
        return await _answer(self._thread.call(LOADING, lambda engine: engine.put_adapter(info, folder)))

    async def drop_adapter(self, name: str) -> InterpdError | None:
        """Forgets an adapter; runs that have it keep it."""
        return await _answer(self._thread.call("drop_adapter", lambda engine: engine.drop_adapter(name)))

    async def submit(self, requests: Sequence[RunRequest]) -> None:
        """Takes requests in; their events come from ``take``."""
        self._thread.submit(requests)

    async def cancel(self, run_ids: Sequence[str]) -> None:
        """Cancels runs before the next step."""
        self._thread.cancel(run_ids)

    async def take(self) -> list[Event]:
        """The events that nobody has taken, once there are some; raises when the engine broke. For one reader.

        A call that waits: it costs half of a Ray generator's time per batch, and never is more than one on its way.
        """
        while not self._out:
            if self._thread.failure.done():
                self._thread.failure.result()
            self._has_out.clear()
            await self._has_out.wait()
        events = list(self._out)
        self._out.clear()
        return events

    async def busy(self) -> Busy:
        """What the engine's thread does now; for the watchdog."""
        return replace(self._thread.busy(), resident_bytes=psutil.Process().memory_info().rss)

    def _deliver(self, events: Sequence[Event]) -> None:
        self._tell_loop(self._put_out, events)

    def _tell_loop(self, function: Callable[..., None], *args: object) -> None:
        # the loop is closed when nobody is left who could listen
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def _put_out(self, events: Sequence[Event]) -> None:
        self._out.extend(events)
        self._has_out.set()


async def _answer(future: "Future[Any]") -> Any:
    try:
        return await asyncio.wrap_future(future)
    except InterpdError as error:
        return error
