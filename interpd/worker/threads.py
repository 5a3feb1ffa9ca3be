"""How many threads a replica's tensor library gets: what its model asks for, or an even share of the machine."""

import os
from dataclasses import replace

import psutil

from interpd.specs import ModelSpec


def n_threads_here() -> int:
    """Threads of a model that is alone on this machine: one per physical core that this process may use."""
    n_usable = len(os.sched_getaffinity(0))
    return max(1, min(n_usable, psutil.cpu_count(logical=False) or n_usable))


def with_threads(spec: ModelSpec, n_replicas: int) -> ModelSpec:
    """``spec`` as it will be started.

    Args:
        spec: As configured. ``num_cpus`` 0 leaves the choice to the node; a model on GPUs then gets one thread.
        n_replicas: Of all models of the node, those of ``spec`` included.
    """
    if spec.num_cpus:
        return spec
    return replace(spec, num_cpus=1.0 if spec.num_gpus else float(max(1, n_threads_here() // n_replicas)))
