"""What the tensors of a block hold: one memory for all that torch would keep in one place, and its value now."""

from typing import Protocol

from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.views import Index, Nodes, Part, Step, Steps, selects_all


class Bond(Protocol):
    """Ties a memory to a site of the model."""

    def read(self, row: int) -> Part:
        """What is at the site now, for one row."""
        ...

    def read_positions(self, row: int, step: Index) -> Part | None:
        """What ``step`` picks of the site, where only that can be asked for; ``None`` where it cannot."""
        ...

    @property
    def has_padding(self) -> bool:
        """Whether some rows of it have padded positions."""
        ...

    def write(self, row: int, value: Part) -> bool:
        """Puts a value in force at the site, unless the model is done with the memory; whether it did."""
        ...


class Memory:
    """One memory.

    Args:
        shadow: A tensor without data of the same shape, dtype and strides; its views are those of the memory.
        rows: The value of each row of the batch, or the only value of a memory that is not kept by row; ``None``:
            to be read at the site when it is needed.
        by_row: Whether dimension 0 is the rows.
        bond: The site whose value it is; ``None``: the block made it.
    """

    def __init__(
        self, shadow: Tensor, rows: list[Part | None], *, by_row: bool = False, bond: Bond | None = None
    ) -> None:
        self.shadow = shadow
        self.rows = rows
        self.by_row = by_row
        self.bond = bond
        self.is_shared = False
        """Whether a place of the model was set to a part of it, or to what lies at another place already."""
        self.has_changed_rows = False
        """Whether some of several rows were changed in place."""

    @property
    def has_padding(self) -> bool:
        """Whether the tensor has padded positions, which its value lacks."""
        known = any(row is not None and row.padding is not None for row in self.rows)
        return known or (self.bond is not None and self.bond.has_padding)

    def row(self, number: int) -> Part:
        """The value of one row."""
        known = self.rows[number]
        if known is None:
            assert self.bond is not None, "a memory without a site is never unread"
            known = self.rows[number] = self.bond.read(number)
        return known

    def read_all(self) -> None:
        """Reads what is not read yet: the site is about to hold something else."""
        for number in range(len(self.rows)):
            self.row(number)

    def part(self, nodes: Nodes, steps: Steps) -> Part:
        """What a view shows now."""
        if not self.by_row or len(self.rows) == 1:
            return self._seen(nodes, 0, steps)
        return self._seen_by_rows(nodes, steps)

    def _seen(self, nodes: Nodes, number: int, steps: Steps) -> Part:
        if steps and isinstance(steps[0], Index) and self.rows[number] is None and self.bond is not None:
            found = self.bond.read_positions(number, steps[0])
            if found is not None:
                return _shown(nodes, found, steps[1:])
        return _shown(nodes, self.row(number), steps)

    def _seen_by_rows(self, nodes: Nodes, steps: Steps) -> Part:
        chosen, stays, first, rest = self._split(steps)
        parts = [self._seen(nodes, number, (first,)) for number in chosen]
        if not chosen:
            none = Index((slice(0, 0), *first.index[1:]), first.shape)
            return _shown(nodes, self._seen(nodes, 0, (none,)), rest)
        if not stays:
            return _shown(nodes, parts[0], rest)
        return _shown(nodes, joined(nodes, parts), rest)

    def _split(self, steps: Steps) -> tuple[range, bool, Index, Steps]:
        """(rows that a view shows, whether they stay a dimension, the index in each row, the steps after that)."""
        one_row = (1, *self.shadow.shape[1:])
        chosen, stays, first = range(len(self.rows)), True, Index((slice(None),), one_row)
        while steps and isinstance(steps[0], Index) and stays and selects_all(first.index, one_row):
            found = steps[0].of_rows()
            if found is None:
                break
            places, stays, index = found
            chosen = chosen[places.start : places.stop : places.step] if places else chosen[:0]
            first, steps = Index((slice(None) if stays else 0, *index), one_row), steps[1:]
        return chosen, stays, first, steps

    def chosen_rows(self, steps: Steps) -> range | None:
        """The rows that a view shows whole; ``None`` for any other view."""
        if not self.by_row:
            return None
        chosen, stays, first, rest = self._split(steps)
        return chosen if stays and not rest and selects_all(first.index, first.shape) else None

    def assign(self, nodes: Nodes, steps: Steps, value: Part) -> None:
        """Changes what a view shows to ``value``, which has its shape. Raises ``CannotRecord``."""
        if self.is_shared:
            raise CannotRecord(
                "this changes in place a tensor that two places of the model hold, or hold a part of; set each place "
                "to a `.clone()`"
            )
        if not self.by_row or len(self.rows) == 1:
            self._replace(0, _with_part(nodes, self, 0, steps, value))
        else:
            chosen, stays, first, rest = self._split(steps)
            if rest:
                seen = self._seen_by_rows(nodes, steps[: len(steps) - len(rest)])
                value = _put(nodes, seen, rest, value)
            self.has_changed_rows = self.has_changed_rows or len(chosen) < len(self.rows)
            for at, number in enumerate(chosen):
                one = value if not stays or len(chosen) == 1 else row_of(nodes, value, at)
                self._replace(number, _with_part(nodes, self, number, (first,), one))

    def _replace(self, number: int, value: Part) -> None:
        is_there = self.bond is not None and self.bond.write(number, value)
        # read again where it is needed, so that gradients are taken of what the model goes on with
        self.rows[number] = None if is_there else value


def joined(nodes: Nodes, parts: list[Part]) -> Part:
    """Rows as one batch. Raises ``CannotRecord`` where their padding differs."""
    if len(parts) == 1:
        return parts[0]
    if len({part.padding for part in parts}) > 1:
        for part in parts:
            part.whole()
    return Part(nodes.node("torch.cat", tuple(part.ref for part in parts)), parts[0].padding)


def row_of(nodes: Nodes, value: Part, number: int) -> Part:
    """One row of a batch, as a batch of one."""
    return Part(nodes.node("tensor.getitem", value.ref, nodes.index(slice(number, number + 1))), value.padding)


def _shown(nodes: Nodes, part: Part, steps: Steps) -> Part:
    for step in steps:
        if not (isinstance(step, Index) and selects_all(step.index, step.shape)):
            part = step.get(nodes, part)
    return part


def _with_part(nodes: Nodes, memory: Memory, number: int, steps: Steps, value: Part) -> Part:
    if all(_is_whole(step) for step in steps):
        return value
    return _put(nodes, memory.row(number), steps, value)


def _put(nodes: Nodes, whole: Part, steps: Steps, value: Part) -> Part:
    parts = [whole]
    for step in steps[:-1]:
        parts.append(_shown(nodes, parts[-1], (step,)))
    for step, part in zip(reversed(steps), reversed(parts), strict=True):
        value = value if _is_whole(step) else step.put(nodes, part, value)
    return value


def _is_whole(step: Step) -> bool:
    return isinstance(step, Index) and selects_all(step.index, step.shape)
