"""The workers' part: attribution methods, run where the model is."""

from collections.abc import Callable, Sequence
from typing import Any

from interpd.sdk import hookimpl
from interpd_attribution.worker.evaluation.changes import noisy, redrawn
from interpd_attribution.worker.evaluation.method import evaluate
from interpd_attribution.worker.registry import offered
from interpd_attribution.worker.scoring.listing import listing


@hookimpl
def interpd_register_ops() -> Sequence[Callable[..., Any]]:
    """Operations that graphs of evaluations are made of."""
    return (noisy, redrawn)


@hookimpl
def interpd_register_methods() -> Sequence[Callable[..., Any]]:
    """All attribution methods, ours and those of other packages, and their evaluation."""
    found = offered()
    return (*found.methods, listing(found.origins, found.problems), evaluate)
