"""How many rows and columns fit into a pass: a bound on memory, from the sizes of the model."""

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
    n_positions = sequence.n_positions
    sizes = session.info.sizes
    d_model, heads = sizes.get("d_model", 1024), sizes.get("head", 16)
    layer = n_positions * (12 * d_model + 4 * sizes.get("d_mlp", 4 * d_model)) + 2 * heads * n_positions**2
    # those of all positions, copied when they are read, and those of the attributed tokens in float64
    end = (3 * len(sequence.target.ids) + 6 * sequence.n_steps) * sizes.get("d_vocab", 50_000) if logits else 0
    return 4 * (layer * (session.info.n_layers if grad else 1) + end)


def bytes_per_gradient(session: Session, n_positions: int) -> int:
    """About what the gradient of one column holds on its way back, for each row."""
    sizes = session.info.sizes
    d_model, heads = sizes.get("d_model", 1024), sizes.get("head", 16)
    return 4 * (n_positions * (6 * d_model + 3 * sizes.get("d_mlp", 4 * d_model)) + 2 * heads * n_positions**2)


def chunks(n: int, size: int) -> Iterator[slice]:
    """``range(n)`` in slices of at most ``size``."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
