"""The cache of decoders that also look at sources: keys and values of both, and which sources they are.

The decoders' own part is a ``RowCache``. Sources are encoded once, in the prefill; they are padded on the right, so
that their mask follows from their lengths.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import CacheLayerMixin
from transformers.modeling_outputs import BaseModelOutput

from interpd.engine.inputs import padded_right
from interpd.engine.kv_cache import RowCache, is_filled, keep_rows


class TwoSidedCache(RowCache):
    """Keys and values of several rows, each with its source.

    Args:
        config: Of the model.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._sources = DynamicCache()
        self._lengths: list[int] = []
        """Of the source of each row."""
        self._encoded: Tensor | None = None

    @property
    def for_model(self) -> EncoderDecoderCache:
        """What the model takes and fills."""
        return EncoderDecoderCache(self.past, self._sources)

    @property
    def n_source_columns(self) -> int:
        """Positions of sources that are kept, padding included."""
        return max(self._lengths, default=0)

    def _empty(self) -> DynamicCache:
        # layers come as they are filled: the config counts those of the encoder
        return DynamicCache()

    def source_inputs(self, sources: Sequence[Sequence[int]], device: torch.device) -> dict[str, object]:
        """The arguments that stand for the sources: themselves in the prefill, then what was made of them."""
        if self._encoded is None:
            self._lengths = [len(source) for source in sources]
            return {"input_ids": padded_right(sources, device), "attention_mask": self._mask(device)}
        return {
            "encoder_outputs": BaseModelOutput(last_hidden_state=self._encoded),
            "attention_mask": self._mask(device),
        }

    def _mask(self, device: torch.device) -> Tensor:
        columns = torch.arange(self.n_source_columns, device=device)
        return (columns < torch.tensor(self._lengths, device=device)[:, None]).long()

    def filled(self, n_columns: int, output: Any) -> None:
        """Takes it that a pass has added so many columns."""
        super().filled(n_columns, output)
        if self._encoded is None:
            self._encoded = output.encoder_last_hidden_state

    def restore(self, state: Mapping[int, CacheLayerMixin]) -> None:
        """Undoes a pass that failed on its way."""
        if self._encoded is None:
            self._sources = DynamicCache()
        super().restore(state)

    def take_in(self, others: Sequence["TwoSidedCache"]) -> None:  # type: ignore[override]
        """Appends the rows of ``others``, which are used up. Changes nothing when it raises."""
        caches = (self, *others)
        layers = zip(*(cache._sources.layers for cache in caches), strict=True)
        stacked = [(_below([one.keys for one in of]), _below([one.values for one in of])) for of in layers]
        encoded = _below([cache._encoded for cache in caches if cache._encoded is not None])
        super().take_in(others)
        for layer, (keys, values) in zip(self._sources.layers, stacked, strict=True):
            layer.keys, layer.values = keys, values
        self._encoded, self._lengths = encoded, [length for cache in caches for length in cache._lengths]

    def keep(self, rows: Sequence[int], n_columns: int) -> None:
        """Drops all rows but these, and all columns but the last ``n_columns`` and those that a source needs."""
        super().keep(rows, n_columns)
        self._lengths = [self._lengths[row] for row in rows]
        keep_rows(self._sources.layers, rows)
        for layer in filter(is_filled, self._sources.layers):
            layer.keys, layer.values = (kept[..., : self.n_source_columns, :] for kept in (layer.keys, layer.values))
        if self._encoded is not None:
            self._encoded = self._encoded[list(rows), : self.n_source_columns]

    def _copy(self) -> "TwoSidedCache":
        new = super()._copy()
        assert isinstance(new, TwoSidedCache)
        new._sources = DynamicCache()
        new._sources.layers = self._copies(self._sources)
        new._lengths, new._encoded = list(self._lengths), self._encoded
        return new


def _below(parts: Sequence[Tensor]) -> Tensor:
    """Tensors ``[batch ... src_pos width]`` below one another, the narrower ones padded on the right."""
    n_columns = max(part.shape[-2] for part in parts)
    whole = parts[0].new_zeros((sum(map(len, parts)), *parts[0].shape[1:-2], n_columns, parts[0].shape[-1]))
    first = 0
    for part in parts:
        whole[first : first + len(part), ..., : part.shape[-2], :] = part
        first += len(part)
    return whole
