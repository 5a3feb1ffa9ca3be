"""The near end of a replica, wherever its host is: in a process of Ray's, or on a thread of this one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from interpd.config import ModelSpec
from interpd.errors import InterpdError
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest
from interpd.graph.types import TensorData
from interpd.worker.link import EngineStatistics
from interpd.worker.options import Busy, ReplicaOptions

RETRY_AFTER_S = 2.0
"""When whoever lost a worker may try again: a small model is back by then."""


class HostLink(ABC):
    """A ``worker.link.WorkerLink`` with all that pool and supervision ask of a ``ReplicaHost``.

    Args:
        name: Model, replica, incarnation.
        model: The model's name.
    """

    def __init__(self, name: str, model: str) -> None:
        self._name, self._model = name, model
        self.last_busy = Busy()
        """The last look at the engine."""

    @property
    def name(self) -> str:
        """Model, replica, incarnation."""
        return self._name

    @property
    def model(self) -> str:
        """The model."""
        return self._model

    @abstractmethod
    def submit(self, requests: Sequence[RunRequest]) -> None:
        """Hands requests over."""

    @abstractmethod
    def cancel(self, run_ids: Sequence[str]) -> None:
        """Asks for an early end."""

    @abstractmethod
    async def take(self) -> list[Event]:
        """The events that nobody has taken. Raises ``WorkerLost``, in a few words: ``died (...)``."""

    @abstractmethod
    def kill(self) -> None:
        """Ends the host as soon as that is possible. Idempotent."""

    @abstractmethod
    async def _call(self, method: str, *args: object) -> Any:
        """What a method of the host answers. Raises ``WorkerLost``, ``InternalError``."""

    def statistics(self) -> EngineStatistics:
        """Counters of the last look."""
        busy = self.last_busy
        return EngineStatistics(busy.n_steps, busy.busy_s, busy.resident_bytes)

    async def start(self) -> Manifest:
        """Loads the model. Raises the cause of a failure."""
        return await self._ask("start")

    async def progress(self) -> str:
        """How far the loading is, in words."""
        return await self._ask("progress")

    async def describe(self) -> Manifest:
        """What the engine offers now."""
        return await self._ask("describe")

    async def tokenize(self, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """The prompts as tokens."""
        return await self._ask("tokenize", tuple(prompts))

    async def put_blob(self, digest: str, tensor: TensorData) -> None:
        """Sends a constant."""
        await self._ask("put_blob", digest, tensor)

    async def put_artifact(self, name: str, kind: str, data: bytes) -> ArtifactInfo:
        """Sends an artifact."""
        return await self._ask("put_artifact", name, kind, data)

    async def drop_artifact(self, name: str) -> None:
        """Takes an artifact away."""
        await self._ask("drop_artifact", name)

    async def put_adapter(self, info: AdapterInfo, folder: str) -> AdapterInfo:
        """Has an adapter loaded from a folder of this machine."""
        return await self._ask("put_adapter", info, folder)

    async def drop_adapter(self, name: str) -> None:
        """Takes an adapter away."""
        await self._ask("drop_adapter", name)

    async def look(self) -> Busy:
        """What the engine does now."""
        self.last_busy = await self._ask("busy")
        return self.last_busy

    async def _ask(self, method: str, *args: object) -> Any:
        value = await self._call(method, *args)
        if isinstance(value, InterpdError):
            raise value
        return value


Deliver = Callable[[HostLink, Sequence[Event]], None]
"""Takes events of a link's runs that did not come from its host."""


class Starter(Protocol):
    """Where replicas come from."""

    def placed(self, spec: ModelSpec) -> ModelSpec:
        """``spec`` as its replicas will be started. Raises ``CallerError`` for what cannot be started here."""

    def start(self, name: str, options: ReplicaOptions, deliver: Deliver) -> HostLink:
        """A link to a new host, whose model is not loaded yet."""
