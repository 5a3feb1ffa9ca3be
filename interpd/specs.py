"""Which models and adapters to keep resident, as data."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from interpd.errors import InvalidRequest

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
"""In which a model may be computed."""
MOST_REPLICAS = 64
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""How a model may be spread over several GPUs, as ``accelerate`` spells it; ``auto`` is ``balanced``."""
DeviceMap = str | tuple[tuple[str, int], ...]
"""One of ``DEVICE_MAPS``, or (path of a module, number of a GPU) of each part; empty: one device."""
_MODEL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """Which PEFT adapter a model has."""

    name: str
    """What requests call it."""
    source: str
    """Hub id or local folder."""
    revision: str | None = None
    """Hub commit, tag or branch; hub ids need one."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to keep resident, and how."""

    source: str
    """Hub id, local folder, or the name of a bundled model (``facts``)."""
    name: str = ""
    """What clients call it; the last part of ``source`` when empty."""
    revision: str | None = None
    """Hub commit, tag or branch; hub ids need one (a local folder is identified by the hash of its weights)."""
    dtype: str = "auto"
    """``auto``: as the checkpoint says, except that half precision on a CPU is computed in float32."""
    device: str = "auto"
    """``auto``: ``cuda`` where the worker has one, else ``cpu``."""
    num_gpus: float = 0.0
    """GPUs of each replica; a fraction shares one. 0: one where device is ``auto`` and one is free, else none."""
    num_cpus: float = 0.0
    """Threads of each replica's tensor library, rounded up. 0: an even share of the machine's cores, or one where the
    replica computes on GPUs."""
    replicas: int = 1
    """How many processes hold a copy."""
    adapters: tuple[AdapterSpec, ...] = ()
    """Loaded with it; a table in the file, name to ``SOURCE[@REVISION]``."""
    device_map: DeviceMap = ""
    """How it is spread over ``num_gpus`` GPUs: a policy, or a table of module paths and GPU numbers. Empty: not at all,
    or ``auto`` where ``num_gpus`` is above 1."""


def checked_model(spec: ModelSpec, where: str = "model") -> ModelSpec:
    """``spec`` with the name that it will have. Raises ``InvalidRequest`` for values that cannot be meant."""
    name = spec.name or Path(spec.source).expanduser().resolve().name
    # the name becomes part of process names and paths
    if not _MODEL_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{where}: name {name!r} may hold letters, digits, '-', '_' and '.' (not first), 100 at most; append =NAME"
        )
    if spec.num_gpus < 0 or spec.num_cpus < 0:
        raise InvalidRequest(f"{where}: num_gpus and num_cpus must not be negative")
    if not 1 <= spec.replicas <= MOST_REPLICAS:
        raise InvalidRequest(f"{where}: replicas must be 1 to {MOST_REPLICAS}, got {spec.replicas}")
    if spec.dtype not in DTYPES:
        raise InvalidRequest(f"{where}: dtype {spec.dtype!r} is none of {', '.join(DTYPES)}")
    if not _DEVICE.fullmatch(spec.device):
        raise InvalidRequest(f"{where}: device {spec.device!r} is none of auto, cpu, cuda, cuda:N")
    spec = _spread(spec, where)
    names = [adapter.name for adapter in spec.adapters]
    if twice := next((adapter for adapter in names if names.count(adapter) > 1), ""):
        raise InvalidRequest(f"{where}: adapter {twice!r} is there twice")
    return replace(spec, name=name)


def _spread(spec: ModelSpec, where: str) -> ModelSpec:
    """``spec`` with the device map and the number of GPUs that it means."""
    wanted, n_gpus = spec.device_map, spec.num_gpus
    if not isinstance(wanted, str):
        if not wanted or any(number < 0 for _, number in wanted):
            raise InvalidRequest(f"{where}: device_map wants paths of modules with numbers of GPUs, from 0")
        n_needed = max(number for _, number in wanted) + 1
        if n_gpus and n_needed > n_gpus:
            raise InvalidRequest(f"{where}: device_map names GPU {n_needed - 1}, num_gpus is {n_gpus:g}")
        n_gpus = n_gpus or float(n_needed)
    elif wanted and wanted not in DEVICE_MAPS:
        raise InvalidRequest(f"{where}: device_map {wanted!r} is none of {', '.join(DEVICE_MAPS)}, and no table")
    elif wanted and n_gpus < 2:
        raise InvalidRequest(f"{where}: device_map {wanted!r} is for several GPUs: set num_gpus, got {n_gpus:g}")
    if n_gpus > 1 and n_gpus != int(n_gpus):
        raise InvalidRequest(f"{where}: num_gpus above 1 must be a whole number, got {n_gpus:g}")
    wanted = wanted or ("auto" if n_gpus > 1 else "")
    if wanted and spec.device not in ("auto", "cuda"):
        raise InvalidRequest(f"{where}: device {spec.device!r} is one device, num_gpus {n_gpus:g} asks for several")
    return replace(spec, device_map=wanted, num_gpus=n_gpus)


def with_revision(text: str) -> tuple[str, str | None]:
    """(source, revision) of ``SOURCE[@REVISION]``; a path that exists is taken whole."""
    if Path(text).expanduser().exists() or "@" not in text:
        return text, None
    source, _, revision = text.rpartition("@")
    return source, revision


def parse_adapter(text: str) -> tuple[str, AdapterSpec]:
    """(model, adapter) that ``MODEL:NAME=SOURCE[@REVISION]`` means. Raises ``InvalidRequest``."""
    model, colon, rest = text.partition(":")
    name, equals, source = rest.partition("=")
    if not (model and colon and name and equals and source):
        raise InvalidRequest(f"adapter {text!r}: expected MODEL:NAME=SOURCE[@REVISION]")
    return model, checked_adapter(AdapterSpec(name, *with_revision(source)), f"adapter {text!r}")


def checked_adapter(spec: AdapterSpec, where: str) -> AdapterSpec:
    """The same spec. Raises ``InvalidRequest`` for names and sources that cannot be meant."""
    if not _MODEL_NAME.fullmatch(spec.name):
        raise InvalidRequest(
            f"{where}: name {spec.name!r} may hold letters, digits, '-', '_' and '.' (not first), 100 at most"
        )
    if not spec.source:
        raise InvalidRequest(f"{where}: no source; give a hub id or a folder of the daemon's machine")
    return spec
