"""Bounds of the service itself. What bounds a run stands in ``graph.schema.Limits``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Everything that a connection or a call may take."""

    message_bytes: int = 16 << 20
    """One message: a graph with its inline constants, a manifest."""
    metadata_bytes: int = 64 << 10
    """Headers of one call."""
    upload_bytes: int = 1 << 30
    """One upload."""
    uploads_bytes: int = 4 << 30
    """All uploads that are under way."""
    answer_s: float = 600.0
    """A call with one answer takes no longer."""
    load_s: float = 3600.0
    """Loading a model takes no longer."""
    stall_s: float = 120.0
    """A stream in which nothing moves for this long is ended: the reader stopped reading, or the sender sending."""
    keepalive_s: float = 60.0
    """Silence after which a connection is asked whether it still exists."""
    n_calls: int = 4_000
    """Calls under way; more are refused at once."""
    n_streams: int = 1_000
    """Calls under way on one connection; more wait."""
