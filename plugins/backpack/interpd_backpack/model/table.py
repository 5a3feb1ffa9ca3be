"""The senses of tokens, computed once per token: they depend on nothing else."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interpd_backpack.model.network import unheard

CHUNK = 256
"""Tokens whose senses are computed at a time."""
MAX_BYTES = 4 << 30
"""What a table may take before it begins anew."""

Weights = tuple[tuple[int, int, torch.dtype, torch.device], ...]


class SenseTable(nn.Module):
    """Senses of token ids, kept once they were computed.

    The table serves as long as the weights that it was computed with are in place: those that were written to, moved
    or cast make it begin anew. (What is written through ``.data`` leaves no trace: call ``clear``.) While the model
    trains, or gradients of its weights are asked for, nothing is looked up.

    Args:
        parts: Has ``sense_network`` and ``embeddings()``, the table of embeddings.
    """

    def __init__(self, parts: Any) -> None:
        super().__init__()
        # in a tuple it is no submodule of this one
        self._held = (parts,)
        self.max_bytes = MAX_BYTES
        self.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Without the senses: a copy computes its own."""
        return {**self.__dict__, "_slots": None, "_rows": None, "_weights": (), "_n_rows": 0}

    def clear(self) -> None:
        """Forgets everything."""
        self._slots: Tensor | None = None
        self._rows: Tensor | None = None
        self._weights: Weights = ()
        self._n_rows = 0

    @property
    def _source(self) -> Any:
        return self._held[0]

    @property
    def n_known(self) -> int:
        """How many tokens have their senses here."""
        return self._n_rows

    def forward(self, ids: Tensor) -> Tensor:
        """The senses ``[..., sense, d_model]`` of token ids ``[...]``."""
        if not self._may_serve():
            senses = self._source.sense_network(self._source.embeddings()(ids.reshape(1, -1)))
            return senses[0].transpose(0, 1).reshape(*ids.shape, *senses.shape[1::2])
        with _plainly():
            return self._looked_up(ids)

    def known(self, embeds: Tensor, ids: Tensor | None) -> Tensor | None:
        """The senses ``[batch, pos, sense, d_model]`` of a text, if they need not come from its own embeddings.

        Args:
            embeds: Its embeddings, ``[batch, pos, d_model]``.
            ids: Its tokens. Where its embeddings are not theirs, because somebody has written to them, they get senses
                of their own.
        """
        if ids is None or not self._may_serve() or (torch.is_grad_enabled() and embeds.requires_grad):
            return None
        with _plainly():
            own = (self._embedded(ids) == embeds).all(-1)
            senses = self._looked_up(ids)
            if not own.all():
                senses[~own] = self._source.sense_network.unheard(embeds[~own])
            return senses

    def fill(self, report: Callable[[int, int], None] | None = None) -> None:
        """Computes the senses of the whole vocabulary.

        Args:
            report: Called with (tokens done, all tokens) after each chunk.
        """
        total = self._n_tokens()
        self.max_bytes = max(self.max_bytes, total * self._row_bytes())
        with _plainly():
            self._renew()
            assert self._slots is not None
            self._reserve(total)
            ids = torch.arange(total, device=self._slots.device)
            for first in range(0, total, CHUNK):
                self._learn(ids[first : first + CHUNK])
                if report is not None:
                    report(min(first + CHUNK, total), total)

    def _may_serve(self) -> bool:
        if self._source.training:
            return False
        return not (torch.is_grad_enabled() and any(weight.requires_grad for weight in self._sources()))

    def _sources(self) -> Sequence[Tensor]:
        return (*self._source.embeddings().parameters(), *self._source.sense_network.parameters())

    def _embedded(self, ids: Tensor) -> Tensor:
        return unheard(self._source.embeddings(), ids)

    def _n_tokens(self) -> int:
        return self._source.embeddings().weight.shape[0]

    def _renew(self) -> None:
        """Forgets everything if it was computed with other weights."""
        weights = tuple((one.data_ptr(), _version(one), one.dtype, one.device) for one in self._sources())
        if weights != self._weights or self._slots is None:
            self.clear()
            self._weights = weights
            self._slots = torch.full((self._n_tokens(),), -1, device=weights[0][-1])

    def _looked_up(self, ids: Tensor) -> Tensor:
        self._renew()
        assert self._slots is not None
        if self._n_rows < len(self._slots):
            unknown = ids[self._slots[ids] < 0].unique()
            if len(unknown):
                self._make_room(len(unknown))
                # all of them again, should there have been no room
                self._learn(ids[self._slots[ids] < 0].unique())
        assert self._rows is not None
        return self._rows[self._slots[ids]]

    def _make_room(self, n_new: int) -> None:
        if (self._n_rows + n_new) * self._row_bytes() > self.max_bytes:
            self.clear()
            self._renew()

    def _row_bytes(self) -> int:
        weight = self._source.embeddings().weight
        return self._source.sense_network.num_senses * weight.shape[1] * weight.element_size()

    def _learn(self, ids: Tensor) -> None:
        """Adds the senses of these tokens; those that are known stay."""
        assert self._slots is not None
        ids = ids[self._slots[ids] < 0]
        for chunk in ids.split(CHUNK):
            if not len(chunk):
                continue
            senses = self._source.sense_network.unheard(self._embedded(chunk))
            end = self._n_rows + len(chunk)
            self._reserve(end)
            assert self._rows is not None
            self._rows[self._n_rows : end] = senses
            self._slots[chunk] = torch.arange(self._n_rows, end, device=chunk.device)
            self._n_rows = end

    def _reserve(self, n_rows: int) -> None:
        weight = self._source.embeddings().weight
        have = 0 if self._rows is None else len(self._rows)
        if n_rows <= have:
            return
        # twice as many as there are, so that a token at a time does not copy them all each time
        size = max(n_rows, min(2 * have, self._n_tokens(), self.max_bytes // self._row_bytes()))
        rows = weight.new_empty((size, self._source.sense_network.num_senses, weight.shape[1]))
        if self._rows is not None:
            rows[: self._n_rows] = self._rows[: self._n_rows]
        self._rows = rows


@contextmanager
def _plainly() -> Iterator[None]:
    """Without gradients; what is kept is no tensor of inference mode, which could not be used out of it."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _version(weight: Tensor) -> int:
    # what was made in inference mode counts no writes
    return 0 if weight.is_inference() else weight._version
