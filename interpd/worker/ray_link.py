"""The near end of a replica: a ``WorkerLink`` over a Ray actor."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import RayError, RayTaskError

from interpd.errors import InternalError, InterpdError, WorkerLost
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, Failed, RunRequest, Tokens
from interpd.graph.schema import ArtifactInfo, Manifest
from interpd.graph.types import TensorData
from interpd.worker.link import EngineStatistics
from interpd.worker.options import Busy

RETRY_AFTER_S = 2.0
"""When whoever lost a worker may try again: a small model is back by then."""


class RayLink:
    """Implements ``worker.link.WorkerLink``.

    Args:
        name: Model, replica, incarnation.
        model: The model's name.
        actor: Handle of a ``ReplicaActor``.
        deliver: Takes the failures of requests that could not be sent.
    """

    def __init__(
        self, name: str, model: str, actor: Any, deliver: Callable[["RayLink", Sequence[Event]], None]
    ) -> None:
        self._name, self._model = name, model
        self.actor = actor
        self._deliver = deliver
        self._requests: list[RunRequest] = []
        self._cancels: list[str] = []
        self.last_busy = Busy()
        """The pool's last look at the engine."""

    @property
    def name(self) -> str:
        """Model, replica, incarnation."""
        return self._name

    @property
    def model(self) -> str:
        """The model."""
        return self._model

    def submit(self, requests: Sequence[RunRequest]) -> None:
        """Sends requests with all others of this turn of the event loop."""
        self._flush_soon()
        self._requests += requests

    def cancel(self, run_ids: Sequence[str]) -> None:
        """Sends cancels, after the requests of this turn."""
        self._flush_soon()
        self._cancels += run_ids

    def statistics(self) -> EngineStatistics:
        """Counters of the last look."""
        busy = self.last_busy
        return EngineStatistics(busy.n_steps, busy.busy_s, busy.resident_bytes)

    async def start(self) -> Manifest:
        """Loads the model. Raises the cause of a failure."""
        return await self._ask(self.actor.start.remote())

    async def describe(self) -> Manifest:
        """What the engine offers now."""
        return await self._ask(self.actor.describe.remote())

    async def tokenize(self, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """The prompts as tokens."""
        return await self._ask(self.actor.tokenize.remote(tuple(prompts)))

    async def put_blob(self, digest: str, tensor: TensorData) -> None:
        """Sends a constant."""
        await self._ask(self.actor.put_blob.remote(digest, tensor))

    async def put_artifact(self, name: str, kind: str, data: bytes) -> ArtifactInfo:
        """Sends an artifact."""
        return await self._ask(self.actor.put_artifact.remote(name, kind, data))

    async def drop_artifact(self, name: str) -> None:
        """Takes an artifact away."""
        await self._ask(self.actor.drop_artifact.remote(name))

    async def look(self) -> Busy:
        """What the engine does now."""
        self.last_busy = await self._ask(self.actor.busy.remote())
        return self.last_busy

    async def _ask(self, answer: Any) -> Any:
        try:
            value = await answer
        except RayTaskError as error:
            # the process lives: something in it raised what no request may make it raise
            raise InternalError(
                f"a bug in interpd: the worker of model {self._model!r} raised {error.cause!r}"
            ) from error
        except RayError as error:
            raise WorkerLost(
                f"the worker of model {self._model!r} was lost: {type(error).__name__}",
                retry_after_s=RETRY_AFTER_S,
                model=self._model,
            ) from error
        if isinstance(value, InterpdError):
            raise value
        return value

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
