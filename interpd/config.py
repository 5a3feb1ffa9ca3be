"""Configuration: one frozen tree, one reader of files and of the environment."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to keep resident, and how."""

    source: str
    """Hub id or local folder."""
    name: str = ""
    """What clients call it; the last part of ``source`` when empty."""
    revision: str | None = None
    """Hub commit, tag or branch; hub ids need one (a local folder is identified by the hash of its weights)."""
    dtype: str = "auto"
    """``auto``: as the checkpoint says, except that half precision on a CPU is computed in float32."""
    device: str = "auto"
    """``auto``: ``cuda`` where the worker has one, else ``cpu``."""
    num_gpus: float = 0.0
    num_cpus: float = 1.0
    replicas: int = 1
