"""The sense weights: how much each sense of each position has to say at each position behind it."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

SLACK = 64
"""Columns by which memory for senses is larger than needed, so that a step does not copy all of them."""


class Room:
    """Memory for senses with columns to spare, written from the left.

    A step of decoding adds one column to ``[batch, sense, pos, d_model]``, which would otherwise be copied whole.

    Args:
        senses: What it begins with.
    """

    def __init__(self, senses: Tensor) -> None:
        self.n_used = senses.shape[-2]
        shape = (*senses.shape[:-2], self.n_used + max(SLACK, self.n_used // 4), senses.shape[-1])
        self._memory = senses.new_empty(shape)
        self._memory[..., : self.n_used, :] = senses

    @property
    def filled(self) -> Tensor:
        """The columns that are written."""
        return self._memory[..., : self.n_used, :]

    def add(self, senses: Tensor, new: Tensor) -> bool:
        """Writes ``new`` behind ``senses``, if these are what is filled, and nobody has written there.

        Whoever dropped columns or took other rows has other memory, or another number of columns; so has a second cache
        that began with the same columns as soon as one of them was continued.
        """
        n_after, mine = self.n_used + new.shape[-2], self.filled
        is_mine = (senses.data_ptr(), senses.shape, senses.stride()) == (mine.data_ptr(), mine.shape, mine.stride())
        # torch writes to what was made in inference mode in that mode only
        may_write = torch.is_inference_mode_enabled() or not self._memory.is_inference()
        if not is_mine or not may_write or n_after > self._memory.shape[-2]:
            return False
        self._memory[..., self.n_used : n_after, :] = new
        self.n_used = n_after
        return True


class SenseMemory:
    """The keys and senses of the positions before, in a layer of the cache behind those of the transformer.

    Its keys are those of the sense weights ``[batch, sense, pos, d_sense_key]``, its values the senses as they were
    mixed, ``[batch, sense, pos, d_model]``; so whoever moves the rows and columns of the cache moves them along.

    Args:
        cache: Of the model; ``None``: nothing is kept.
        index: Of the layer.
    """

    def __init__(self, cache: Cache | None, index: int) -> None:
        self.weights: Tensor | None = None
        """The weights as they were mixed with, once they were."""
        self._cache, self._index = cache, index
        self._new_keys: Tensor | None = None
        self._keys: Tensor | None = None
        if cache is not None and len(cache.layers) == index and cache.layer_class_to_replicate is None:
            # made for the layers that the config counts
            cache.layers.append(DynamicLayer())

    def keys(self, new: Tensor) -> Tensor:
        """All keys, with the ``new`` ones behind those that are kept."""
        layer = self._filled()
        self._new_keys, self._keys = new, new if layer is None else torch.cat([layer.keys, new], dim=-2)
        return self._keys

    def senses(self, new: Tensor) -> Tensor:
        """All senses, with the ``new`` ones behind those that are kept; with their keys these are kept now, too."""
        if self._cache is None:
            return new
        assert self._new_keys is not None
        layer = self._filled()
        if type(layer) is not DynamicLayer or torch.is_grad_enabled():
            return self._cache.update(self._new_keys, new, self._index)[1]
        layer.keys, layer.values = self._keys, _continued(layer, new)
        return layer.values

    def _filled(self) -> Any:
        """The layer, once there is something in it."""
        known = self._cache is not None and len(self._cache.layers) > self._index
        layer = self._cache.layers[self._index] if known else None  # type: ignore[union-attr]
        return layer if layer is not None and layer.get_seq_length() else None


def _continued(layer: Any, new: Tensor) -> Tensor:
    room = getattr(layer, "room", None)
    if room is None or not room.add(layer.values, new):
        room = layer.room = Room(torch.cat([layer.values, new], dim=-2))
    return room.filled


class SenseWeightNetwork(nn.Module):
    """alpha: one attention pattern per sense, from the transformer's last states (Hewitt et al. 2023, equation 12).

    Args:
        config: Of the Backpack.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.num_senses = config.num_senses
        self.embed_per_sense = config.n_embd // config.num_senses
        self.c_attn = nn.Linear(config.n_embd, 2 * self.num_senses * self.embed_per_sense)

    def forward(
        self, encoded: Tensor, attention_mask: Tensor | None = None, memory: SenseMemory | None = None
    ) -> Tensor:
        """Weights ``[batch, sense, query, key]`` that sum to one over the keys.

        Args:
            encoded: Last states of the transformer, ``[batch, query, d_model]``.
            attention_mask: Zero for padding, ``[batch, key]``.
            memory: Holds the keys of the positions before.
        """
        queries, keys = self.c_attn(encoded).unflatten(-1, (2, self.num_senses, self.embed_per_sense)).unbind(2)
        queries, keys = queries.transpose(1, 2), keys.transpose(1, 2)
        if memory is not None:
            keys = memory.keys(keys)
        scores = queries @ (keys * (1.0 / math.sqrt(self.embed_per_sense))).transpose(-1, -2)
        n_query, n_key = scores.shape[-2:]
        seen = torch.ones(n_query, n_key, dtype=torch.bool, device=scores.device).tril(n_key - n_query)
        if attention_mask is not None:
            seen = seen & attention_mask[:, None, None, :].bool()
        # a row of padding sees nothing: the lowest number leaves it finite, where minus infinity would not
        scores = scores.masked_fill_(~seen, torch.finfo(scores.dtype).min)
        return torch.softmax(scores, dim=-1)
