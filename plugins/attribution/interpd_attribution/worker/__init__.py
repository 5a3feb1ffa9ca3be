"""The workers' part: attribution methods, run where the model is."""

from collections.abc import Callable, Sequence
from typing import Any

from interpd.sdk import hookimpl
from interpd_attribution.worker.registry import methods


@hookimpl
def interpd_register_methods() -> Sequence[Callable[..., Any]]:
    """All attribution methods: ours, and those of other packages."""
    return methods()
