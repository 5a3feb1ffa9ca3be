"""Positions for decoders that count them alone.

The decoders of encoder-decoder models take no positions: those with a table of positions begin at the number of cached
columns, which is wrong for rows that are padded on the left. While ``told`` lasts, the table is read at the positions
that it is given. Decoders with a bias by distance need nothing of the kind. Whether rows may be padded at all is tried
on the very model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interpd.engine.model_config import has_encoder
from interpd.engine.probe import probe_inputs
from interpd.telemetry import Log

_N_POS, _N_SOURCE, _N_PADDING = 4, 5, 3
_TOLERANCE = 1e-2

log = Log("engine")


@contextmanager
def told(model: nn.Module, places: Tensor | None) -> Iterator[None]:
    """While it lasts, the decoder's rows stand at ``places`` ``[batch pos]``; ``None``: where the model counts them."""
    table = getattr(model.get_decoder(), "embed_positions", None) if places is not None else None
    if table is None or places is None:
        yield
        return

    def read(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        found = module.forward(args[0], 0, position_ids=places.flatten().to(output.device))
        return found.reshape(*places.shape, found.shape[-1])

    handle = table.register_forward_hook(read)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def can_be_padded(model: nn.Module) -> bool:
    """Whether a decoder's row gives the same logits with padding on its left; true for a decoder-only model."""
    if not has_encoder(model):
        return True
    inputs = probe_inputs(model, 1, _N_POS, _N_SOURCE)
    ids, n = inputs["decoder_input_ids"], _N_PADDING
    columns = torch.arange(n + _N_POS, device=ids.device)[None]
    padded = {
        **inputs,
        "decoder_input_ids": torch.cat([ids.new_zeros(1, n), ids], dim=1),
        "decoder_attention_mask": (columns >= n).long(),
    }
    expected = model(**inputs).logits
    try:
        with told(model, (columns - n).clamp(min=0)):
            found = model(**padded).logits[:, n:]
    except Exception as error:  # whatever a model's code raises when it is told positions: then it cannot be
        log.info("decoders are not padded", cause=f"{type(error).__name__}: {error}")
        return False
    return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())
