"""Functions of torch that look at the memory of their argument in another way, and indexing."""

import numbers
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interpd.graph.ir import Ref
from interpd_client.indices import without_masks
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.tensor import Recorded, part_of, recorded_in
from interpd_client.nnsight.views import (
    Diagonal,
    Expand,
    Index,
    Part,
    Permute,
    Reshape,
    Step,
    padded,
    selects_all,
    shares_memory,
)

if TYPE_CHECKING:
    from interpd_client.nnsight.recorder import Recorder


def _view(recorder: "Recorder", tensor: Recorded, step: Step, shadow: Tensor) -> Recorded:
    return recorder.view(tensor._memory, (*tensor._steps, step), shadow)


def _seen(recorder: "Recorder", tensor: Recorded, out: Tensor, step: Step) -> Recorded:
    """A view where torch gives one, else a tensor of its own."""
    if out is tensor._shadow:
        return tensor
    if shares_memory(out, tensor._shadow):
        return _view(recorder, tensor, step, out)
    return recorder.new(step.get(recorder, part_of(tensor)), out)


# shapes


def _reshaped(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor = args[0]
    out = recorder.shadowed(func, args, kwargs)
    if isinstance(out, tuple) or out.dtype != tensor._shadow.dtype:
        raise CannotRecord(f"graphs have no operation for this form of {func.__name__!r}")
    if out.shape == tensor._shadow.shape:
        index = (slice(None),) * out.ndim
        return _seen(recorder, tensor, out, Index(index, tuple(out.shape)))
    step = _as_index(tuple(tensor._shadow.shape), tuple(out.shape))
    return _seen(recorder, tensor, out, step or Reshape(tuple(tensor._shadow.shape), tuple(out.shape)))


def _as_index(shape: tuple[int, ...], new: tuple[int, ...]) -> Index | None:
    """A reshape that only adds dimensions of size 1, or takes some away, as an index, which padding survives."""
    if [size for size in shape if size != 1] != [size for size in new if size != 1]:
        return None
    index: list[Any] = []
    left = list(shape)
    for size in new:
        while left and left[0] == 1 and size != 1:
            index.append(0)
            left.pop(0)
        if left and left[0] == size:
            index.append(slice(None))
            left.pop(0)
        else:
            index.append(None)
    index += [0] * len(left)
    return Index(tuple(index), shape)


def _permuted(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor = args[0]
    out = recorder.shadowed(func, args, kwargs)
    # sizes that all differ show where each dimension went
    probe = torch.empty(tuple(range(2, 2 + tensor._shadow.ndim)), device="meta")
    moved = func(probe, *args[1:], **kwargs)
    dims = tuple(size - 2 for size in moved.shape)
    return _seen(recorder, tensor, out, Permute(dims))


def _expanded(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    out = recorder.shadowed(func, args, kwargs)
    return _seen(recorder, args[0], out, Expand(tuple(out.shape)))


def _broadcast_tensors(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return tuple(tensor.expand(shape) for tensor in tensors)


def _diagonal(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    out = recorder.shadowed(func, args, kwargs)
    offset, dim1, dim2 = (*args[1:], *(0, 0, 1)[len(args) - 1 :])
    offset, dim1, dim2 = kwargs.get("offset", offset), kwargs.get("dim1", dim1), kwargs.get("dim2", dim2)
    return _seen(recorder, args[0], out, Diagonal(offset, (dim1, dim2)))


# parts


def _pieces(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``split``, ``chunk``, ``tensor_split``, ``unbind``: neighbouring parts of one dimension."""
    tensor = args[0]
    outs = recorder.shadowed(func, args, kwargs)
    is_unbind = func.__name__ == "unbind"
    at = 1 if is_unbind else 2
    dim = kwargs.get("dim", kwargs.get("axis", args[at] if len(args) > at else 0)) % tensor._shadow.ndim
    pieces, start = [], 0
    for out in outs:
        length = 1 if is_unbind else out.shape[dim]
        item = start if is_unbind else slice(start, start + length)
        index = Index((*[slice(None)] * dim, item), tuple(tensor._shadow.shape))
        pieces.append(_view(recorder, tensor, index, out))
        start += length
    return tuple(pieces)


def _narrowed(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, dim, start, length = _in_order(("input", "dim", "start", "length"), args, kwargs)
    out = recorder.shadowed(func, args, kwargs)
    start = start % (tensor._shadow.shape[dim] or 1) if start < 0 else start
    index = (*[slice(None)] * (dim % tensor._shadow.ndim), slice(start, start + length))
    return _view(recorder, tensor, Index(index, tuple(tensor._shadow.shape)), out)


def _selected(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, dim, place = _in_order(("input", "dim", "index"), args, kwargs)
    out = recorder.shadowed(func, args, kwargs)
    index = (*[slice(None)] * (dim % tensor._shadow.ndim), int(place))
    return _view(recorder, tensor, Index(index, tuple(tensor._shadow.shape)), out)


def _in_order(names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    return tuple(given[name] for name in names)


# indexing


def _got(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, index = args
    index = plain_index(recorder, tensor, index)
    if is_basic(index):
        shadow = tensor._shadow[index]
        return _view(recorder, tensor, Index(index, tuple(tensor._shadow.shape)), shadow)
    _refuse_masks(index)
    shadow = tensor._shadow[_without_data(index)]
    part = part_of(tensor)
    if part.padding is not None:
        index = _beside_padding(tensor, index, part)
    return recorder.new(Part(recorder.node("tensor.getitem", part.ref, recorder.index(index))), shadow)


def plain_index(recorder: "Recorder", tensor: Recorded, index: Any) -> tuple[Any, ...]:
    """An index as a tuple, with the user's own tensors of one number as integers, and masks as the places they name."""
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(_plain(part) for part in parts)
    if any(isinstance(part, bool) for part in parts):
        raise CannotRecord("a single True or False is no index here; write `x[None]`, or choose with torch.where")
    whole = without_masks(parts, lambda part: _ref(recorder, part), lambda: tuple(tensor._shadow.shape))
    return whole if isinstance(whole, tuple) else (whole,)


def _plain(part: Any) -> Any:
    if isinstance(part, Recorded):
        return part
    if isinstance(part, numbers.Integral) and not isinstance(part, bool):
        return int(part)
    if isinstance(part, Tensor) and part.ndim == 0 and part.dtype != torch.bool:
        return int(part)
    if isinstance(part, slice):
        bounds = (part.start, part.stop, part.step)
        if next(recorded_in(bounds), None) is not None:
            raise CannotRecord(
                "the bound of a slice must be a plain integer, as the shape of the result depends on it; pick with an "
                "index tensor, `x[:, index]`, or use a mask"
            )
        return slice(*(None if bound is None else int(bound) for bound in bounds))
    return part


def _ref(recorder: "Recorder", part: object) -> Ref | None:
    return part_of(part).whole() if isinstance(part, Recorded) else None


def is_basic(index: tuple[Any, ...]) -> bool:
    """Whether the index gives a view: integers, slices, ``None`` and ``...`` only."""
    return all(part is None or part is Ellipsis or isinstance(part, slice) or type(part) is int for part in index)


def _refuse_masks(index: tuple[Any, ...]) -> None:
    for part in index:
        if isinstance(part, Recorded) and part._shadow.dtype == torch.bool:
            raise CannotRecord(
                "what a mask selects has a shape that depends on numbers; keep the shape with "
                "`torch.where(mask, x, 0)` or `.masked_fill(~mask, 0)`"
            )


def _without_data(index: tuple[Any, ...]) -> tuple[Any, ...]:
    from interpd_client.nnsight.recorder import shadow_of

    def one(part: Any) -> Any:
        if is_basic((part,)):
            return part
        # a tensor of one index selects as an integer does, whichever it is
        shadow = shadow_of(torch.as_tensor(part))
        return shadow if shadow.ndim else 0

    return tuple(one(part) for part in index)


def _beside_padding(tensor: Recorded, index: tuple[Any, ...], part: Part) -> tuple[Any, ...]:
    """An index with lists, counted from the first position that is no padding."""
    padding = part.padding
    assert padding is not None, "asked only for values that lack positions"
    at, out = 0, []
    n_used = sum(item is not None and item is not Ellipsis for item in index)
    for item in index:
        if item is Ellipsis:
            at += tensor._shadow.ndim - n_used
            if at > padding.dim:
                raise padded(padding)
        elif item is not None:
            if at == padding.dim:
                item = _moved(item, tensor._shadow.shape[at], padding.count)
                if item is None:
                    raise padded(padding)
            at += 1
        out.append(item)
    if at <= padding.dim:
        raise padded(padding)
    return tuple(out)


def _moved(item: Any, size: int, count: int) -> Any:
    if isinstance(item, (Recorded, slice)):
        return None
    places = torch.as_tensor(item) % size - count
    if bool((places < 0).any()):
        return None
    return int(places) if places.ndim == 0 else places


def is_same_view(one: Any, other: Any) -> bool:
    """Whether two tensors are the same part of the same memory."""
    if not isinstance(one, Recorded) or not isinstance(other, Recorded) or one._memory is not other._memory:
        return False
    return _told(one._steps) == _told(other._steps)


def _told(steps: tuple[Step, ...]) -> list[Any]:
    kept = [step for step in steps if not (isinstance(step, Index) and selects_all(step.index, step.shape))]
    return [(type(step).__name__, repr(step)) for step in kept]


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{
        name: _reshaped
        for name in (
            *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "view_as", "reshape_as"),
            *("contiguous", "_unsafe_view", "alias", "swapaxes_", "atleast_1d", "atleast_2d", "atleast_3d"),
        )
    },
    **{
        name: _permuted
        for name in (
            *("transpose", "permute", "movedim", "moveaxis", "swapaxes", "swapdims", "t", "adjoint"),
            *("__get__T", "__get__mT", "__get__H", "__get__mH"),
        )
    },
    **{name: _expanded for name in ("expand", "expand_as", "broadcast_to")},
    **{name: _pieces for name in ("split", "chunk", "tensor_split", "unbind", "split_with_sizes", "vsplit")},
    "broadcast_tensors": _broadcast_tensors,
    "diagonal": _diagonal,
    "narrow": _narrowed,
    "select": _selected,
    "__getitem__": _got,
}
