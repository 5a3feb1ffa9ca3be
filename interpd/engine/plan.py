"""The engine's seam: what the worker asks of an engine, whatever drives the model behind it.

An engine is a step loop without a thread of its own. The worker's one engine thread calls ``submit`` and
``cancel`` as requests arrive and ``step`` as long as there is work; every step runs at most one forward pass
(or one decode step, or one slice of a method) and returns what happened. Nothing here waits, sleeps or locks.
"""

from collections.abc import Sequence
from typing import Protocol

from interpd.graph.ir import Prompt
from interpd.graph.run import Event, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest
from interpd.graph.types import TensorData


class Engine(Protocol):
    """Runs requests on one resident model. All methods are called from one thread."""

    def describe(self) -> Manifest:
        """What this engine offers now."""

    def tokenize(self, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """The prompts as token ids, strings and offsets. Raises ``InvalidRequest``."""

    def put_blob(self, digest: str, tensor: TensorData) -> None:
        """Keeps an uploaded constant. Raises ``DataLoss`` when content and digest disagree."""

    def put_artifact(self, name: str, kind: str, path: str) -> ArtifactInfo:
        """Makes the safetensors file at ``path`` known under ``name``. Raises ``CallerError``."""

    def drop_artifact(self, name: str) -> None:
        """Forgets an artifact; unknown names are ignored. What runs with it now may fail."""

    def put_adapter(self, info: AdapterInfo, folder: str) -> AdapterInfo:
        """Loads an adapter; what it is. One of the same name is replaced. Raises ``CallerError``.

        Args:
            info: Name, source and digest.
            folder: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        """

    def drop_adapter(self, name: str) -> None:
        """Forgets an adapter; unknown names are ignored. What runs with it now goes on."""

    def submit(self, request: RunRequest) -> None:
        """Takes a request in. Whatever is wrong with it comes back as its ``Failed`` event, never raised here."""

    def cancel(self, run_id: str) -> None:
        """Ends a run before its next step; unknown ids are ignored (the run may just have ended)."""

    @property
    def has_work(self) -> bool:
        """Whether ``step`` has anything to do."""

    @property
    def busy_with(self) -> tuple[tuple[str, ...], str]:
        """(run ids, what runs now: ``pass``, ``op sae.encode@1``, ``method ...``), for the watchdog.

        For a pass the runs that share it, for an operation or method the one run that it belongs to.

        The only member that other threads may read.
        """

    def step(self) -> Sequence[Event]:
        """Runs one pass, decode step or slice of a method, and returns the events it caused, in order."""

    def close(self) -> None:
        """Frees the model."""
