"""What an attribution will cost. The method is asked: it is begun, says how much there is to do, and is ended."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from interpd.graph.run import Done, Event, Progress, Started
from interpd.graph.schema import ModelInfo
from interpd_attribution.requests import Call
from interpd_attribution.results import SELF_OUTPUTS, axes_of
from interpd_attribution.sequences import Exact

N_MARKS = 2
"""So many reports of progress are waited for: how fast it goes lies between them, without what is done once."""

GRADIENTS, ROWS = "gradients", "rows"
"""What methods call their units of work: gradients of one column at one row; rows that are passed without."""


@dataclass(frozen=True)
class Estimate:
    """A forecast of one attribution, or of several together. ``None`` is what a method does not say."""

    rows: int | None
    """Rows that are passed without gradients, at most: equal ones are passed once. What a method passes once, for step
    scores or for a baseline, is not counted."""
    gradient_rows: int | None
    """Rows that are passed with gradients. One that does not fit into the worker's memory is recorded in parts, which
    takes two passes more for each block of columns; ``seconds`` has them in."""
    gradients: int | None
    """Gradients of one column at one row each."""
    seconds: float
    """On the worker, as busy as it was; what waits before it is not counted."""
    bytes_returned: int | None
    """What travels back, at most; ``None`` where a method has axes of its own."""
    is_done: bool
    """Whether it was over before it could be ended: then these are no forecasts."""

    def __add__(self, other: "Estimate") -> "Estimate":
        """Both, one after the other."""
        return Estimate(
            _sum(self.rows, other.rows),
            _sum(self.gradient_rows, other.gradient_rows),
            _sum(self.gradients, other.gradients),
            self.seconds + other.seconds,
            _sum(self.bytes_returned, other.bytes_returned),
            self.is_done and other.is_done,
        )

    def __str__(self) -> str:
        passed = "an unknown number of rows"
        if self.rows is not None:
            passed = f"{self.rows:,} rows without gradients, {self.gradient_rows:,} with {self.gradients:,} gradients"
        size = "an unknown number of" if self.bytes_returned is None else f"{self.bytes_returned:,}"
        return f"about {self.seconds:.3g} s; {passed}; {size} bytes come back"


def estimated(events: Iterable[Event], model: ModelInfo, exact: Exact, call: Call) -> Estimate:
    """The forecast, from what a run tells until it has made some progress.

    Args:
        events: Of the run; it is not read further than needed.
        model: Facts.
        exact: The sequence.
        call: The node.
    """
    began_s, marks, is_done = time.monotonic(), [], False
    for event in events:
        now_s = time.monotonic()
        if isinstance(event, Started):
            began_s = now_s
        elif isinstance(event, Progress) and event.total:
            marks.append((now_s, event))
            if len(marks) == N_MARKS:
                break
        elif isinstance(event, Done):
            is_done = True
    seconds = time.monotonic() - began_s
    last = marks[-1][1] if marks else None
    if not is_done and len(marks) == N_MARKS:
        (first_s, first), (last_s, last) = marks
        seconds = first_s - began_s + (last.total - first.done) * (last_s - first_s) / (last.done - first.done)
    # methods that tell nothing, or count other things (probes, flows), do not say how many rows they pass
    totals = (
        {ROWS: 0, GRADIENTS: 0, last.message: int(last.total)} if last and last.message in (ROWS, GRADIENTS) else {}
    )
    n_gradients = totals.get(GRADIENTS)
    return Estimate(
        rows=totals.get(ROWS),
        gradient_rows=None if n_gradients is None else math.ceil(n_gradients / n_columns_of(call)),
        gradients=n_gradients,
        seconds=seconds,
        bytes_returned=bytes_of(model, exact, call),
        is_done=is_done,
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def n_columns_of(call: Call) -> int:
    """How many columns the method makes; of a value one, where it is not known."""
    return 1 if call.asked.is_value else len(call.columns.groups)


def bytes_of(model: ModelInfo, exact: Exact, call: Call) -> int | None:
    """What comes back, in bytes; ``None`` for axes whose sizes only the worker knows."""
    if call.asked.is_value:
        return None
    n_features = exact.n_positions if call.segments is None else len(call.segments)
    sizes = {
        **model.sizes,
        "feature": n_features,
        "step": len(call.columns.groups),
        "score": len(call.asked.step_scores),
        "token": call.stop - call.start,
        "layer": _n_layers(model, call),
    }
    total = 0
    for name, axes in axes_of(call.schema).items():
        if name == "deltas":
            total += 2 * 4 * sizes["step"] * bool(call.constants.get("convergence_delta", False))
        elif name in SELF_OUTPUTS and not exact.has_encoder:
            continue
        elif all(axis in sizes for axis in axes):
            total += 4 * math.prod(sizes[axis] for axis in axes)
        else:
            return None
    return total


def _n_layers(model: ModelInfo, call: Call) -> int:
    sites = call.constants.get("sites")
    own = model.n_layers - model.n_encoder_layers
    if sites is None:
        # some count what comes before the first block as a layer, too
        return own + 1
    depths = (model.n_encoder_layers if site.startswith("encoder.") else own for site in sites)
    return sum(depth if "{i}" in site else 1 for site, depth in zip(sites, depths, strict=True))
