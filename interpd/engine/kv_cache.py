"""The cache of rows that are continued together, padded on the left: the last column is the newest position of all.

Rows are added, taken out and narrowed here, so that every layer of the cache keeps the same rows and columns. A layer
with a sliding window holds its last columns only, and counts how many there were.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)

_JOINABLE = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)
"""Exactly these: what derives from them may hold more than keys and values."""


class RowCache:
    """Keys and values of several rows.

    Args:
        config: Of the model.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self.past = self._empty()
        """Keys and values of the rows themselves."""
        self.n_columns = 0
        """Positions that are cached, padding included."""

    @property
    def for_model(self) -> Cache:
        """What the model takes and fills."""
        return self.past

    @property
    def n_source_columns(self) -> int:
        """Positions of sources that are kept beside them."""
        return 0

    def _empty(self) -> DynamicCache:
        return DynamicCache(config=self._config)

    def filled(self, n_columns: int, output: Any) -> None:
        """Takes it that a pass has added so many columns.

        Args:
            n_columns: How many.
            output: What the model returned.
        """
        self.n_columns += n_columns

    @property
    def obstacle(self) -> str:
        """Why it cannot be joined with another; empty when it can."""
        if "chunked_attention" in (getattr(self._config, "layer_types", None) or ()):
            return "the model's attention goes by chunks of positions"
        odd = next((type(layer).__name__ for layer in self.past.layers if type(layer) not in _JOINABLE), "")
        return f"the model's cache has layers of type {odd}" if odd else ""

    def state(self) -> Mapping[int, CacheLayerMixin]:
        """What ``restore`` needs, taken before a pass; plain layers need nothing, so that theirs can be freed."""
        layers = enumerate(self.past.layers)
        return {index: copy_of_layer(layer) for index, layer in layers if type(layer) is not DynamicLayer}

    def restore(self, state: Mapping[int, CacheLayerMixin]) -> None:
        """Undoes a pass that failed on its way."""
        if not self.n_columns:
            self.past = self._empty()
            return
        for index, layer in enumerate(self.past.layers):
            if index in state:
                self.past.layers[index] = state[index]
            elif is_filled(layer):
                layer.keys, layer.values = (kept[..., : self.n_columns, :] for kept in (layer.keys, layer.values))

    def spread(self, rows: Sequence[Sequence[int]]) -> None:
        """Gives each prompt of a prefill, in which some shared a row, a row of its own.

        Args:
            rows: The row of each prompt before rows were added in the middle of the pass, and behind that if they were.
        """
        n_rows = [max(stage) + 1 for stage in rows]
        for layer in filter(is_filled, self.past.layers):
            # a row that joined stands behind those that were there, so equally many are the same
            stage = rows[n_rows.index(len(layer.keys))]
            layer.batch_select_indices(torch.tensor(stage, device=layer.keys.device))

    def take_in(self, others: Sequence["RowCache"]) -> None:
        """Appends the rows of ``others``, which are used up. Changes nothing when it raises."""
        stacked = [
            (_stacked([layer.keys for layer in layers]), _stacked([layer.values for layer in layers]))
            if all(map(is_filled, layers))
            else None
            for layers in zip(*(cache.past.layers for cache in (self, *others)), strict=True)
        ]
        self.n_columns = max(cache.n_columns for cache in (self, *others))
        for layer, found in zip(self.past.layers, stacked, strict=True):
            if found is not None:
                layer.keys, layer.values = found
                _count(layer, self.n_columns)

    def keep(self, rows: Sequence[int], n_columns: int) -> None:
        """Drops all rows but these, and all columns but the last ``n_columns``."""
        keep_rows(self.past.layers, rows)
        self._narrow(n_columns)

    def _narrow(self, n_columns: int) -> None:
        if n_columns == self.n_columns or self.obstacle:
            return
        self.n_columns = n_columns
        for layer in self.past.layers:
            if is_filled(layer):
                excess = max(0, layer.keys.shape[-2] - n_columns)
                layer.keys, layer.values = layer.keys[..., excess:, :], layer.values[..., excess:, :]
                _count(layer, n_columns)

    def copy_of(self, rows: Sequence[int], n_columns: int) -> "RowCache":
        """Some of its rows as a cache of their own."""
        new = self._copy()
        new.keep(rows, n_columns)
        return new

    def _copy(self) -> "RowCache":
        new = type(self)(self._config)
        new.past.layers, new.n_columns = self._copies(self.past), self.n_columns
        return new

    @staticmethod
    def _copies(cache: DynamicCache) -> list[CacheLayerMixin]:
        return [copy_of_layer(layer) for layer in cache.layers]


def copy_of_layer(layer: CacheLayerMixin) -> CacheLayerMixin:
    """A layer that stays as ``layer`` is now. Keys and values are replaced, never written to; other states are."""
    new = copy(layer)
    for name, states in vars(layer).items():
        if isinstance(states, dict):
            setattr(new, name, {at: one.clone() if isinstance(one, Tensor) else one for at, one in states.items()})
    return new


def is_filled(layer: CacheLayerMixin) -> bool:
    """Whether a layer of a cache holds anything."""
    return getattr(layer, "keys", None) is not None


def keep_rows(layers: Sequence[CacheLayerMixin], rows: Sequence[int]) -> None:
    """Drops all rows of ``layers`` but these, which ascend. Neighbours are not copied before the next pass."""
    are_neighbours = rows[-1] - rows[0] == len(rows) - 1
    for layer in layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            # convolutions and recurrent states, with or without keys beside them
            layer.reorder_cache(torch.tensor(rows))
        elif not is_filled(layer):
            continue
        elif are_neighbours and type(layer) in _JOINABLE:
            kept = slice(rows[0], rows[-1] + 1)
            layer.keys, layer.values = layer.keys[kept], layer.values[kept]
        else:
            layer.batch_select_indices(torch.tensor(rows, device=layer.keys.device))


def _count(layer: CacheLayerMixin, n_columns: int) -> None:
    if isinstance(layer, DynamicSlidingWindowLayer):
        layer.cumulative_length = n_columns


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Keys or values ``[batch head pos d_head]`` below one another, the narrower ones padded on the left."""
    width = max(part.shape[-2] for part in parts)
    shape = (sum(map(len, parts)), parts[0].shape[1], width, parts[0].shape[3])
    whole = parts[0].new_zeros(shape)
    first = 0
    for part in parts:
        whole[first : first + len(part), :, width - part.shape[-2] :] = part
        first += len(part)
    return whole
