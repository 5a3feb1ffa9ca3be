"""What nodes and methods may do with the model besides reading and writing sites: call modules, read weights."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from interpd.engine.nnsight_driver import Driver
from interpd.engine.resident import ResidentModel
from interpd.engine.store import Store
from interpd.engine.weights import Weights
from interpd.errors import CallerError
from interpd.graph.schema import OpSchema

_ARTIFACT = "artifact:"


class ModelAccess:
    """The resident model as the interpreter sees it, and what is being done with it now."""

    def __init__(self, resident: ResidentModel, driver: Driver, store: Store) -> None:
        self.resident = resident
        self.driver = driver
        self.store = store
        self.weights = Weights(resident.model)
        self.device: torch.device = resident.model.device
        arguments = inspect.signature(resident.model.forward).parameters
        self.can_keep_logits = "logits_to_keep" in arguments
        """Whether the model can compute logits at some positions only."""
        self.takes_cache = "past_key_values" in arguments
        """Whether a pass can go on from an earlier one."""
        self.takes_positions = "position_ids" in arguments
        """Whether it is told positions; others derive them from the mask."""
        self.artifacts_used: dict[str, dict[tuple[str, str], None]] = {}
        """(name, digest) of each artifact, by the run that has used it."""
        self.busy_with: tuple[tuple[str, ...], str] = ((), "")
        """(run ids, what runs): replaced as a whole, so that another thread may read it."""

    def ids(self, ids: Iterable[int]) -> Tensor:
        """Token ids as the model takes them, ``[1 pos]``."""
        return torch.tensor([list(ids)], dtype=torch.int64, device=self.device)

    def parameter(self, name: str) -> Tensor:
        """A weight or buffer, not copied."""
        return self.resident.parameter(name)

    def call(self, module: str, x: Tensor) -> Tensor:
        """A module applied to ``x``, also in the middle of a pass. Raises ``CallerError``."""
        with self.driver.stood_down():
            output = self.resident.module(module)(x)
        if not isinstance(output, Tensor):
            raise CallerError(f"module {module!r} returns {type(output).__name__}, not a tensor: it cannot be called")
        return output

    def artifact_names(self, schema: OpSchema, params: Mapping[str, Any]) -> dict[str, str]:
        """The artifacts that a call names, by parameter."""
        return {
            param.name: params[param.name]
            for param in schema.params
            if param.kind.startswith(_ARTIFACT) and params.get(param.name) is not None
        }

    def use_artifacts(self, names: Mapping[str, str], run_id: str) -> dict[str, Any]:
        """The artifacts of a call by parameter, loaded. Raises ``ArtifactNotFound``."""
        loaded = {param: self.store.artifact(name) for param, name in names.items()}
        used = self.artifacts_used.setdefault(run_id, {}) if names else {}
        used.update({(name, self.store.artifacts[name].digest): None for name in names.values()})
        return loaded

    def axis_sizes(self, artifacts: Iterable[str]) -> dict[str, int]:
        """The axis sizes that these artifacts bind."""
        return {axis: size for name in artifacts for axis, size in self.store.artifacts[name].dims}

    @contextmanager
    def busy(self, run_id: str, what: str) -> Iterator[None]:
        """Says what runs, for the watchdog, while it runs."""
        before = self.busy_with
        self.busy_with = ((run_id,), what)
        try:
            yield
        finally:
            self.busy_with = before
