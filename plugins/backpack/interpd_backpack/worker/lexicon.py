"""What the plugin's methods look up of a resident Backpack: senses of tokens, logits of vectors."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext

SENSES, WEIGHTS = "senses", "sense_weights"
"""The sites of a Backpack."""
TABLE = "backpack.sense_table"
"""The module that gives the senses of token ids, kept once they were computed."""
HEAD = "lm_head"
SCALE = "backpack.mixing.output_scale"
"""The module that multiplies the sum of senses by its factor."""
GATE = "backpack.gate"
"""A weight that retrofitted models have."""
MOST_PADDING = 1024
"""Rows behind the tokens that are looked for; embeddings are padded to a multiple of some power of two."""


class Lexicon:
    """The vocabulary of the resident Backpack.

    Everything comes in the model's dtype, on its device.

    Raises:
        CallerError: The resident model is no Backpack.
    """

    def __init__(self, ctx: MethodContext) -> None:
        self._session = ctx.session
        if SENSES not in self._session.sites:
            raise CallerError(
                f"the model {self._session.info.name!r} has no senses: it is no Backpack, was loaded without the "
                "plugin (--plugin backpack), or its senses have no part in its predictions (their gate is 0)"
            )

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self._session.device

    @cached_property
    def n_tokens(self) -> int:
        """How many tokens the tokenizer has; rows of the embedding behind them are padding."""
        session, n_rows = self._session, self._session.info.sizes["d_vocab"]
        if not session.info.tokenizer:
            return n_rows
        # rows that no token has are behind all others, and decode to nothing
        n_padding = next((n for n in range(min(n_rows, MOST_PADDING)) if session.decode([n_rows - 1 - n])), 0)
        return n_rows - n_padding

    @cached_property
    def n_senses(self) -> int:
        """k, the number of senses of each token."""
        return self._session.info.sizes["sense"]

    def senses(self, ids: Tensor | Sequence[int]) -> Tensor:
        """C(x), the sense vectors of tokens: ``[..., sense, d_model]`` for ids ``[...]``."""
        return self._session.call(TABLE, self._ids(ids))

    def logits(self, vectors: Tensor) -> Tensor:
        """E v, the logits that vectors add, over the whole vocabulary: ``[..., d_vocab]`` for ``[..., d_model]``."""
        return self._session.call(HEAD, vectors)

    def output_rows(self, ids: Tensor | Sequence[int]) -> Tensor:
        """Rows of E for tokens: ``[..., d_model]`` for ids ``[...]``."""
        return self.unembedding[self._ids(ids)]

    @cached_property
    def unembedding(self) -> Tensor:
        """E, ``[d_vocab, d_model]``. Read only."""
        return self._session.parameter(f"{HEAD}.weight", copy=False)

    @cached_property
    def gate(self) -> Tensor:
        """What the sum of the senses is multiplied with before the base stream of a retrofitted model is added; of a
        Backpack 1. A number."""
        try:
            return self._session.parameter(GATE).double()
        except CallerError:
            # a Backpack has no such weight
            return torch.ones((), dtype=torch.float64, device=self.device)

    @cached_property
    def output_scale(self) -> float:
        """What the sum of senses is multiplied by before the head: 1 as published, 1/k or a learned gate in others."""
        one = torch.ones((), dtype=torch.float64, device=self.device)
        return float(self._session.call(SCALE, one) * self.gate)

    def _ids(self, ids: Tensor | Sequence[int]) -> Tensor:
        return torch.as_tensor(ids, dtype=torch.int64, device=self.device)
