"""The tuned lens: one affine map per layer, from its residual stream to the one that the model ends with.

An artifact (``tuned_lens``), the operation that applies it (``tuned_lens.apply``) and the method that fits it
(``tuned_lens.fit``).
"""

from collections.abc import Callable, Sequence
from typing import Any

from interpd.sdk import hookimpl
from interpd_tuned_lens.fitting import fit
from interpd_tuned_lens.lens import TunedLens, apply

__all__ = ["TunedLens", "apply", "fit"]


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
