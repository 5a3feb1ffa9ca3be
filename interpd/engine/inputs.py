"""What the model's forward is called with in a pass over whole prompts: rows padded on the right.

An encoder-decoder model gets its sources as ``input_ids``, always with their mask, and its decoders' tokens as
``decoder_input_ids``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from interpd.graph.run import Tokens


def prompt_inputs(prompts: Sequence[Tokens], device: torch.device) -> dict[str, Any]:
    """The arguments of a pass over ``prompts``, without a cache."""
    sources, targets = [prompt.ids for prompt in prompts], [prompt.target.ids for prompt in prompts if prompt.target]
    inputs = {"input_ids": padded_right(sources, device), "attention_mask": _mask(sources, device), "use_cache": False}
    return two_sided(inputs, padded_right(targets, device), _mask(targets, device)) if targets else inputs


def two_sided(inputs: dict[str, Any], target_ids: Tensor, target_mask: Tensor | None) -> dict[str, Any]:
    """The arguments of an encoder's side with those of the decoder's."""
    mask = inputs["attention_mask"]
    return {
        **inputs,
        "attention_mask": torch.ones_like(inputs["input_ids"]) if mask is None else mask,
        "decoder_input_ids": target_ids,
        "decoder_attention_mask": target_mask,
    }


def padded_right(ids: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Token ids ``[batch pos]`` with padding behind the shorter rows."""
    n_pos = max(map(len, ids))
    return torch.tensor([[*row, *([0] * (n_pos - len(row)))] for row in ids], dtype=torch.int64, device=device)


def length_mask(lengths: Sequence[int], n_pos: int, device: torch.device) -> Tensor | None:
    """The mask ``[batch pos]`` of rows that are padded on the right; ``None`` where nothing is padded."""
    if all(length == n_pos for length in lengths):
        return None
    return (torch.arange(n_pos, device=device) < torch.tensor(lengths, device=device)[:, None]).long()


def _mask(ids: Sequence[Sequence[int]], device: torch.device) -> Tensor | None:
    lengths = [len(row) for row in ids]
    return length_mask(lengths, max(lengths), device)
