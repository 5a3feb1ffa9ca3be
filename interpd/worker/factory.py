"""How an engine is made: plugins, weights, sites, then nnsight. Imported only where engines are."""

import math
from collections.abc import Mapping
from types import ModuleType

import torch

from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.plan import Engine
from interpd.engine.resident import Loaded, make_resident
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import Registry, load_registry
from interpd.telemetry import Log
from interpd.worker.checkpoint import Report, no_report
from interpd.worker.loading import load_model
from interpd.worker.options import ReplicaOptions

log = Log("hooks")


def make_engine(options: ReplicaOptions, report: Report = no_report) -> Engine:
    """The engine of one replica, its model resident and its sites tested. Raises what loading raises.

    ``report`` takes words on how far that is.
    """
    if options.spec.num_cpus:
        torch.set_num_threads(math.ceil(options.spec.num_cpus))
    registry = make_registry(options)
    loaded = load_model(options.spec, registry, report)
    report("testing sites")
    return engine_on(loaded, registry, options)


def make_registry(options: ReplicaOptions, modules: Mapping[str, ModuleType] | None = None) -> Registry:
    """The registry of the plugins of ``options``: of installed ones, or of ``modules`` by plugin name."""
    candidates = None
    if modules is not None:
        candidates = [built_in(), *(candidate_of(module, name) for name, module in modules.items())]
    return load_registry(options.plugins, candidates=candidates, trace=log.info if options.trace_hooks else None)


def engine_on(loaded: Loaded, registry: Registry, options: ReplicaOptions) -> NnsightEngine:
    """The engine of a model that is loaded, its sites tested."""
    return NnsightEngine(
        make_resident(loaded, registry),
        registry,
        options.limits,
        share_passes=options.share_passes,
        max_batch_tokens=options.max_batch_tokens,
        packed_bytes=options.packed_bytes,
    )
