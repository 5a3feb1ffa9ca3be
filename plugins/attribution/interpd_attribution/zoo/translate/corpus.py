"""Training rows, drawn without end."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interpd_attribution.zoo.translate.world import Sentence, World

IGNORED = -100
"""Label of padding."""


@dataclass(frozen=True)
class Batch:
    """Tensors of sentences: ``input_ids`` and ``attention_mask`` [rows, source], ``labels`` [rows, target]."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


class Corpus:
    """Draws batches of sentences that are not held out."""

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self._world, self._tokenizer = world, tokenizer
        self._rng = random.Random(seed)

    def batch(self, rows: int) -> Batch:
        """``rows`` sentences."""
        drawn: list[Sentence] = []
        while len(drawn) < rows:
            sentence = self._world.draw(self._rng)
            if not sentence.is_held_out:
                drawn.append(sentence)
        return encoded(self._tokenizer, drawn)


def encoded(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sentence]) -> Batch:
    """Sentences as tensors, padded on the right."""
    sources = tokenizer([one.source for one in sentences], return_tensors="pt", padding=True)
    targets = tokenizer([one.target for one in sentences], return_tensors="pt", padding=True)
    labels = targets["input_ids"].masked_fill(targets["attention_mask"] == 0, IGNORED)
    return Batch(sources["input_ids"], sources["attention_mask"], labels)
