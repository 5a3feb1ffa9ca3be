"""The workers' part: an artifact (``tuned_lens``), the operation that applies it and the method that fits it."""

from collections.abc import Callable, Sequence
from typing import Any

from interpd.sdk import hookimpl
from interpd_tuned_lens.fitting import fit
from interpd_tuned_lens.lens import TunedLens, apply


@hookimpl
def interpd_register_artifacts() -> Sequence[type]:
    """The lens."""
    return [TunedLens]


@hookimpl
def interpd_register_ops() -> Sequence[Callable[..., Any]]:
    """Applying a lens."""
    return [apply]


@hookimpl
def interpd_register_methods() -> Sequence[Callable[..., Any]]:
    """Fitting a lens."""
    return [fit]
