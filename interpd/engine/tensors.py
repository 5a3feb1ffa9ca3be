"""Tensors of torch as data of the wire, and back."""

import torch
from torch import Tensor

from interpd.graph.types import TensorData

COPIED_BYTES = 1 << 20
"""Tensors up to this size are copied when they become data, so that what they are part of can go."""


def from_data(data: TensorData, device: torch.device | str = "cpu") -> Tensor:
    """The tensor that ``data`` describes, on ``device``; its memory is its own."""
    if not data.data:
        return torch.empty(data.shape, dtype=getattr(torch, data.dtype), device=device)
    flat = torch.frombuffer(bytearray(data.data), dtype=getattr(torch, data.dtype))
    return flat.reshape(data.shape).to(device)


def to_data(tensor: Tensor) -> TensorData:
    """``tensor`` as contiguous bytes; waits for the device.

    The bytes of a large one are its own memory where that is possible: nobody may write to it from now on.
    """
    tensor = tensor.detach().cpu().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    # numpy has no bfloat16: its bits travel as int16
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    array = plain.numpy()
    data = memoryview(array.reshape(-1)).cast("B").toreadonly() if array.nbytes > COPIED_BYTES else array.tobytes()
    return TensorData(name, tuple(tensor.shape), data)


def all_finite(tensor: Tensor) -> bool:
    """Whether a floating tensor holds neither NaN nor infinity. One pass over it; nothing of its size is made."""
    if not tensor.numel():
        return True
    # NaN comes through both, infinity is one of them
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all())
