"""Replicas on threads of this process: a ``HostLink`` that calls its host, and how hosts are started.

Without a process of its own a replica cannot be killed: an operation that never returns keeps its thread, and what
crashes the interpreter crashes everything. What ends by itself is dealt with as in a process.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

from interpd.config import ModelSpec
from interpd.engine.plan import Engine
from interpd.errors import InterpdError, InvalidRequest, WorkerLost
from interpd.graph.run import Event, RunRequest
from interpd.worker.host import ReplicaHost
from interpd.worker.host_link import RETRY_AFTER_S, Deliver, HostLink
from interpd.worker.options import ReplicaOptions

MakeEngine = Callable[[ReplicaOptions, Callable[[str], None]], Engine]
"""Makes an engine, on its thread; is given a function that takes words on how far that is."""


class ThreadHost(ReplicaHost):
    """One replica in this process."""

    def __init__(self, options: ReplicaOptions, make_engine: MakeEngine) -> None:
        super().__init__(options, lambda: make_engine(options, self.report))

    def hand_over(self, requests: Sequence[RunRequest]) -> None:
        """Takes requests in."""
        self._thread.submit(requests)

    def end(self, run_ids: Sequence[str]) -> None:
        """Cancels runs before the next step."""
        self._thread.cancel(run_ids)

    def stop(self, timeout_s: float = 0.0) -> None:
        """Ends the thread after its current step; waits for that as long as it is told."""
        self._thread.stop(timeout_s)


class ThreadLink(HostLink):
    """A link to a host in this process.

    Args:
        name: Model, replica, incarnation.
        model: The model's name.
        host: Of this event loop.
    """

    def __init__(self, name: str, model: str, host: ThreadHost) -> None:
        super().__init__(name, model)
        self._host = host
        self._is_stopped = asyncio.Event()

    def submit(self, requests: Sequence[RunRequest]) -> None:
        """Hands requests to the thread."""
        self._host.hand_over(tuple(requests))

    def cancel(self, run_ids: Sequence[str]) -> None:
        """Hands cancels to the thread."""
        self._host.end(tuple(run_ids))

    async def take(self) -> list[Event]:
        """The events that nobody has taken, once there are some."""
        try:
            return await self._host.take()
        except InterpdError as error:
            raise WorkerLost(f"broke ({type(error).__name__})") from error

    def kill(self) -> None:
        """Ends the thread after its current step."""
        self._is_stopped.set()
        self._host.stop()

    async def _call(self, method: str, *args: object) -> Any:
        # a thread that has ended answers nothing
        stopped = asyncio.ensure_future(self._is_stopped.wait())
        call = asyncio.ensure_future(getattr(self._host, method)(*args))
        try:
            await asyncio.wait((stopped, call), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not call.done():
                call.cancel()
        if call.done() and not call.cancelled():
            return call.result()
        raise WorkerLost(
            f"the worker of model {self.model!r} was lost: it was stopped",
            retry_after_s=RETRY_AFTER_S,
            model=self.model,
        )


class ThreadStarter:
    """Starts each replica on a thread.

    Args:
        make_engine: Makes the engines.
    """

    def __init__(self, make_engine: MakeEngine) -> None:
        self._make_engine = make_engine
        # a host lives at least as long as its thread
        self._hosts: WeakSet[ThreadHost] = WeakSet()

    def placed(self, spec: ModelSpec) -> ModelSpec:
        """``spec``. Raises ``InvalidRequest`` for what means processes."""
        for name, advice in _OF_PROCESSES.items():
            # a number above 1 spreads a model over the first GPUs that this process sees
            is_spread = name == "num_gpus" and spec.num_gpus > 1
            if getattr(spec, name) != getattr(_PLAIN, name) and not is_spread:
                raise InvalidRequest(f"model {spec.name!r}: {name} is for models in processes of their own; {advice}")
        return spec

    def start(self, name: str, options: ReplicaOptions, deliver: Deliver) -> ThreadLink:
        """A link to a new host."""
        host = ThreadHost(options, self._make_engine)
        self._hosts.add(host)
        return ThreadLink(name, options.spec.name, host)

    def join(self, timeout_s: float) -> None:
        """Returns when the threads of all hosts have ended, each within ``timeout_s``; they were told to."""
        for host in list(self._hosts):
            host.stop(timeout_s)


_PLAIN = ModelSpec("")
_OF_PROCESSES = {
    "num_gpus": "name the device here, as in device='cuda:1'",
    "num_cpus": "here torch.set_num_threads says how many threads there are",
    "replicas": "here a model has one",
}
