"""What stands in ``x[...]``, as an index of the graph."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex, TypeAlias

import numpy as np

from interpd.graph.ir import Arg, Dots, Ref, Slice
from interpd.graph.types import TensorData

LONGEST_LIST = 256
"""Longer lists of indices travel as a tensor."""

RefOf: TypeAlias = Callable[[object], Ref | None]
"""Gives the reference of a symbolic value, ``None`` for anything else."""


def index_arg(index: object, ref_of: RefOf) -> Arg:
    """``index`` as the graph writes it. Raises ``TypeError`` for what cannot be an index."""
    if isinstance(index, tuple) and not _is_positions(index):
        return tuple(_item(part, ref_of) for part in index)
    item = _item(index, ref_of)
    # a tuple on top is an index of several dimensions, a list of positions is one of them
    return (item,) if isinstance(item, tuple) else item


def _item(part: object, ref_of: RefOf) -> Arg:
    ref = ref_of(part)
    if ref is not None:
        return ref
    part = _of_torch(part)
    if part is None:
        return None
    if part is Ellipsis:
        return Dots()
    if isinstance(part, slice):
        return Slice(_bound(part.start, ref_of), _bound(part.stop, ref_of), _bound(part.step, ref_of))
    if isinstance(part, (bool, np.bool_)):
        raise TypeError("a single True or False is no index; use an array of bool for a mask, None for a new axis")
    if isinstance(part, (np.ndarray, list, tuple, range)):
        return _advanced(part)
    if isinstance(part, SupportsIndex):
        return operator.index(part)
    raise TypeError(f"{part!r} cannot stand in an index; use integers, slices, ..., None, lists or integer arrays")


def without_masks(index: object, ref_of: RefOf, sizes: Callable[[], Sequence[int | None]]) -> object:
    """``index`` with each constant mask as the integers that it stands for: what is selected has a known shape then.

    Args:
        index: What stands in ``x[...]``.
        ref_of: Tells symbolic values from constants.
        sizes: Gives the sizes of the dimensions of ``x``; asked only where there is a mask.

    Raises:
        TypeError: A mask has another shape than what it lies on, or lies on a size that is not known.
    """
    parts = index if isinstance(index, tuple) and not _is_positions(index) else (index,)
    masks = [None if ref_of(part) else _as_mask(part) for part in parts]
    if all(mask is None for mask in masks):
        return index
    n_used = [0 if part is None or part is Ellipsis else 1 for part in parts]
    n_used = [used if mask is None else mask.ndim for used, mask in zip(n_used, masks, strict=True)]
    known, at, out = sizes(), 0, []
    for part, mask, used in zip(parts, masks, n_used, strict=True):
        if mask is None:
            out.append(part)
        else:
            _fit_or_raise(mask, known[at : at + used])
            out += mask.nonzero()
        at += len(known) - sum(n_used) if part is Ellipsis else used
    return tuple(out)


_COUNTS = {"source": ("src_pos",), "target": ("pos", "query_pos", "key_pos")}
"""The axes that count the positions of each side."""


def refuse_other_side(index: object, names: Callable[[], Sequence[str]]) -> None:
    """Raises ``TypeError`` where positions of one side of a prompt lie on an axis that counts the other side.

    Args:
        index: What stands in ``x[...]``, masks as integers.
        names: Gives the axis words of ``x``; asked only where there are such positions.
    """
    parts = index if isinstance(index, tuple) and not _is_positions(index) else (index,)
    if not any(getattr(part, "side", None) for part in parts):
        return
    axes = names()
    n_used = sum(part is not None and part is not Ellipsis for part in parts)
    at = 0
    for part in parts:
        side = getattr(part, "side", None)
        name = axes[at] if at < len(axes) else ""
        if side and name not in (*_COUNTS[side], "") and any(name in counted for counted in _COUNTS.values()):
            other = "target" if side == "source" else "source"
            raise TypeError(
                f"positions of the {side} lie on the axis {name!r}, which counts the {other}: take t.tokens.{other}"
            )
        at += len(axes) - n_used if part is Ellipsis else 0 if part is None else 1


def is_one_table(index: object) -> bool:
    """Whether the whole index is one mask of several dimensions, which an assignment takes as it is."""
    mask = _as_mask(index) if isinstance(index, (np.ndarray, list)) else None
    return mask is not None and mask.ndim > 1


def _as_mask(part: object) -> np.ndarray | None:
    """``part`` as an array of bool, ``None`` for anything else."""
    if isinstance(part, list):
        # asking numpy about a list of symbolic values would raise
        part = np.asarray(part) if _first(part) in (True, False) else None
    array = _of_torch(part)
    return array if isinstance(array, np.ndarray) and array.dtype == np.bool_ and array.ndim else None


def _first(items: list[Any]) -> object:
    """The first item that is no list."""
    while items and isinstance(items[0], list):
        items = items[0]
    return items[0] if items and isinstance(items[0], (bool, np.bool_)) else None


def _of_torch(part: Any) -> object:
    """A constant torch tensor as a numpy array; anything else as it is."""
    return part if getattr(part, "detach", None) is None else np.asarray(part.detach().cpu())


def _fit_or_raise(mask: np.ndarray, sizes: Sequence[int | None]) -> None:
    if tuple(sizes) != mask.shape:
        shown = ", ".join("?" if size is None else str(size) for size in sizes)
        raise TypeError(f"a mask of shape {list(mask.shape)} lies on dimensions of sizes [{shown}]; wanted the same")


def _is_positions(index: tuple[object, ...]) -> bool:
    """Whether ``index`` is a list of positions (a tuple subclass of ours), not an index of several dimensions."""
    return type(index) is not tuple


def _bound(value: object, ref_of: RefOf) -> int | None:
    if value is None:
        return None
    if ref_of(value) is not None:
        raise TypeError(
            "a slice bound must be a plain integer: the shape of a result has to be known before the run; "
            "select with an integer tensor (`x[:, indices]`) instead"
        )
    return operator.index(value)  # pyright: ignore[reportArgumentType]


def _advanced(part: Sequence[object] | np.ndarray) -> Arg:
    try:
        array = np.asarray(part)
    except TypeError as error:
        raise TypeError(
            f"a list inside an index must hold plain integers, got {list(part)!r}; stack symbolic values with "
            "`interpd.torch.stack` first"
        ) from error
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind in "ui":
        # plain integers can be compared with the number of positions before the run
        is_list = array.ndim == 1 and 0 < array.size <= LONGEST_LIST
        return tuple(array.tolist()) if is_list else TensorData.from_numpy(array.astype(np.int64))
    if array.dtype.kind == "b":
        return TensorData.from_numpy(array)
    raise TypeError(f"an index array must hold integers or bools, got dtype {array.dtype}")


def select_positions(index: object, dims: Sequence[str]) -> tuple[tuple[int, ...], object] | None:
    """(positions, remaining index) when ``index`` picks constant positions of the ``pos`` axis, else ``None``.

    ``x.read(positions)[remaining]`` equals ``x[index]``, and the server then computes nothing else.
    """
    parts = list(index) if isinstance(index, tuple) and not _is_positions(index) else [index]
    if "pos" not in dims or not all(_is_plain(part) for part in parts):
        return None
    slot = _slot(parts, dims.index("pos"), len(dims))
    if slot is None or isinstance(parts[slot], slice) or parts[slot] is Ellipsis:
        return None
    chosen = parts[slot]
    if isinstance(chosen, SupportsIndex):
        parts[slot] = 0
        return (operator.index(chosen),), tuple(parts)
    positions = tuple(int(position) for position in chosen)  # pyright: ignore[reportGeneralTypeIssues]
    lists = sum(isinstance(part, (list, tuple, range)) for part in parts)
    if not positions or lists > 1 or any(isinstance(part, int) for part in parts):
        return None  # numpy and torch would join the lists or move the axis to the front
    parts[slot] = slice(None)
    return positions, tuple(parts)


def _is_plain(part: object) -> bool:
    if part is None or part is Ellipsis or isinstance(part, slice):
        return True
    if isinstance(part, (list, tuple, range)):
        return all(isinstance(item, (int, np.integer)) and not isinstance(item, bool) for item in part)
    return isinstance(part, (int, np.integer)) and not isinstance(part, bool)


def _slot(parts: Sequence[object], axis: int, n_dims: int) -> int | None:
    """Which item of ``parts`` falls on dimension ``axis``; ``None`` when none does."""
    n_used = sum(part is not None and part is not Ellipsis for part in parts)
    at = 0
    for place, part in enumerate(parts):
        if part is None:
            continue
        if part is Ellipsis:
            at += n_dims - n_used
            continue
        if at == axis:
            return place
        at += 1
    return None
