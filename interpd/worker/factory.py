"""How a replica's process makes its engine: plugins, weights, sites, then nnsight. Imported in that process only."""

import math

import torch

from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.plan import Engine
from interpd.engine.resident import make_resident
from interpd.plugin.registry import load_registry
from interpd.telemetry import Log
from interpd.worker.checkpoint import Report, no_report
from interpd.worker.loading import load_model
from interpd.worker.options import ReplicaOptions

log = Log("hooks")


def make_engine(options: ReplicaOptions, report: Report = no_report) -> Engine:
    """The engine of one replica, its model resident and its sites tested. Raises what loading raises.

    ``report`` takes words on how far that is.
    """
    torch.set_num_threads(math.ceil(options.spec.num_cpus))
    registry = load_registry(options.plugins, trace=log.info if options.trace_hooks else None)
    loaded = load_model(options.spec, registry, report)
    report("testing sites")
    resident = make_resident(loaded, registry)
    return NnsightEngine(
        resident,
        registry,
        options.limits,
        share_passes=options.share_passes,
        max_batch_tokens=options.max_batch_tokens,
    )
