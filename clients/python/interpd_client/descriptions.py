"""Results and costs in a line of text."""

from collections.abc import Mapping

import numpy as np

from interpd.graph.run import Cost

MOST_SHOWN = 8
"""Numbers of an array that its line shows."""


def described(value: object) -> str:
    """One line about a result: dtype and shape, and the numbers themselves where they are few."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}{_preview(value)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {described(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = zip(value._fields, value, strict=True)  # pyright: ignore[reportAttributeAccessIssue]
        return f"{type(value).__name__}({', '.join(f'{name}={described(item)}' for name, item in fields)})"
    if isinstance(value, (list, tuple)):
        return f"{len(value)} of {described(value[0])}" if value else "empty"
    return repr(value)


def _preview(array: np.ndarray) -> str:
    """The numbers themselves where they are few."""
    if array.size == 1:
        return f" {array.item():.6g}"
    if not 0 < array.size <= MOST_SHOWN:
        return ""
    text = np.array2string(array, separator=", ", formatter={"float": lambda number: f"{number:.6g}"})
    return f" {' '.join(text.split())}"


def summary(cost: Cost) -> str:
    """What a run used, in words."""
    plural = "" if cost.n_passes == 1 else "es"
    shared = max(cost.shared_with, default=1)
    beside = f", shared with {shared - 1} other{'s' * (shared > 2)}" if shared > 1 else ""
    return (
        f"{cost.n_tokens} tokens, {cost.n_layers_run} layers, {cost.n_passes} pass{plural}{beside}, "
        f"{cost.queued_ms + cost.run_ms:.0f} ms, {cost.bytes_returned} bytes"
    )
