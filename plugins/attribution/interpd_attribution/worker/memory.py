"""How many rows and columns fit into a pass: a bound on memory, from the sizes of the model."""

import ctypes
from collections.abc import Iterator

import torch

from interpd.sdk import Session
from interpd_attribution.worker.sequence import Sequence

CPU_BYTES = 512 << 20
"""What a pass may hold on a CPU."""

CPU_ROWS = 64
"""The most rows of a pass on a CPU: more are no faster, and a pass should not keep others waiting."""

CPU_GRADIENTS = 16
"""Rows times columns whose gradients are taken together on a CPU: more do not fit into its caches."""

CPU_GRADIENT_BYTES = 64 << 20
"""What these may hold."""

CPU_RECORDED_BYTES = 64 << 20
"""What a row may record for gradients on a CPU before it is recorded in parts, where many columns share the parts."""

MANY_COLUMNS = 8
"""So many columns make up for the passes that recording in parts takes more: two for all of them."""

MOST_ROWS = 4096
"""The most rows of a pass anywhere."""

GPU_SHARE = 4
"""A pass may hold this part of a GPU's free memory."""


def available(device: torch.device) -> int:
    """Bytes that the work of one request may hold at once."""
    if device.type != "cuda":
        return CPU_BYTES
    return torch.cuda.mem_get_info(device)[0] // GPU_SHARE


def bytes_per_row(session: Session, sequence: Sequence, *, grad: bool, logits: bool = True) -> int:
    """About what one row of a pass holds: all layers for gradients, otherwise the widest."""
    sizes = session.info.sizes
    # those of all positions, copied when they are read, and those of the attributed tokens in float64
    end = (3 * len(sequence.target.ids) + 6 * sequence.n_steps) * sizes.get("d_vocab", 50_000) if logits else 0
    return bytes_per_layer(session, sequence.n_positions) * (session.info.n_layers if grad else 1) + 4 * end


def bytes_per_layer(session: Session, n_positions: int) -> int:
    """About what one layer holds of one row, and records of it for gradients."""
    sizes = session.info.sizes
    d_model, heads = sizes.get("d_model", 1024), sizes.get("head", 16)
    return 4 * (n_positions * (12 * d_model + 4 * sizes.get("d_mlp", 4 * d_model)) + 2 * heads * n_positions**2)


def bytes_recorded(device: torch.device, n_columns: int) -> int:
    """Bytes that a row may record for the gradients of some columns before it is recorded in parts."""
    if device.type == "cpu" and n_columns >= MANY_COLUMNS:
        return CPU_RECORDED_BYTES
    return available(device)


def give_back(device: torch.device) -> None:
    """Returns to the system what has been freed on a CPU, where the C library can: glibc's keeps pieces of every size,
    which the next part of a pass, with other sizes, would lay out anew beside them."""
    if device.type == "cpu" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def bytes_per_gradient(session: Session, n_positions: int) -> int:
    """About what the gradient of one column holds on its way back, for each row."""
    sizes = session.info.sizes
    d_model, heads = sizes.get("d_model", 1024), sizes.get("head", 16)
    return 4 * (n_positions * (6 * d_model + 3 * sizes.get("d_mlp", 4 * d_model)) + 2 * heads * n_positions**2)


def chunks(n: int, size: int) -> Iterator[slice]:
    """``range(n)`` in slices of at most ``size``."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
