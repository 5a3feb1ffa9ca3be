"""The sense weights: how much each sense of each position has to say at each position behind it."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer


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
        self._keys: Tensor | None = None
        if cache is not None and len(cache.layers) == index and cache.layer_class_to_replicate is None:
            # made for the layers that the config counts
            cache.layers.append(DynamicLayer())

    def keys(self, new: Tensor) -> Tensor:
        """All keys, with the ``new`` ones behind those that are kept."""
        self._keys = new
        kept = self._cache.layers[self._index] if self._cache and len(self._cache.layers) > self._index else None
        if kept is None or not kept.get_seq_length():
            return new
        return torch.cat([kept.keys, new], dim=-2)

    def senses(self, new: Tensor) -> Tensor:
        """All senses, with the ``new`` ones behind those that are kept; with their keys these are kept now, too."""
        if self._cache is None:
            return new
        assert self._keys is not None
        return self._cache.update(self._keys, new, self._index)[1]


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
