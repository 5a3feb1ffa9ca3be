"""Positions for decoders that count them alone.

The decoders of encoder-decoder models take no positions: those with a table of positions begin at the number of cached
columns, which is wrong for rows that are padded on the left. While ``told`` lasts, the table is read at the positions
that it is given. Decoders with a bias by distance need nothing of the kind. Whether rows may be padded at all is tried
on the very model, decoder-only ones included: some of them take no positions either.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from interpd.engine.model_config import has_encoder
from interpd.engine.probe import probe_ids, probe_inputs
from interpd.telemetry import Log

_N_POS, _N_SOURCE, _N_PADDING = 4, 5, 3
_TOLERANCE = 1e-2
"""Or the square root of what the dtype resolves, where that is more."""

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
    """Whether a decoder's row gives the same logits with padding on its left, told positions as generations tell it."""
    inputs, n = probe_inputs(model, 1, _N_POS, _N_SOURCE), _N_PADDING
    side = "decoder_" if has_encoder(model) else ""
    ids = inputs[f"{side}input_ids"]
    columns = torch.arange(n + _N_POS, device=ids.device)[None]
    places = (columns - n).clamp(min=0)
    padded = {
        **inputs,
        f"{side}input_ids": torch.cat([ids.new_zeros(1, n), ids], dim=1),
        f"{side}attention_mask": (columns >= n).long(),
    }
    if not side and "position_ids" in inspect.signature(model.forward).parameters:
        padded["position_ids"] = places
    expected = model(**inputs).logits
    try:
        with told(model, places if side else None):
            found = model(**padded).logits[:, n:]
    except Exception as error:  # whatever a model's code raises when it is told positions: then it cannot be
        log.info("decoders are not padded", cause=f"{type(error).__name__}: {error}")
        return False
    return _agrees(found, expected)


def _agrees(found: Tensor, expected: Tensor) -> bool:
    tolerance = max(_TOLERANCE, torch.finfo(expected.dtype).eps ** 0.5)
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


@torch.no_grad()
def goes_on_from_its_cache(model: nn.Module) -> bool:
    """Whether a row's next step depends on its cache and not on who had the pass before.

    Some recurrent models keep their state in their own modules, where the next prompt replaces it.
    """
    if not _has_states(model, "past_key_values"):
        return True
    one, other = probe_ids(model, 2, _N_POS).split(1)
    try:
        expected = model(input_ids=one[:, -1:], **_begun(model, one)).logits
        past = _begun(model, one)
        _begun(model, other)
        return _agrees(model(input_ids=one[:, -1:], **past).logits, expected)
    except Exception as error:  # whatever a model's code raises with this cache: its generations will be told
        log.info("steps from a cache were not tried", cause=f"{type(error).__name__}: {error}")
        return True


@torch.no_grad()
def steps_need_positions(model: nn.Module) -> bool:
    """Whether a step without padding goes wrong when it is not told its position.

    Most models count on from their cache, some of them from another number than 0; some recurrent ones do not count.
    """
    if not _has_states(model, "past_key_values", "position_ids"):
        return False
    ids = probe_ids(model, 1, _N_POS)
    try:
        expected = model(input_ids=ids, use_cache=False).logits[:, -1:]
        if _agrees(model(input_ids=ids[:, -1:], **_begun(model, ids)).logits, expected):
            return False
        place = torch.full_like(ids[:, -1:], _N_POS - 1)
        return _agrees(model(input_ids=ids[:, -1:], position_ids=place, **_begun(model, ids)).logits, expected)
    except Exception as error:  # as above
        log.info("positions of steps were not tried", cause=f"{type(error).__name__}: {error}")
        return False


def _has_states(model: nn.Module, *arguments: str) -> bool:
    """Whether it is a recurrent model whose forward takes these arguments."""
    return getattr(model, "_is_stateful", False) and {*arguments} <= {*inspect.signature(model.forward).parameters}


def _begun(model: nn.Module, ids: Tensor) -> dict[str, Any]:
    """The arguments for the last of ``ids``, the others being cached."""
    inputs = {"past_key_values": DynamicCache(config=model.config), "use_cache": True}
    model(input_ids=ids[:, :-1], **inputs)
    return inputs
