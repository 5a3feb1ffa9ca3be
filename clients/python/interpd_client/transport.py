"""The client's one seam to the outside: what it asks of a service, in the domain's own types.

``GrpcTransport`` speaks to a daemon; ``interpd_client.testing.FakeTransport`` answers without one.
"""

from collections.abc import Iterator, Sequence
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

    def __iter__(self) -> Iterator[Event]:
        """The events."""
        ...

    def close(self) -> None:
        """Stops reading; the service then ends the run, unless it is kept. Idempotent."""
        ...


class Transport(Protocol):
    """A service that answers. Every call raises the classes of ``interpd.errors``; all may be used by any thread."""

    def models(self, timeout_s: float | None) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed."""
        ...

    def manifest(self, model: str, timeout_s: float | None) -> Manifest:
        """What a model offers."""
        ...

    def load(self, spec: ModelSpec, timeout_s: float | None) -> ModelStatus:
        """The status of a model once it serves."""
        ...

    def unload(self, model: str, timeout_s: float | None) -> None:
        """Takes a model away."""
        ...

    def tokenize(self, model: str, prompts: Sequence[Prompt], timeout_s: float | None) -> tuple[Tokens, ...]:
        """The prompts as the model's tokenizer sees them."""
        ...

    def validate(self, request: RunRequest, timeout_s: float | None) -> CheckReport:
        """Whether the run would be accepted, with types and costs."""
        ...

    def run(self, request: RunRequest) -> EventStream:
        """The events of a new run; ``request.deadline_s`` bounds it."""
        ...

    def attach(self, run_id: str, start: int, timeout_s: float | None) -> EventStream:
        """The events of a known run from number ``start`` on."""
        ...

    def cancel(self, run_id: str, timeout_s: float | None) -> None:
        """Ends a run."""
        ...

    def put_blob(self, model: str, digest: str, tensor: TensorData, timeout_s: float | None) -> None:
        """Uploads a large constant for the workers of ``model`` (``""``: of all)."""
        ...

    def put_artifact(self, model: str, name: str, kind: str, data: bytes, timeout_s: float | None) -> ArtifactInfo:
        """Uploads a safetensors file as a named artifact."""
        ...

    def get_artifact(self, model: str, name: str, timeout_s: float | None) -> bytes:
        """The safetensors file of an artifact. Raises ``ArtifactNotFound``."""
        ...

    def delete_artifact(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an artifact away from the workers of a model. Raises ``ArtifactNotFound``."""
        ...

    def artifacts(self, model: str, timeout_s: float | None) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the workers of a model know."""
        ...

    def load_adapter(self, model: str, spec: AdapterSpec, timeout_s: float | None) -> AdapterInfo:
        """An adapter of a model, once requests can ask for it."""
        ...

    def unload_adapter(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an adapter away. Raises ``AdapterNotFound``."""
        ...

    def plugins(self, timeout_s: float | None) -> dict[str, tuple[PluginInfo, ...]]:
        """The plugins that the workers of each model found."""
        ...

    def statistics(self, timeout_s: float | None) -> Statistics:
        """Counters of the daemon."""
        ...

    def close(self) -> None:
        """Gives up the connection. Idempotent."""
        ...
