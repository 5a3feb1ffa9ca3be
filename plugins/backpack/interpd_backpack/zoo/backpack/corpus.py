"""Training batches of texts, drawn without end."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interpd_backpack.training.loss import IGNORED
from interpd_backpack.zoo.backpack.texts import Texts
from interpd_backpack.zoo.backpack.world import World

LONGEST = 128
"""Tokens of a row; what is longer is cut."""
TOKENS = 2048
"""Of a batch, padding included: few rows of long texts, or many of short ones."""
POOL = 1024
"""Texts that are drawn at a time, and put in order by length, so that those of one batch are about as long."""


@dataclass(frozen=True)
class Batch:
    """``input_ids`` [rows, positions], padded on the right, and the same with -100 at padding."""

    input_ids: Tensor
    labels: Tensor


class Corpus:
    """Draws batches of texts that are not held out; each begins with ``<s>`` and ends with ``</s>``."""

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self._tokenizer = tokenizer
        self._texts = Texts(world, seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._pool: list[list[str]] = []

    def batch(self) -> Batch:
        """The next texts."""
        if not self._pool:
            self._pool = self._batches()
        return encoded(self._tokenizer, self._pool.pop())

    def _batches(self) -> list[list[str]]:
        """Those of a new pool, in an order that is drawn."""
        texts = [self._texts.draw().text for _ in range(POOL)]
        # the two ends are tokens, and so are the marks; what is not counted makes a batch a little larger
        sized = sorted(((min(len(text.split()) + 3, LONGEST), text) for text in texts), reverse=True)
        cut: list[list[str]] = []
        while sized:
            rows = max(1, TOKENS // sized[0][0])
            cut.append([text for _, text in sized[:rows]])
            sized = sized[rows:]
        return [cut[i] for i in torch.randperm(len(cut), generator=self._generator).tolist()]


def encoded(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Batch:
    """Texts as tensors."""
    end = tokenizer.eos_token
    rows = tokenizer([text + end for text in texts], return_tensors="pt", padding=True, truncation=True,
                     max_length=LONGEST)  # fmt: skip
    ids = rows["input_ids"]
    return Batch(ids, ids.masked_fill(rows["attention_mask"] == 0, IGNORED))
