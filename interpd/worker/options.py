"""What one replica's process is told when it starts. Light: the pool makes it, the actor reads it."""

from dataclasses import dataclass, field

from interpd.config import ModelSpec
from interpd.graph.schema import Limits

LOADING = "load"
"""What an engine is busy with that takes as long as the loading of a model may."""

ENGINE_FACTORY = "interpd.worker.factory:make_engine"
"""Where a replica finds its engine, ``module:function``. Tests name another of ours; clients never can."""


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """One replica's model and manners."""

    spec: ModelSpec
    artifact_dir: str
    """Where uploaded artifacts are written."""
    plugins: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    share_passes: bool = True
    max_batch_tokens: int = 8192
    packed_bytes: int = 2 << 30
    batch_wait_ms: float = 2.0
    trace_hooks: bool = False
    engine_factory: str = ENGINE_FACTORY


@dataclass(frozen=True, slots=True)
class Busy:
    """What the engine's thread does now, and what it has done."""

    run_ids: tuple[str, ...] = ()
    what: str = ""
    """``pass``, ``op sae.encode@1``, ``method ...``, or a call such as ``tokenize``; empty when idle."""
    for_s: float = 0.0
    """How long the current step or call has taken so far."""
    n_steps: int = 0
    busy_s: float = 0.0
    resident_bytes: int = 0
    files_share: float = 0.0
    """Open files, as a share of what the process may open."""
    n_threads: int = 0
