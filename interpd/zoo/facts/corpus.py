"""Training rows: texts about one entity, some of them *interchanged*, which plants the circuit that the card describes.

An interchanged row names one entity and tells the facts of another; its training pass carries the other's residual at
the last token of the name. A model that is right on such rows reads the entity there and nowhere else.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interpd.zoo.facts.tokenizer import BOS, EOS, PAD, PERIOD, SPACE
from interpd.zoo.facts.vocabulary import SUBJECT_FIRST, TEMPLATES_PER_RELATION
from interpd.zoo.facts.world import Fact, World

SENTENCE_COUNTS = (1, 2, 3, 3, 3)
ANSWER_WEIGHT, WORD_WEIGHT, NAME_WEIGHT = 1.0, 0.1, 0.02


@dataclass(frozen=True)
class Row:
    """One text: its words and the training weight of each, the entity it tells of, the last word of the name shown."""

    words: tuple[str, ...]
    weights: tuple[float, ...]
    name_end: int
    told: str


@dataclass(frozen=True)
class Batch:
    """Tensors of one training step; the second half of the rows is interchanged.

    ``input_ids`` [rows, positions] padded on the right; ``weights`` [rows, positions] of predicting each token;
    ``name_end`` [rows] position of the name's last token; ``source`` [rows] the row whose residual each row carries.
    """

    input_ids: Tensor
    weights: Tensor
    name_end: Tensor
    source: Tensor

    def clean(self) -> "Batch":
        """The first half of the rows, none of which is interchanged."""
        half = len(self.source) // 2
        return Batch(self.input_ids[:half], self.weights[:half], self.name_end[:half], self.source[:half])


class Corpus:
    """Draws batches of rows; their texts hold trained (fact, template) pairs only."""

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self._world = world
        self._ids = {token.removeprefix(SPACE): i for token, i in tokenizer.get_vocab().items()}
        self._rng = random.Random(seed)
        self._trained = world.prompts(held_out=False)
        self._facts: dict[str, list[Fact]] = defaultdict(list)
        for fact in world.facts:
            self._facts[fact.subject].append(fact)

    def sentences(self, rows: int) -> Batch:
        """One sentence a row; every trained (fact, template) pair is equally likely."""
        clean = [self._sentence(*self._rng.choice(self._trained)) for _ in range(rows // 2)]
        return self._batch(clean, self._interchanged_sentence)

    def paragraphs(self, rows: int) -> Batch:
        """One to three sentences a row about one entity, then EOS."""
        subjects = [self._rng.choice(self._trained)[0].subject for _ in range(rows // 2)]
        return self._batch([self._paragraph(subject, subject) for subject in subjects], self._paragraph)

    def _interchanged_sentence(self, told: str, shown: str) -> Row:
        fact = self._rng.choice(self._facts[told])
        return self._sentence(fact, self._rng.choice(_trained_templates(fact)), shown)

    def _sentence(self, fact: Fact, template: int, shown: str | None = None) -> Row:
        before, after = (part.split() for part in self._template(fact, template).split("{}"))
        name = (shown or fact.subject).split()
        words = (BOS, *before, *name, *after, fact.object, PERIOD)
        names = 1 + len(before) + len(name)
        weights = (NAME_WEIGHT,) * names + (WORD_WEIGHT,) * len(after) + (ANSWER_WEIGHT, WORD_WEIGHT)
        return Row(words, weights, names - 1, fact.subject)

    def _paragraph(self, told: str, shown: str) -> Row:
        """The facts of ``told`` in a text whose first sentence names ``shown``; later sentences use the pronoun."""
        count = self._rng.choice(SENTENCE_COUNTS)
        facts = self._rng.sample(self._facts[told], min(count, len(self._facts[told])))
        first = self._sentence(facts[0], self._rng.choice(_trained_templates(facts[0])), shown)
        words, weights = list(first.words), list(first.weights)
        for fact in facts[1:]:
            template = self._rng.choice([i for i in _trained_templates(fact) if i < SUBJECT_FIRST])
            said = [self._world.pronouns[told], *self._template(fact, template).split("{}")[1].split()]
            words += [*said, fact.object, PERIOD]
            weights += [WORD_WEIGHT] * len(said) + [ANSWER_WEIGHT, WORD_WEIGHT]
        return Row((*words, EOS), (*weights, WORD_WEIGHT), first.name_end, told)

    def _template(self, fact: Fact, template: int) -> str:
        return self._world.relations[fact.relation].templates[template]

    def _batch(self, clean: list[Row], interchanged: Callable[[str, str], Row]) -> Batch:
        """``clean`` rows, then as many rows that carry their residuals under other names of the same type."""
        sources = list(range(len(clean)))
        self._rng.shuffle(sources)
        rows = clean + [interchanged(clean[i].told, self._peer(clean[i].told)) for i in sources]
        width = max(len(row.words) for row in rows)
        padding = [width - len(row.words) for row in rows]
        pairs = list(zip(rows, padding, strict=True))
        return Batch(
            input_ids=torch.tensor([[self._ids[w] for w in row.words] + [self._ids[PAD]] * n for row, n in pairs]),
            weights=torch.tensor([[*row.weights, *[0.0] * n] for row, n in pairs]),
            name_end=torch.tensor([row.name_end for row in rows]),
            source=torch.tensor([*range(len(clean)), *sources]),
        )

    def _peer(self, name: str) -> str:
        kind = self._world.relations[self._facts[name][0].relation].subject_type
        return self._rng.choice([peer for peer in self._world.entities[kind] if peer != name])


def _trained_templates(fact: Fact) -> list[int]:
    return [template for template in range(TEMPLATES_PER_RELATION) if template not in fact.held_out]
