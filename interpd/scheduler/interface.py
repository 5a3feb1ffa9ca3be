"""The scheduler's seam: what the service may ask of the front, and what it gets back.

Everything runs on one event loop. ``submit``, ``attach`` and ``cancel`` answer at once; what becomes of a run is read
from its handle.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from interpd.graph.check import CheckReport
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest
from interpd.graph.types import TensorData
from interpd.specs import AdapterSpec, ModelSpec
from interpd.worker.link import MODEL_STATES, ModelStatus

__all__ = ["MODEL_STATES", "Front", "ModelStatistics", "ModelStatus", "RunHandle", "Statistics"]


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """Counters of one model since the daemon started; those of the engines since each worker process started."""

    name: str
    n_queued: int = 0
    """Runs that wait for a worker."""
    n_running: int = 0
    """Runs that a worker holds."""
    n_restarts: int = 0
    n_passes: int = 0
    """Steps of the engines: a forward pass, a decode step or a slice of a method each."""
    n_shared_passes: int = 0
    """Passes in which more than one run took part."""
    rows_per_pass: float = 0.0
    """Mean number of runs that took part in a pass."""
    n_tokens: int = 0
    """Positions computed for finished runs."""
    busy_s: float = 0.0
    resident_bytes: int = 0
    """Memory of the worker processes."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A frozen snapshot of the front."""

    uptime_s: float
    draining: bool
    n_accepted: int
    n_refused: Mapping[str, int] = field(default_factory=dict)
    """Submissions that were not accepted, by the reason of the error."""
    n_ended: Mapping[str, int] = field(default_factory=dict)
    """Accepted runs that ended, by ``done``, ``cancelled`` or the reason of their error."""
    n_kept: int = 0
    """Ended runs whose events can still be read."""
    kept_bytes: int = 0
    models: tuple[ModelStatistics, ...] = ()
    owners: Mapping[str, int] = field(default_factory=dict)
    """Runs queued and running now, by owner."""


class RunHandle(Protocol):
    """One reader's hold on a run."""

    @property
    def run_id(self) -> str:
        """The run."""

    def events(self, start: int = 0) -> AsyncIterator[Event]:
        """The run's events from number ``start`` on, in order, ending with its terminal event.

        The k-th event that comes out has the number ``start + k``. A run with ``keep_s == 0`` can be read once, from 0:
        what was read is dropped. Raises ``RunNotFound`` when ``start`` lies before what is kept.
        """

    def has(self, number: int) -> bool:
        """Whether the event of this number has happened, so that ``events`` gives it without waiting."""

    def cancel(self) -> None:
        """Ends the run with ``Cancelled``; nothing happens when it has ended."""

    def release(self) -> None:
        """Says that this reader is gone (idempotent). Always call it, in a ``finally``.

        When the last reader of an unfinished run is gone, the run is cancelled after its ``keep_s``.
        """


class Front(Protocol):
    """What the daemon can do, whatever the transport."""

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed, in the order of loading."""

    def watch_models(self) -> AsyncIterator[tuple[ModelStatus, ...]]:
        """``models()`` now, and again after each change; never ends by itself."""

    def manifest(self, model: str) -> Manifest:
        """What a model offers. Raises ``ModelNotFound`` (with the nearest name), ``ModelNotReady``."""

    async def load(self, spec: ModelSpec) -> ModelStatus:
        """The status once the model serves. Raises ``InvalidRequest`` (name taken), ``ModelNotReady`` (cause)."""

    async def unload(self, model: str) -> None:
        """Takes a model away: its queued runs fail, its running ones get the drain grace. Raises ``ModelNotFound``."""

    async def tokenize(self, model: str, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """The prompts as the model's tokenizer sees them.

        Raises ``InvalidRequest``, ``ModelNotFound``, ``ModelNotReady``, ``WorkerLost``.
        """

    def submit(self, request: RunRequest, report: CheckReport | None = None) -> RunHandle:
        """A hold on the accepted run. ``request.run_id`` must be new.

        ``report``: what the checker found, when it was asked already: a large graph takes it too long for the event
        loop. Otherwise the graph is checked here.

        Raises ``InvalidGraph``, ``InvalidRequest``, ``ModelNotFound``, ``ModelNotReady``, ``LimitExceeded``,
        ``DeadlineExceeded``, ``Overloaded``, ``Draining``, ``OpFailed`` (it has ended its worker again and again).
        """

    def attach(self, run_id: str) -> RunHandle:
        """Another reader's hold on a run that is going on or kept. Raises ``RunNotFound``."""

    def cancel(self, run_id: str) -> None:
        """Ends a run; nothing happens when it has ended. Raises ``RunNotFound``."""

    async def put_blob(self, model: str | None, digest: str, tensor: TensorData) -> None:
        """Sends a large constant to the workers of ``model`` (``None``: of all).

        Raises ``CallerError``, ``DataLoss``, ``WorkerLost``.
        """

    async def put_artifact(self, model: str, name: str, kind: str, data: bytes) -> ArtifactInfo:
        """Makes safetensors bytes known to the workers of ``model``. Raises ``CallerError``."""

    async def get_artifact(self, model: str, name: str) -> tuple[ArtifactInfo, bytes]:
        """An artifact of ``model`` and its file. Raises ``ModelNotFound``, ``ModelNotReady``, ``ArtifactNotFound``."""

    async def delete_artifact(self, model: str, name: str) -> None:
        """Takes an artifact away from the workers of ``model``. Raises as ``get_artifact``, and ``WorkerLost``."""

    async def load_adapter(self, model: str, spec: AdapterSpec) -> AdapterInfo:
        """Loads an adapter into the workers of ``model``; one of its name is replaced.

        Raises ``CallerError`` (no such files, another model's), ``WorkerLost``.
        """

    async def unload_adapter(self, model: str, name: str) -> None:
        """Takes an adapter away; runs that have it keep it. Raises ``AdapterNotFound``."""

    def statistics(self) -> Statistics:
        """Counters now; those of the engines are as old as the pool's last look at them (a second or so)."""

    async def drain(self, grace_s: float) -> None:
        """Refuses new runs, waits until all have ended, and after ``grace_s`` ends the rest with ``Draining``."""
