"""PEFT adapters of a resident model, each in a module tree of its own over the same weights.

PEFT puts its layers in place of the modules that they adapt. Done to the model itself, that would change the tree that
sites, raw paths and weights are named by, also for requests without an adapter. So each adapter gets a twin of the
tree (``engine/twin.py``): a module keeps its path there, its output is the adapted one, and the base model stays, bit
for bit, what it was.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import inject_adapter_in_model
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from interpd.engine.adapter_config import ROOT, AdapterConfig, check_settings, modules_to_save, read_config
from interpd.engine.nnsight_driver import Driver
from interpd.engine.resident import ResidentModel
from interpd.engine.selftest import failing_sites
from interpd.engine.twin import tensors_of, twin_of
from interpd.errors import (
    AdapterNotFound,
    DeviceOutOfMemory,
    FeatureUnsupported,
    InterpdError,
    InvalidRequest,
    LimitExceeded,
)
from interpd.graph.schema import AdapterInfo

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
"""What the folder of an adapter holds."""
MOST_ADAPTERS = 256
"""Adapters of one model at once."""

_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One adapter in force on a twin of the model."""

    info: AdapterInfo
    model: nn.Module
    driver: Driver
    changed: frozenset[str]
    """Paths of the modules that behave differently with it."""


class Adapters:
    """The adapters of one model. Made before the model is wrapped by anything.

    Args:
        resident: The model.
    """

    def __init__(self, resident: ResidentModel) -> None:
        self._resident = resident
        self._known: dict[str, Adapter] = {}
        try:
            # what wraps the model later (nnsight) is not to be copied
            self._template: nn.Module | InterpdError = twin_of(resident.model)
        except FeatureUnsupported as error:
            self._template = error

    @property
    def infos(self) -> dict[str, AdapterInfo]:
        """What is known, by name."""
        return {name: adapter.info for name, adapter in self._known.items()}

    def get(self, name: str) -> Adapter:
        """The adapter called ``name``. Raises ``AdapterNotFound``."""
        if name not in self._known:
            known = ", ".join(map(repr, self._known)) or "none"
            raise AdapterNotFound(f"model {self._resident.info.name!r} has no adapter {name!r}; it has {known}")
        return self._known[name]

    def put(self, info: AdapterInfo, folder: str) -> AdapterInfo:
        """Loads the adapter in ``folder``; what it is. One of the same name is replaced.

        Args:
            info: Name, source and digest.
            folder: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.

        Raises:
            FeatureUnsupported: A kind of adapter or a setting that is not served; a site that means something else.
            InvalidRequest: An adapter of another model; a damaged file.
            LimitExceeded: Too many adapters.
            DeviceOutOfMemory: It does not fit.
        """
        if isinstance(self._template, InterpdError):
            raise self._template
        if info.name not in self._known and len(self._known) >= MOST_ADAPTERS:
            raise LimitExceeded(f"{len(self._known)} adapters are loaded, the most that may; unload some")
        try:
            adapter = self._attached(info, Path(folder), twin_of(self._template))
        except InterpdError as error:
            error.message = f"adapter {info.name!r} of model {self._resident.info.name!r}: {error.message}"
            error.args = (error.message,)
            raise
        self._known[info.name] = adapter
        return adapter.info

    def drop(self, name: str) -> None:
        """Forgets an adapter; unknown names are ignored. Runs that have it already keep it to their end."""
        self._known.pop(name, None)

    def _attached(self, info: AdapterInfo, folder: Path, twin: nn.Module) -> Adapter:
        settings, tensors = _read(folder)
        check_settings(settings)
        _check_replaced(modules_to_save(settings), twin)
        tensors = _own(modules_to_save(settings), tensors, twin)
        config = read_config(settings, tensors)
        _check_modules(config, twin)
        _inject(config, tensors, twin)
        _check_values(config, tensors, twin)
        twin.eval().requires_grad_(False)
        failures = self._failures(twin)
        if failures:
            name, reason = next(iter(failures.items()))
            raise FeatureUnsupported(f"with it {len(failures)} sites mean something else, such as {name!r}: {reason}")
        info = AdapterInfo(
            name=info.name,
            source=info.source,
            digest=info.digest,
            kind=config.kind,
            n_parameters=sum(tensor.numel() for tensor in tensors.values()),
            n_modules=len(config.changed),
        )
        return Adapter(info, twin, Driver(twin), config.changed)

    def _failures(self, twin: nn.Module) -> Mapping[str, str]:
        resident = self._resident
        canonical = {name: binding for name, binding in resident.bindings.items() if binding.site.canonical}
        return failing_sites(twin, resident.attention, canonical, resident.table)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        settings = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise InvalidRequest(f"its files cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise InvalidRequest(f"{CONFIG_FILE} holds {type(settings).__name__}, expected an object")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.dtype.itemsize < 2 or not bool(torch.isfinite(tensor).all()):
            raise InvalidRequest(f"tensor {name!r} ({tensor.dtype}) holds other values than finite floating numbers")
    return settings, tensors


def _check_replaced(ends: tuple[str, ...], twin: nn.Module) -> None:
    for path, module in twin.named_modules(remove_duplicate=False):
        if path.endswith(ends or ("\0",)) and next(module.children(), None) is not None:
            raise FeatureUnsupported(
                f"its modules_to_save replace {path!r}, which has modules inside; only single layers are served"
            )


def _own(saved: tuple[str, ...], tensors: Mapping[str, Tensor], twin: nn.Module) -> dict[str, Tensor]:
    """The tensors without copies of the base model's embeddings, which PEFT saves beside adapted ones.

    Raises ``FeatureUnsupported`` for a copy that is not equal to what the model has.
    """
    base, own = tensors_of(twin), {}
    for name, tensor in tensors.items():
        path = name.removeprefix(ROOT).replace(".base_layer.", ".")
        if path not in base or path.rpartition(".")[0].endswith(saved or ("\0",)):
            own[name] = tensor
        elif tensor.shape != base[path].shape or not torch.equal(tensor.to(base[path]), base[path]):
            raise FeatureUnsupported(
                f"tensor {name!r} {list(tensor.shape)} would replace the model's own {path!r} "
                f"{list(base[path].shape)}, which is another: the adapter was trained on another model, or on one with "
                "resized embeddings"
            )
    return own


def _check_modules(config: AdapterConfig, twin: nn.Module) -> None:
    modules = dict(twin.named_modules(remove_duplicate=False))
    for path in sorted(config.changed):
        if path not in modules:
            raise InvalidRequest(
                f"it is for module {path!r}, which the model does not have ({len(config.changed)} modules in all): it "
                "was trained on another model"
            )
        if next(modules[path].children(), None) is not None:
            raise FeatureUnsupported(f"it adapts {path!r}, which has modules inside; only single layers are served")


def _inject(config: AdapterConfig, tensors: Mapping[str, Tensor], twin: nn.Module) -> None:
    plain = {name.removeprefix(ROOT): tensor for name, tensor in tensors.items()}
    try:
        with _no_warnings(), torch.no_grad():
            inject_adapter_in_model(config.peft, twin)
            set_peft_model_state_dict(twin, plain)
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(f"it does not fit: {error}") from error
    # whatever a library raises about a stranger's adapter, the model it was for goes on without it
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reason = next((line for line in lines if line.startswith("size mismatch")), " ".join(lines))
        raise InvalidRequest(f"it does not fit the model: {reason}") from error


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keeps PEFT's warnings about its own guesses to itself: what they are about is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_values(config: AdapterConfig, tensors: Mapping[str, Tensor], twin: nn.Module) -> None:
    """Every tensor of the file is in force, and nothing else."""
    with _no_warnings():
        held = get_peft_model_state_dict(twin, adapter_name="default", save_embedding_layers=False)
    plain = {name.removeprefix(ROOT): tensor for name, tensor in tensors.items()}
    if odd := sorted(held.keys() ^ plain.keys()):
        where = "the file lacks" if odd[0] in held else "the model has no place for"
        raise InvalidRequest(f"{where} {len(odd)} of its tensors, such as {odd[0]!r}")
    for name, tensor in plain.items():
        if not torch.equal(held[name], tensor.to(held[name])):
            raise InvalidRequest(f"tensor {name!r} is not what the file holds after loading")
