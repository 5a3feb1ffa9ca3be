"""How an engine is made: plugins, weights, sites, then nnsight. Imported only where engines are."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

import torch

from interpd.engine.guard import unchanged_globals
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.plan import Engine
from interpd.engine.resident import Loaded, make_resident
from interpd.plugin.discovery import Candidate, built_in, candidate_of, discover
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
    registry = make_registry(options, report=report)
    loaded = load_model(options.spec, registry, report)
    report("testing sites")
    return engine_on(loaded, registry, options)


def make_registry(
    options: ReplicaOptions, modules: Mapping[str, ModuleType] | None = None, report: Report = no_report
) -> Registry:
    """The registry of the plugins of ``options``: of installed ones, or of ``modules`` by plugin name.

    ``report`` is told which one is being imported.
    """
    given = (modules or {}).items()
    found = discover() if modules is None else [built_in(), *(candidate_of(module, name) for name, module in given)]
    candidates = [_reporting(candidate, report) for candidate in found]
    # what a plugin sets in torch when it is imported is no setting of everybody's
    with unchanged_globals():
        return load_registry(options.plugins, candidates=candidates, trace=log.info if options.trace_hooks else None)


def _reporting(candidate: Candidate, report: Report) -> Candidate:
    def load() -> object:
        report(f"importing plugin {candidate.name!r}")
        return candidate.load()

    return replace(candidate, load=load)


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
