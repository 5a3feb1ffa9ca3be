"""What nodes and methods may do with the model besides reading and writing sites: call modules, read weights."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interpd.engine.adapters import Adapter
from interpd.engine.model_config import devices_of, long_from, n_target_vocab
from interpd.engine.nnsight_driver import Driver
from interpd.engine.resident import ResidentModel
from interpd.engine.store import Store
from interpd.engine.weights import Weights
from interpd.errors import CallerError
from interpd.graph.schema import ModuleSchema, OpSchema

_ARTIFACT = "artifact:"


def _checked_ids(ids: Tensor, module: ModuleSchema) -> Tensor:
    """Token ids that the module knows: others end the context of a GPU, and everybody's work there."""
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise CallerError(f"module {module.path!r} takes token ids, int64, got {str(ids.dtype).removeprefix('torch.')}")
    if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < (module.n_ids or 0)):
        wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        raise CallerError(f"module {module.path!r} knows the token ids 0..{(module.n_ids or 0) - 1}, got {wrong}")
    return ids.long()


@dataclass(slots=True)
class _Activity:
    """What is being done with a model, whichever adapter is in force."""

    now: tuple[tuple[str, ...], str] = ((), "")


class ModelAccess:
    """The resident model as the interpreter sees it, and what is being done with it now."""

    def __init__(self, resident: ResidentModel, driver: Driver, store: Store) -> None:
        self.resident = resident
        self.driver = driver
        self.adapter: Adapter | None = None
        """What is in force; ``None``: the model as it is."""
        self.store = store
        self.weights = Weights(resident.model, rewritten=resident.rewritten)
        self.device: torch.device = resident.model.device
        """Where inputs go, and where all values of requests are, on whichever devices the layers may be."""
        is_spread = len(devices_of(resident.model)) > 1
        self.index_device = torch.device("cpu") if is_spread else self.device
        """Where indices are made that the model's own code applies to tensors of any of its layers."""
        arguments = inspect.signature(resident.model.forward).parameters
        self.takes_cache = "past_key_values" in arguments
        """Whether a pass can go on from an earlier one."""
        self.takes_positions = "position_ids" in arguments
        """Whether it is told positions; others derive them from the mask."""
        # of the model's config, which is slow to ask, and methods ask in every pass
        self.n_vocab, self.n_target_vocab = resident.n_vocab, n_target_vocab(resident.model)
        self.long_from = long_from(resident.model)
        """As in ``model_config.long_from``."""
        self.artifacts_used: dict[str, dict[tuple[str, str], None]] = {}
        """(name, digest) of each artifact, by the run that has used it."""
        self._activity = _Activity()

    @property
    def busy_with(self) -> tuple[tuple[str, ...], str]:
        """(run ids, what runs): replaced as a whole, so that another thread may read it."""
        return self._activity.now

    @busy_with.setter
    def busy_with(self, now: tuple[tuple[str, ...], str]) -> None:
        self._activity.now = now

    def with_adapter(self, adapter: Adapter) -> "ModelAccess":
        """The same model with an adapter in force. Store, weights and activity are those of this one."""
        adapted = copy(self)
        adapted.adapter, adapted.driver = adapter, adapter.driver
        adapted.weights = Weights(adapter.model, self.weights, rewritten=self.resident.rewritten)
        return adapted

    @property
    def adapter_key(self) -> str:
        """What tells the adapter in force from all others; empty: none is."""
        return "" if self.adapter is None else self.adapter.info.digest

    def ids(self, ids: Iterable[int]) -> Tensor:
        """Token ids as the model takes them, ``[1 pos]``."""
        return torch.tensor([list(ids)], dtype=torch.int64, device=self.device)

    def parameter(self, name: str) -> Tensor:
        """A weight or buffer of the model, not copied where it is on the device of all values.

        Raises ``CallerError`` for one of a module that the adapter in force changes: it is not what runs.
        """
        owner = name.rpartition(".")[0]
        if self.adapter is not None and owner in self.adapter.changed:
            raise CallerError(
                f"adapter {self.adapter.info.name!r} changes module {owner!r}, so {name!r} is not what runs: read it "
                "in a request without the adapter, or call the module"
            )
        return self.resident.parameter(name).to(self.device)

    def call(self, module: str, x: Tensor) -> Tensor:
        """A module applied to ``x``, activations or token ids, also in the middle of a pass. Raises ``CallerError``."""
        known = self.resident.modules.get(module)
        if known is not None and known.n_ids is not None:
            x = _checked_ids(x, known)
        with self.driver.stood_down():
            output = self.driver.model.get_submodule(module)(x)
        if not isinstance(output, Tensor):
            raise CallerError(f"module {module!r} returns {type(output).__name__}, not a tensor: it cannot be called")
        return output.to(self.device)

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
