"""Changes in place: the memory gets a new value, and so does the place of the model that it lies at."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.tensor import Recorded, part_of
from interpd_client.nnsight.viewing import is_basic, is_same_view, plain_index
from interpd_client.nnsight.views import Part

if TYPE_CHECKING:
    from interpd_client.nnsight.functions import Function
    from interpd_client.nnsight.recorder import Recorder

RANDOM = ("normal_", "uniform_", "random_", "exponential_", "bernoulli_", "cauchy_", "geometric_", "log_normal_")
CHANGES_SHAPE = (
    "unsqueeze_",
    "squeeze_",
    "t_",
    "transpose_",
    "swapaxes_",
    "swapdims_",
    "resize_",
    "resize_as_",
    "set_",
)
SAME_RESULT: Mapping[str, Callable[..., Any]] = {
    "zero_": lambda x: torch.zeros_like(x),
    "fill_": lambda x, value: x * 0 + value if isinstance(value, Tensor) else torch.full_like(x, value),
    "copy_": lambda x, source, non_blocking=False: source,
    "detach_": lambda x: x,
    "relu_": torch.relu,
    "floor_divide_": lambda x, other: x // other,
}
"""What the methods that end in an underscore put there, where it is not what the method without it gives."""


def overwrite(recorder: "Recorder", tensor: Tensor, value: Any) -> None:
    """Changes all that ``tensor`` shows to ``value``, broadcast to its shape and cast to its dtype."""
    target = promoted(recorder, tensor)
    given = recorder.as_recorded(value, target._shadow)
    if given.dtype != target.dtype:
        given = given.to(target.dtype)
    if given.ndim > target.ndim:
        # as torch does: leading dimensions of size 1 do not count
        given = given.reshape(given.shape[given.ndim - target.ndim :])
    part = part_of(given)
    if given.shape != target.shape:
        part = Part(recorder.node("torch.broadcast_to", part.whole(), size=tuple(target.shape)))
    target._memory.assign(recorder, target._steps, part)


def promoted(recorder: "Recorder", tensor: Tensor) -> Recorded:
    """The tensor to change; a plain tensor of the user becomes one of the block, and gets its numbers after the run."""
    if isinstance(tensor, Recorded):
        return tensor
    if id(tensor) in recorder.frozen:
        raise CannotRecord(
            f"this changes a tensor in place that {recorder.frozen[id(tensor)][1]!r} was set to; set the place to a "
            "`.clone()` of it"
        )
    return recorder.adopt(tensor)


def _set_item(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    tensor, index, value = args
    target = promoted(recorder, tensor)
    is_numbers = isinstance(index, Recorded) or not isinstance(value, Tensor) or value.numel() == 1
    index = (index,) if _is_mask(index) and is_numbers else plain_index(recorder, target, index)
    if is_basic(index):
        view = target[index]
        # `x[i] += v` changes the view and then puts it back where it is already
        if not is_same_view(view, value):
            recorder.shadowed(func, (target, index, value), {})
            overwrite(recorder, view, value)
        return
    overwrite(recorder, target, _with_items(recorder, target, index, value))


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool


def _with_items(recorder: "Recorder", target: Recorded, index: tuple[Any, ...], value: Any) -> Recorded:
    """A copy of ``target`` with what lists, index tensors or a mask pick replaced."""
    if len(index) == 1 and _is_mask(index[0]):
        return _masked(recorder, target, index[0], value)
    part = part_of(target)
    new = recorder.argument(value) if isinstance(value, Tensor) else value
    made = recorder.node("tensor.setitem", part.whole(), recorder.index(index), new)
    return recorder.new(Part(made), target._shadow.clone())


def _masked(recorder: "Recorder", target: Recorded, mask: Tensor, value: Any) -> Recorded:
    given = recorder.as_recorded(value, target._shadow)
    if given.numel() == 1:
        given = given.reshape(())
    elif given.ndim > target.ndim - mask.ndim:
        raise CannotRecord(
            "the values for a mask are one for each place that it picks, and how many these are depends on numbers; "
            "`x[:] = torch.where(mask, value, x)` takes one for every place"
        )
    whole = mask.reshape((*mask.shape, *[1] * (target.ndim - mask.ndim)))
    return torch.where(recorder.as_recorded(whole, target._shadow), given, target)


def in_place(name: str) -> "Function":
    """Who records the method ``name``, which ends in an underscore. Raises ``CannotRecord`` where nobody does."""
    from interpd_client.nnsight.functions import function_of, unknown

    if name in CHANGES_SHAPE:
        raise CannotRecord(f"{name!r} changes the shape of a tensor in place; write `x = x.{name[:-1]}(...)`")
    plain = SAME_RESULT.get(name) or _functional(name[:-1])
    if plain is None:
        raise unknown(name)
    if name not in SAME_RESULT:
        # raises here, with the name that was written, for what has no operation
        try:
            function_of(name[:-1])
        except CannotRecord:
            raise unknown(name) from None

    def change(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target, *rest = args
        recorder.shadowed(func, (_copied(target), *rest), kwargs)
        target = promoted(recorder, target)
        overwrite(recorder, target, plain(target, *rest, **kwargs))
        return target

    return change


def _copied(tensor: Tensor) -> Tensor:
    from interpd_client.nnsight.recorder import shadow_of

    return shadow_of(tensor).clone()


def _functional(name: str) -> Callable[..., Any] | None:
    for home in (Tensor, torch, F):
        found = getattr(home, name, None)
        if found is not None:
            return found
    return None


def _drawn(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Random numbers in place: drawn here, with the user's own generator."""
    target, *rest = args
    fresh = torch.empty(target.shape, dtype=target.dtype)
    overwrite(recorder, target, func(fresh, *rest, **kwargs))
    return target


FUNCTIONS: Mapping[str, Callable[..., Any]] = {"__setitem__": _set_item, **{name: _drawn for name in RANDOM}}
