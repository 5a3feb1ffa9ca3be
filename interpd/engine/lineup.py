"""Which rows a pass holds from block to block: only those that differ there and are still needed.

Prompts of equal tokens are one row until one of them is written to; then that prompt joins as a copy of the row, at
the last boundary before its write. So the patches of a sweep share all layers below the one that they patch, and
prompts that nobody writes to are one row throughout. A row whose last read is behind leaves at the next boundary.

The prompt of a group that is written to last (or never) keeps the row that all had in common.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.engine.binding import Location
from interpd.engine.boundaries import Boundaries
from interpd.engine.nnsight_driver import Item, Visit
from interpd.graph.order import AFTER


@dataclass(frozen=True, slots=True)
class Part:
    """What one prompt wants of a pass."""

    key: Hashable
    """Equal for prompts that are the same to the model as long as nothing is written."""
    first_write: int = AFTER
    """``order`` of the first write; ``AFTER``: there is none."""
    last_need: int = AFTER
    """``order`` of the last read or write."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The rows between two boundaries."""

    place: Location | None
    """The boundary at which they take their places; ``None``: the start of the pass."""
    rows: Mapping[int, int]
    """By the number of each prompt that is still needed: its row."""
    sources: tuple[int, ...]
    """For each row, the row of the stage before that it is made of; at the start a prompt that it holds."""
    origins: tuple[int, ...]
    """For each row, the row of the start that it comes from."""


def plan_stages(parts: Sequence[Part], boundaries: Sequence[Location] = ()) -> tuple[Stage, ...]:
    """The stages of a pass, the start first.

    Args:
        parts: By number of the prompt.
        boundaries: Where rows may join and leave, ascending.
    """
    orders = [place.order for place in boundaries]
    # -1: from the start on; as many as there are boundaries: never
    joins = [len(orders) if p.first_write == AFTER else bisect_right(orders, p.first_write) - 1 for p in parts]
    leaves = [bisect_left(orders, part.last_need + 1) for part in parts]
    keepers = {parts[number].key: number for number in sorted(range(len(parts)), key=joins.__getitem__)}
    holders: list[int] = []
    """For each row of the stage, the prompt that it is the row of."""
    stages: list[Stage] = []
    for at in [-1, *sorted({*joins, *leaves} & set(range(len(orders))))]:
        held = {n: n if joins[n] <= at else keepers[parts[n].key] for n in range(len(parts)) if leaves[n] > at}
        needed, known = dict.fromkeys(held.values()), set(holders)
        now = [holder for holder in holders if holder in needed] + [holder for holder in needed if holder not in known]
        if not now:
            break
        if now != holders:
            place = None if at < 0 else boundaries[at]
            stages.append(_stage(place, held, now, stages[-1] if stages else None))
        holders = now
    return tuple(stages)


def _stage(place: Location | None, held: Mapping[int, int], holders: list[int], before: Stage | None) -> Stage:
    at = {holder: row for row, holder in enumerate(holders)}
    rows = {number: at[holder] for number, holder in held.items()}
    if before is None:
        return Stage(place, rows, tuple(holders), tuple(range(len(holders))))
    someone = {row: number for number, row in rows.items()}
    sources = tuple(before.rows[someone[row]] for row in range(len(holders)))
    return Stage(place, rows, sources, tuple(before.origins[source] for source in sources))


class Lineup:
    """The rows of one pass, as it comes by the boundaries.

    Args:
        parts: By number of the prompt.
        boundaries: Of the model; empty: rows stay as they are.
    """

    def __init__(self, parts: Sequence[Part], boundaries: Boundaries) -> None:
        self.stages = plan_stages(parts, boundaries.places)
        self.rows_leave = bool(boundaries.places)
        """Whether no row goes on further than it is needed."""
        self._changes = {stage.place.order: stage for stage in self.stages if stage.place is not None}
        # one row of a mask is right for any number of rows; what a module behind the blocks makes of its row is not
        is_one = len(self.start.sources) == 1
        self._companions = boundaries.behind if is_one else boundaries.companions
        self._origins: tuple[int, ...] | None = None
        """Of the rows that the blocks see now; ``None``: as they were at the start."""
        self._indices: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    @property
    def start(self) -> Stage:
        """The first stage."""
        return self.stages[0]

    def places(self, last_order: int) -> Iterator[Location]:
        """Where the pass must be stopped by to change rows, up to ``last_order``."""
        yield from (stage.place for stage in self.stages if stage.place is not None)
        first = min(self._changes, default=last_order + 1)
        yield from (place for place in self._companions if first <= place.order <= last_order)

    def arrive(self, visit: Visit, tensors: Mapping[Item, Tensor]) -> tuple[Stage | None, dict[Item, Tensor]]:
        """(the stage that begins at this visit if one does, the tensors of the visit with rows of this stage)."""
        stage, changed = self._changes.get(visit.order), {}
        if stage is not None:
            assert stage.place is not None
            self._origins = stage.origins
            changed[stage.place.item] = self._taken(tensors[stage.place.item], stage.sources)
        if self._origins is None:
            return stage, changed
        for item in self._following(visit):
            full = tensors[item]
            # a mask that nobody needs is None, and what is the same for all rows has one row
            if isinstance(full, Tensor) and len(full) == len(self.start.sources):
                changed[item] = self._taken(full, self._origins)
        return stage, changed

    def _following(self, visit: Visit) -> Iterable[Item]:
        return (place.item for place in self._companions if place.order == visit.order)

    def _taken(self, full: Tensor, rows: tuple[int, ...]) -> Tensor:
        """A new tensor of these rows of ``full``."""
        key = (rows, full.device)
        if key not in self._indices:
            self._indices[key] = torch.tensor(rows, dtype=torch.int64, device=full.device)
        return full.index_select(0, self._indices[key])
