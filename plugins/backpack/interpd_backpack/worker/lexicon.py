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
                f"the model {self._session.info.id!r} has no senses: it is no Backpack, or was loaded without "
                "the plugin (--plugin backpack)"
            )

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self._session.device

    @cached_property
    def n_tokens(self) -> int:
        """How many tokens the tokenizer has; rows of the embedding behind them are padding."""
        return self._session.info.sizes["d_vocab"]

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
        return self._session.parameter(f"{HEAD}.weight")

    def _ids(self, ids: Tensor | Sequence[int]) -> Tensor:
        return torch.as_tensor(ids, dtype=torch.int64, device=self.device)
