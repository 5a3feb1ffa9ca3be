"""Results and costs in a line of text."""

from collections.abc import Mapping

import numpy as np

from interpd.graph.run import Cost


def described(value: object) -> str:
    """One line about a result: dtype and shape, and the number itself where there is one."""
    if isinstance(value, np.ndarray):
        number = f" {value.item():.6g}" if value.size == 1 else ""
        return f"{value.dtype}{list(value.shape)}{number}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {described(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = zip(value._fields, value, strict=True)  # pyright: ignore[reportAttributeAccessIssue]
        return f"{type(value).__name__}({', '.join(f'{name}={described(item)}' for name, item in fields)})"
    if isinstance(value, (list, tuple)):
        return f"{len(value)} of {described(value[0])}" if value else "empty"
    return repr(value)


def summary(cost: Cost) -> str:
    """What a run used, in words."""
    plural = "" if cost.n_passes == 1 else "es"
    shared = max(cost.shared_with, default=1)
    beside = f", shared with {shared - 1} other{'s' * (shared > 2)}" if shared > 1 else ""
    return (
        f"{cost.n_tokens} tokens, {cost.n_layers_run} layers, {cost.n_passes} pass{plural}{beside}, "
        f"{cost.queued_ms + cost.run_ms:.0f} ms, {cost.bytes_returned} bytes"
    )
