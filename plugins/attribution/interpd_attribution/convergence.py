"""Whether the attributions along a path add up to what they should, told as a warning."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interpd.graph.schema import OpSchema
from interpd_attribution.attribution import Token

SHARE, LEAST = 0.05, 0.01
"""A sum that misses the target's change by more than this part of it, and by more than this, is told."""

RAISED = ("n_steps", "n_samples")
"""What makes sums closer; a method without any of them is an approximation of its own, which says its deltas only."""

MOST_NAMED = 4


def unconverged(schema: OpSchema, constants: Mapping[str, Any], deltas: Any, columns: Sequence[Token]) -> str:
    """The warning that columns' scores do not add up to the target's change; empty where they do, or it is not known.

    Args:
        schema: Of the method.
        constants: What it was given.
        deltas: By how much sums miss the change, and the change: ``[2 column]``.
        columns: The attributed tokens.
    """
    given = {param.name: constants.get(param.name, param.default) for param in schema.params if param.name in RAISED}
    rows = np.asarray(deltas, dtype=np.float64)
    if not given or len(rows) != 2:
        return ""
    missed, change = rows
    far = np.flatnonzero(np.abs(missed) > np.maximum(SHARE * np.abs(change), LEAST))
    if not len(far):
        return ""
    named = [f"{columns[at].text!r} ({missed[at]:+.2g} of {change[at]:+.2g})" for at in far[:MOST_NAMED]]
    more = [f"{len(far) - MOST_NAMED} more"] if len(far) > MOST_NAMED else []
    name, value = next(iter(given.items()))
    return (
        f"scores do not add up to the target's change yet; they miss it at {', '.join(named + more)}: raise {name}, "
        f"which was {value}"
    )
