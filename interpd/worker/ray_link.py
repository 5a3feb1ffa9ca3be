"""Replicas as Ray actors: a ``HostLink`` over an actor's handle, and how actors are started."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from interpd.config import ModelSpec
from interpd.errors import InternalError, WorkerLost
from interpd.graph.run import Event, Failed, RunRequest
from interpd.worker.actor import ReplicaActor
from interpd.worker.gpus import with_gpus
from interpd.worker.host_link import RETRY_AFTER_S, Deliver, HostLink
from interpd.worker.options import ENGINE_FACTORY, ReplicaOptions
from interpd.worker.pieces import Joiner


class RayLink(HostLink):
    """A link to an actor.

    Args:
        name: Model, replica, incarnation.
        model: The model's name.
        actor: Handle of a ``ReplicaActor``.
        deliver: Takes the failures of requests that could not be sent.
    """

    def __init__(self, name: str, model: str, actor: Any, deliver: Deliver) -> None:
        super().__init__(name, model)
        self.actor = actor
        self._deliver = deliver
        self._requests: list[RunRequest] = []
        self._cancels: list[str] = []
        self._joiner = Joiner()
        self._next: Any = None

    def submit(self, requests: Sequence[RunRequest]) -> None:
        """Sends requests with all others of this turn of the event loop."""
        self._flush_soon()
        self._requests += requests

    def cancel(self, run_ids: Sequence[str]) -> None:
        """Sends cancels, after the requests of this turn."""
        self._flush_soon()
        self._cancels += run_ids

    async def take(self) -> list[Event]:
        """The events that nobody has taken, once there are some."""
        events: list[Event] = []
        while not events:
            try:
                items = await (self._next or self.actor.take.remote())
            except RayError as error:
                raise WorkerLost(f"died ({type(error).__name__})") from error
            # asked for before these are looked at: the host then has the next ones ready
            self._next = self.actor.take.remote()
            events = self._joiner.join(items)
        return events

    def kill(self) -> None:
        """Ends the process."""
        self._joiner.lose()
        with contextlib.suppress(RayError, ValueError):
            ray.kill(self.actor, no_restart=True)

    async def _call(self, method: str, *args: object) -> Any:
        try:
            return await getattr(self.actor, method).remote(*args)
        except RayTaskError as error:
            # the process lives: something in it raised what no request may make it raise
            raise InternalError(
                f"a bug in interpd: the worker of model {self.model!r} raised {error.cause!r}"
            ) from error
        except RayError as error:
            raise WorkerLost(
                f"the worker of model {self.model!r} was lost: {type(error).__name__}",
                retry_after_s=RETRY_AFTER_S,
                model=self.model,
            ) from error

    def _flush_soon(self) -> None:
        if not self._requests and not self._cancels:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        requests, self._requests = self._requests, []
        cancels, self._cancels = self._cancels, []
        try:
            if requests:
                self.actor.submit.remote(requests)
            if cancels:
                self.actor.cancel.remote(cancels)
        # the actor boundary: what cannot be sent (pickling, a closed cluster) must still end
        except Exception as error:
            reason = InternalError(f"a bug in interpd: a request could not be sent to its worker: {error!r}")
            self._deliver(self, [Failed(request.run_id, reason) for request in requests])


class RayStarter:
    """Starts each replica in a process of its own. Ray must run.

    Args:
        engine_factory: ``module:function`` of ours that makes an engine.
    """

    def __init__(self, engine_factory: str = ENGINE_FACTORY) -> None:
        self._engine_factory = engine_factory

    def placed(self, spec: ModelSpec) -> ModelSpec:
        """``spec`` with the GPUs that it gets."""
        n_free, n_here = (found.get("GPU", 0.0) for found in (ray.available_resources(), ray.cluster_resources()))
        return with_gpus(spec, n_free, n_here)

    def start(self, name: str, options: ReplicaOptions, deliver: Deliver) -> RayLink:
        """A link to a new actor."""
        spec = options.spec
        # CPUs are threads of a tensor library here, not a resource that Ray should ration on one node
        actor_class = ray.remote(num_cpus=0, num_gpus=spec.num_gpus, max_restarts=0, max_task_retries=0)(ReplicaActor)
        told = replace(options, engine_factory=self._engine_factory)
        return RayLink(name, spec.name, actor_class.options(max_concurrency=1000).remote(told), deliver)
