"""The asynchronous client's seam to the outside: ``interpd_client.Transport`` with coroutines for methods."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from interpd.graph.check import CheckReport
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest, PluginInfo
from interpd.graph.types import TensorData
from interpd.scheduler.interface import ModelStatus, Statistics
from interpd.specs import AdapterSpec, ModelSpec


class EventStream(Protocol):
    """The events of one run, in order; the last one is ``Done``, everything else that ends a run is raised."""

    @property
    def next_number(self) -> int:
        """Number of the first event that has not come out completely: where to attach after a lost connection."""
        ...

    def __aiter__(self) -> AsyncIterator[Event]:
        """The events."""
        ...

    def close(self) -> None:
        """Stops reading; the service then ends the run, unless it is kept. Idempotent; waits for nothing."""
        ...


class Transport(Protocol):
    """A service that answers, as ``interpd_client.Transport``; used by the tasks of one event loop."""

    async def models(self, timeout_s: float | None) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed."""
        ...

    async def manifest(self, model: str, timeout_s: float | None) -> Manifest:
        """What a model offers."""
        ...

    async def load(self, spec: ModelSpec, timeout_s: float | None) -> ModelStatus:
        """The status of a model once it serves."""
        ...

    async def unload(self, model: str, timeout_s: float | None) -> None:
        """Takes a model away."""
        ...

    async def tokenize(self, model: str, prompts: Sequence[Prompt], timeout_s: float | None) -> tuple[Tokens, ...]:
        """The prompts as the model's tokenizer sees them."""
        ...

    async def validate(self, request: RunRequest, timeout_s: float | None) -> CheckReport:
        """Whether the run would be accepted, with types and costs."""
        ...

    async def run(self, request: RunRequest) -> EventStream:
        """The events of a new run; ``request.deadline_s`` bounds it."""
        ...

    async def attach(self, run_id: str, start: int, timeout_s: float | None) -> EventStream:
        """The events of a known run from number ``start`` on."""
        ...

    async def cancel(self, run_id: str, timeout_s: float | None) -> None:
        """Ends a run."""
        ...

    async def put_blob(self, model: str, digest: str, tensor: TensorData, timeout_s: float | None) -> None:
        """Uploads a large constant for the workers of ``model`` (``""``: of all)."""
        ...

    async def put_artifact(
        self, model: str, name: str, kind: str, data: bytes, timeout_s: float | None
    ) -> ArtifactInfo:
        """Uploads a safetensors file as a named artifact."""
        ...

    async def get_artifact(self, model: str, name: str, timeout_s: float | None) -> bytes:
        """The safetensors file of an artifact."""
        ...

    async def delete_artifact(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an artifact away from the workers of a model."""
        ...

    async def artifacts(self, model: str, timeout_s: float | None) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the workers of a model know."""
        ...

    async def load_adapter(self, model: str, spec: AdapterSpec, timeout_s: float | None) -> AdapterInfo:
        """An adapter of a model, once requests can ask for it."""
        ...

    async def unload_adapter(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an adapter away. Raises ``AdapterNotFound``."""
        ...

    async def plugins(self, timeout_s: float | None) -> dict[str, tuple[PluginInfo, ...]]:
        """The plugins that the workers of each model found."""
        ...

    async def statistics(self, timeout_s: float | None) -> Statistics:
        """Counters of the daemon."""
        ...

    async def close(self) -> None:
        """Gives up the connection. Idempotent."""
        ...
