"""The worker layer's seam: what the scheduler may ask of replicas, and what it hears from them. Knows no Ray.

A *replica* is one process that holds one model. Its link lives as long as that process: a restarted replica comes
back as a new link, so whoever holds the old one can never talk to the wrong incarnation. Calls that return nothing
never wait; what comes of them arrives through the observer, on the event loop that owns the pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from interpd.errors import InterpdError
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest, ModelInfo
from interpd.graph.types import TensorData
from interpd.specs import AdapterSpec, ModelSpec

LOADING = "loading"
READY = "ready"
FAILED = "failed"
UNLOADING = "unloading"
RESTARTING = "restarting"
MODEL_STATES = (LOADING, READY, FAILED, UNLOADING, RESTARTING)
"""``ready``: at least one replica serves. ``restarting``: none does, but one is coming back after its process died."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model as the pool sees it now."""

    name: str
    state: str
    """One of ``MODEL_STATES``."""
    detail: str = ""
    """Why, in words: the cause of a failed load, the reason of a restart."""
    info: ModelInfo | None = None
    """Facts about the model; ``None`` until its first load has finished."""
    n_replicas: int = 1
    n_ready: int = 0
    n_restarts: int = 0


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Counters of one replica's engine since its process started."""

    n_steps: int = 0
    """Forward passes, decode steps and slices of methods."""
    busy_s: float = 0.0
    resident_bytes: int = 0
    """Memory of the worker process."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A replica's process that is gone, and what the runs it held are told."""

    error: InterpdError
    """For runs that did no harm."""
    culprits: Mapping[str, InterpdError] = field(default_factory=dict)
    """For the runs that caused it, by run id."""


class WorkerLink(Protocol):
    """One live replica."""

    @property
    def name(self) -> str:
        """``facts/0.2``: model, replica, incarnation."""

    @property
    def model(self) -> str:
        """The model that it holds."""

    def submit(self, requests: Sequence[RunRequest]) -> None:
        """Hands requests over; their events, one terminal each, come through the observer."""

    def cancel(self, run_ids: Sequence[str]) -> None:
        """Asks for an early end; the terminal events still come."""

    async def tokenize(self, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """The prompts as tokens. Raises ``InvalidRequest``, ``WorkerLost``."""

    def statistics(self) -> EngineStatistics:
        """Counters of the engine, as old as the pool's last look at it."""


class WorkerObserver(Protocol):
    """Who hears about workers: the scheduler."""

    def on_events(self, link: WorkerLink, events: Sequence[Event]) -> None:
        """Events of runs that ``link`` holds, in order."""

    def on_lost(self, link: WorkerLink, lost: Lost) -> None:
        """``link`` is gone; it sends nothing any more."""

    def on_change(self) -> None:
        """Some model's status changed, or a link came up."""


class Workers(Protocol):
    """The pool of replicas, model by model."""

    def observe(self, observer: WorkerObserver) -> None:
        """Names the one observer; before ``load``."""

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed."""

    def manifest(self, model: str) -> Manifest:
        """What the model offers. Raises ``ModelNotFound``, ``ModelNotReady``."""

    def links(self, model: str) -> tuple[WorkerLink, ...]:
        """The replicas that take requests now; empty for unknown models."""

    async def load(self, spec: ModelSpec) -> None:
        """Returns when the model serves. Raises ``CallerError`` (name taken, load failed)."""

    async def unload(self, model: str) -> None:
        """Ends the model's replicas at once. Raises ``ModelNotFound``."""

    async def put_blob(self, model: str | None, digest: str, tensor: TensorData) -> None:
        """Sends a constant to every replica of ``model`` (``None``: of all). Raises ``CallerError``, ``DataLoss``."""

    async def put_artifact(self, model: str, name: str, kind: str, data: bytes) -> ArtifactInfo:
        """Makes safetensors bytes known to every replica of ``model``, restarted ones included."""

    async def get_artifact(self, model: str, name: str) -> tuple[ArtifactInfo, bytes]:
        """An artifact that the replicas of ``model`` know, and its file. Raises ``ArtifactNotFound``."""

    async def delete_artifact(self, model: str, name: str) -> None:
        """Takes an artifact away from every replica of ``model``. Raises ``ArtifactNotFound``, ``WorkerLost``."""

    async def load_adapter(self, model: str, spec: AdapterSpec) -> AdapterInfo:
        """Loads an adapter into every replica of ``model``, restarted ones included; one of its name is replaced.

        Raises ``CallerError`` (no such files, another model's), ``WorkerLost``.
        """

    async def unload_adapter(self, model: str, name: str) -> None:
        """Takes an adapter away from every replica of ``model``; runs that have it keep it.

        Raises ``AdapterNotFound``.
        """

    async def close(self) -> None:
        """Ends every replica."""
