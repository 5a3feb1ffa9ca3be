"""A model over several GPUs of one node: which module goes where, and the hooks that move tensors between them.

Blocks are never split, and nothing is left on the CPU or the disk: what does not fit is refused with the numbers.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import dispatch_model
from accelerate.utils import (
    check_device_map,
    compute_module_sizes,
    find_tied_parameters,
    get_balanced_memory,
    infer_auto_device_map,
)
from torch import nn
from transformers import PreTrainedModel

from interpd.errors import DeviceOutOfMemory, InvalidRequest
from interpd.specs import DeviceMap

FOR_WEIGHTS = 0.9
"""Share of a GPU's free memory that weights may take; passes need the rest."""

_GIB = 1 << 30
# kept where it is: an index on the CPU fits hidden states on any device
_STAYS = "logits_to_keep"


def spread(model: PreTrainedModel, wanted: DeviceMap, n_gpus: int, source: str) -> PreTrainedModel:
    """``model``, which is on the CPU, over the first ``n_gpus`` GPUs that this process sees.

    Raises:
        InvalidRequest: There are fewer; or a table that leaves parts out, or splits a block.
        DeviceOutOfMemory: It does not fit.
    """
    n_here = torch.cuda.device_count()
    if n_here < n_gpus:
        raise InvalidRequest(f"model {source!r} is to be spread over {n_gpus} GPUs, this worker sees {n_here}")
    free = {number: int(torch.cuda.mem_get_info(number)[0] * FOR_WEIGHTS) for number in range(n_gpus)}
    placed = placement(model, wanted, free, source)
    try:
        return dispatched(model, {path: torch.device("cuda", number) for path, number in placed.items()})
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(f"model {source!r} does not fit on {n_gpus} GPUs: {error}") from error


def placement(model: PreTrainedModel, wanted: DeviceMap, free: Mapping[int, int], source: str) -> dict[str, int]:
    """The number of a GPU for each part of the model.

    Args:
        model: On any device.
        wanted: A policy, or a table.
        free: Bytes for weights, by number of the GPU.
        source: For messages.

    Raises:
        InvalidRequest: A table that leaves parts out, or splits a block.
        DeviceOutOfMemory: It does not fit.
    """
    placed = dict(wanted) if not isinstance(wanted, str) else _inferred(model, wanted, free, source)
    _check_whole(model, placed, source)
    _check_room(model, placed, free, source)
    return placed


def dispatched(model: PreTrainedModel, device_map: Mapping[str, Any]) -> PreTrainedModel:
    """``model`` with its modules on the devices of ``device_map``; outputs are where the inputs were."""
    own: Any = getattr(model, "_skip_keys_device_placement", None) or []
    skipped = [*([own] if isinstance(own, str) else own), _STAYS]
    placed = _with_own(model, device_map)
    main = next((placed[name] for name in _own_tensors(model)), next(iter(placed.values())))
    with _own_tensors_known():
        return dispatch_model(model, placed, main_device=main, skip_keys=skipped)


def _inferred(model: PreTrainedModel, policy: str, free: Mapping[int, int], source: str) -> dict[str, int]:
    whole: Any = _whole_blocks(model)
    limits: Any = dict(free)
    if policy != "sequential":
        limits = get_balanced_memory(
            model, max_memory=limits, no_split_module_classes=whole, low_zero=policy == "balanced_low_0"
        )
    limits = {number: room for number, room in limits.items() if number in free}
    # with the CPU as the last resort, so that what has no room can be named
    found = infer_auto_device_map(model, max_memory={**limits, "cpu": 1 << 60}, no_split_module_classes=whole)
    left = [path for path, place in found.items() if place not in free]
    if left:
        sizes = compute_module_sizes(model)
        n_left = sum(sizes[path] for path in left)
        raise DeviceOutOfMemory(
            f"model {source!r} has {sizes[''] / _GIB:.1f} GiB of weights; of these {n_left / _GIB:.1f} GiB, from "
            f"{left[0]!r} on, do not fit on {_listed(free)}: ask for more GPUs"
        )
    own = _own_tensors(model)
    return {path: int(place) for path, place in found.items() if path not in own}


def _whole_blocks(model: PreTrainedModel) -> list[str]:
    """Names of the classes whose modules stay on one device; what stands in lists, where the model names none."""
    if model._no_split_modules:
        return list(model._no_split_modules)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return sorted({type(block).__name__ for blocks in lists for block in blocks})


def _own_tensors(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of tensors that are in no module but the model itself, such as a bias of the logits."""
    named = (*model.named_parameters(recurse=False), *model.named_buffers(recurse=False))
    return tuple(name for name, _ in named)


@contextmanager
def _own_tensors_known() -> Iterator[None]:
    """Keeps to itself that accelerate, which asks for a place for all tensors, knows places of modules only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The following device_map keys do not match", UserWarning)
        yield


def _with_own(model: PreTrainedModel, placed: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the model's own tensors, which go where its logits are computed: the model's code adds them."""
    if not (own := _own_tensors(model)):
        return dict(placed)
    head = model.get_output_embeddings()
    path = next((path for path, module in model.named_modules() if module is head), None)
    place = next(iter(placed.values())) if path is None else _place(path, placed)
    return {**placed, **dict.fromkeys(own, place)}


def _check_whole(model: PreTrainedModel, placed: Mapping[str, int], source: str) -> None:
    paths = {path for path, _ in model.named_modules()}
    if odd := next((path for path in placed if path not in paths), None):
        raise InvalidRequest(f"the device_map of model {source!r} names {odd!r}, which is no module of it")
    try:
        with _own_tensors_known():
            check_device_map(model, {**placed, **dict.fromkeys(_own_tensors(model), 0)})
    except ValueError as error:
        raise InvalidRequest(f"the device_map of model {source!r} leaves parts of it out: {error}") from error
    for names in find_tied_parameters(model):
        if len({_place(name, placed) for name in names}) > 1:
            raise InvalidRequest(
                f"the device_map of model {source!r} puts {' and '.join(map(repr, names))} on several GPUs: they are "
                "one tensor, so they go together"
            )
    whole = _whole_blocks(model)
    for path, module in model.named_modules():
        if type(module).__name__ in whole:
            numbers = {_place(f"{path}.{name}", placed) for name, _ in module.named_parameters()}
            if len(numbers) > 1:
                raise InvalidRequest(
                    f"the device_map of model {source!r} splits block {path!r} over GPUs {sorted(numbers)}: a block "
                    "stays on one"
                )


def _place(path: str, placed: Mapping[str, int]) -> int:
    """The GPU of the longest path in the table that ``path`` lies below."""
    while path not in placed and path:
        path = path.rpartition(".")[0]
    return placed[path]


def _check_room(model: PreTrainedModel, placed: Mapping[str, int], free: Mapping[int, int], source: str) -> None:
    taken, whole = dict.fromkeys(free, 0), _with_own(model, placed)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        taken[_place(name, whole)] += tensor.numel() * tensor.element_size()
    if short := [number for number, n_bytes in taken.items() if n_bytes > free[number]]:
        raise DeviceOutOfMemory(
            f"model {source!r} does not fit: its weights are {_listed(taken)}, there is room for {_listed(free)}"
            f" (GPU {short[0]} lacks {(taken[short[0]] - free[short[0]]) / _GIB:.1f} GiB)"
        )


def _listed(sizes: Mapping[int, int]) -> str:
    return ", ".join(f"{n_bytes / _GIB:.1f} GiB on GPU {number}" for number, n_bytes in sizes.items())
