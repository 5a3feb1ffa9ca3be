"""Tensors of torch as data of the wire, and back."""

import torch
from torch import Tensor

from interpd.graph.types import TensorData


def from_data(data: TensorData, device: torch.device | str = "cpu") -> Tensor:
    """The tensor that ``data`` describes, on ``device``; its memory is its own."""
    if not data.data:
        return torch.empty(data.shape, dtype=getattr(torch, data.dtype), device=device)
    flat = torch.frombuffer(bytearray(data.data), dtype=getattr(torch, data.dtype))
    return flat.reshape(data.shape).to(device)


def to_data(tensor: Tensor) -> TensorData:
    """``tensor`` as contiguous bytes; waits for the device."""
    tensor = tensor.detach().cpu().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    # numpy has no bfloat16: its bits travel as int16
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return TensorData(name, tuple(tensor.shape), plain.numpy().tobytes())
