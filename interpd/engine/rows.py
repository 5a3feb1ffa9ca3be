"""Where one prompt's values lie in a shared pass: its row, and its own positions among the padding.

A request sees each site as if its prompt ran alone: batch dimension 1, its own positions. Everything that turns the
full tensor of a pass into that view, and a new value back into the full tensor, is here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.engine.binding import Binding
from interpd.errors import CallerError, PositionOutOfRange
from interpd.graph.run import Lengths

LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class Frame:
    """The shape of one forward pass."""

    n_pos: int
    """Positions of each row, padding included."""
    padded_left: bool = False
    """Generations pad on the left, so that the newest token of all rows is the last; other passes on the right."""
    kept: tuple[int, ...] | None = None
    """Ascending positions of the pass for which logits are computed; ``None``: all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt in a pass."""

    index: int
    """Place in the batch."""
    n_pos: int
    """Its own positions in this pass: all of the prompt, or 1 in a decode step."""
    n_keys: int
    """Past and present positions."""
    n_src: int = 0
    """Positions of its source; 0 without an encoder. Sources are padded on the right, in generations too."""
    n_rows: int = 1
    """More than one: neighbouring rows that are treated alike."""

    def first(self, frame: Frame) -> int:
        """The place of its first position among those of the pass."""
        return frame.n_pos - self.n_pos if frame.padded_left else 0


def row_of(index: int, lengths: Lengths) -> Row:
    """A whole prompt in a pass without a past."""
    n_pos = lengths.pos or 0
    return Row(index, n_pos, n_pos, lengths.src_pos or 0)


def slice_of(full: Tensor, binding: Binding, row: Row) -> Tensor:
    """The part of the tensor at a location that belongs to ``row``: all of it where dimension 0 is not rows."""
    return full.narrow(0, row.index, row.n_rows) if binding.site.shares_pass else full


def viewed(part: Tensor, binding: Binding) -> Tensor:
    """``part`` as the site means it."""
    return part if binding.view is None else binding.view(part)


def cut(value: Tensor, binding: Binding, row: Row, frame: Frame) -> Tensor:
    """A view of ``value`` (a row as the site means it) without padding."""
    if not binding.site.shares_pass:
        return value
    first, n_pos = row.first(frame), row.n_pos
    if binding.site.name == LOGITS and frame.kept is not None:
        # the row's own positions are neighbours in `kept`: a row that is asked for as a whole keeps all of them
        places = [i for i, place in enumerate(frame.kept) if first <= place < first + n_pos]
        first, n_pos = places[0], len(places)
    for axis in binding.causal_axes:
        value = value.narrow(axis, first, n_pos)
    for axis in binding.key_axes:
        # a sliding window keeps fewer keys than there were positions
        n_keys = min(row.n_keys, value.shape[axis])
        value = value.narrow(axis, value.shape[axis] - n_keys if frame.padded_left else 0, n_keys)
    for axis in binding.source_axes:
        value = value.narrow(axis, 0, row.n_src)
    return value


def own(full: Tensor, binding: Binding, row: Row, frame: Frame) -> Tensor:
    """A view of the value of a site for one row."""
    return cut(viewed(slice_of(full, binding, row), binding), binding, row, frame)


def read(full: Tensor, binding: Binding, row: Row, frame: Frame) -> Tensor:
    """A copy of the value of a site for one row."""
    return own(full, binding, row, frame).clone()


def read_logits(full: Tensor, row: Row, frame: Frame, positions: tuple[int, ...]) -> Tensor:
    """Copies of the logits at some of the row's own positions, where only some were computed."""
    first, kept = row.first(frame), frame.kept
    places = [first + own for own in own_positions(positions, row.n_pos)]
    columns = places if kept is None else [kept.index(place) for place in places]
    return full[row.index : row.index + 1, columns]


def select(value: Tensor, axis: int, positions: tuple[int, ...]) -> Tensor:
    """Copies of ``value`` at some of its positions along ``axis``."""
    index = own_positions(positions, value.shape[axis])
    return value.index_select(axis, torch.tensor(index, dtype=torch.int64, device=value.device))


def own_positions(positions: tuple[int, ...], n_pos: int) -> list[int]:
    """Positions counted from the start. Raises ``PositionOutOfRange``."""
    for position in positions:
        if not -n_pos <= position < n_pos:
            raise PositionOutOfRange(f"position {position} is outside of {n_pos} tokens", n_tokens=n_pos)
    return [position % n_pos for position in positions]


def written(full: Tensor, binding: Binding, row: Row, frame: Frame, value: Tensor) -> Tensor:
    """``value`` put in place of one row's own positions, in ``full`` itself, which must be a copy of ours.

    Raises:
        CallerError: ``value`` does not broadcast to the site's shape.
    """
    part = slice_of(full, binding, row)
    if binding.view is None and binding.merge is None:
        region = cut(part, binding, row, frame)
        region.copy_(fitted(value, region, binding))
        return full
    new = viewed(part, binding).clone()
    region = cut(new, binding, row, frame)
    region.copy_(fitted(value, region, binding))
    part.copy_(new if binding.merge is None else binding.merge(part.clone(), new))
    return full


def fitted(value: Tensor, like: Tensor, binding: Binding) -> Tensor:
    """``value`` in the shape and dtype of the site; leading dimensions of size 1 that the site lacks do not count."""
    while value.ndim > like.ndim and value.shape[0] == 1:
        value = value[0]
    try:
        return value.to(like.dtype).expand_as(like)
    except RuntimeError as error:
        shapes = f"a value of shape {list(value.shape)} does not broadcast to {list(like.shape)}"
        raise CallerError(f"write at {binding.site.name!r}: {shapes}") from error
