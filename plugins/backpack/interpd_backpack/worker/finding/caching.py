"""The forward passes of a sense finetuning, all of them, and what is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_backpack.finding.settings import BACKGROUND, HELD_OUT, TRAIN, Settings
from interpd_backpack.worker.finding.cached import Rows, Seen, joined, rows_of, seen, wide
from interpd_backpack.worker.finding.checkpoint import Pairs
from interpd_backpack.worker.finding.items import Item
from interpd_backpack.worker.finding.losses import Example, example_gradient, log_probabilities, surprisal_gradients
from interpd_backpack.worker.finding.passes import check_in_front
from interpd_backpack.worker.finding.selecting import OF_GRADIENTS, Evidence, Scores, chosen, mean_scores, scores
from interpd_backpack.worker.lexicon import Lexicon


@dataclass(frozen=True)
class Cache:
    """Every item at the positions that count, for the pairs that are trained."""

    uses: tuple[int, ...]
    """Of each item."""
    examples: tuple[Example, ...]
    """Each item; texts are examples of one suffix."""

    def of(self, use: int) -> list[Example]:
        """The items of one use."""
        return [example for example, own in zip(self.examples, self.uses, strict=True) if own == use]

    def held_out(self) -> Rows:
        """The rows that say whether the ball is left: those of the background where no text is held out."""
        return joined([one.rows for one in self.of(HELD_OUT) or self.of(BACKGROUND)])


class Caching:
    """Runs the passes.

    Args:
        ctx: Of the method.
        items: All of them.
        settings: What is selected, and how.
    """

    def __init__(self, ctx: MethodContext, items: Sequence[Item], settings: Settings) -> None:
        self._ctx, self._items, self._settings = ctx, items, settings
        self._lexicon = Lexicon(ctx)
        check_in_front(ctx)
        self.unembedding = wide(self._lexicon.unembedding)
        nothing = torch.zeros(1, self.unembedding.shape[1], device=ctx.session.device, dtype=ctx.session.dtype)
        if self._lexicon.logits(nothing).any():
            raise CallerError(f"the unembedding of {ctx.session.info.name!r} has a bias, which is not expected here")
        self._scale = self._lexicon.output_scale
        self._seen: dict[int, tuple[Seen, ...]] = {}

    def selected(self) -> Pairs:
        """The pairs to train (passes over the examples and the background)."""
        examples = self._numbers(TRAIN)
        self._look(examples, "examples", None)
        tokens = torch.cat([part.tokens for number in examples for part in self._seen[number]]).unique()
        background = self._numbers(BACKGROUND)
        self._look(background, "background", tokens)
        of_background = mean_scores([self._scores(n, is_text=True) for n in background], tokens, self._lexicon.n_senses)
        found = chosen(
            [self._scores(number, is_text=False) for number in examples],
            of_background,
            tokens,
            background_weight=self._settings.background_weight,
            n_per_example=self._settings.senses_per_example,
        )
        if not len(found[0]):
            raise CallerError(f"the selector {self._settings.selector!r} found no sense that matters to any example")
        return Pairs(*found)

    def cache(self, pairs: Pairs) -> Cache:
        """Every item for these pairs (passes over those that were not looked at yet)."""
        rest = [number for number, item in enumerate(self._items) if item.use not in (TRAIN, BACKGROUND)]
        # the same passes whether or not pairs were selected by this run: numbers depend on what shares a pass
        for numbers, what in (
            (self._numbers(TRAIN), "examples"),
            (self._numbers(BACKGROUND), "background"),
            (rest, "texts"),
        ):
            if not all(number in self._seen for number in numbers):
                self._look(numbers, what, pairs.tokens.unique())
        examples = []
        for number in range(len(self._items)):
            self._ctx.raise_if_cancelled()
            # what was kept of all pairs is let go item by item
            parts = [rows_of(one, pairs.tokens, pairs.senses, self._scale) for one in self._seen.pop(number)]
            examples.append(Example(joined(parts), len(parts[0].targets)))
        return Cache(tuple(item.use for item in self._items), tuple(examples))

    def outcomes(self, cache: Cache, delta: Tensor) -> Tensor:
        """log p of the first and second suffix of each item, summed over their tokens, ``[item 2]``, float64."""
        found = []
        for example in cache.examples:
            self._ctx.raise_if_cancelled()
            logs = log_probabilities(example.rows, delta, self.unembedding).double()
            found.append(example.sums.double() @ logs)
        return torch.stack(found)

    def _numbers(self, use: int) -> list[int]:
        return [number for number, item in enumerate(self._items) if item.use == use]

    def _look(self, numbers: Sequence[int], what: str, only: Tensor | None) -> None:
        parts = [part for number in numbers for part in self._items[number].parts]
        found = iter(seen(self._ctx, parts, what, only))
        for number in numbers:
            self._seen[number] = tuple(next(found) for _ in self._items[number].parts)

    def _scores(self, number: int, *, is_text: bool) -> Scores:
        """What each pair of an item counts; of a text each token is predicted, and all of them are added."""
        self._ctx.raise_if_cancelled()
        parts = self._seen[number]
        merged = _merged(parts)
        contrast = torch.ones(len(merged.mix), dtype=merged.mix.dtype, device=merged.mix.device)
        if len(parts) == 2:
            contrast[len(parts[0].mix) :] = -1
        gradients = merged.mix.new_zeros(0)
        if self._settings.selector in OF_GRADIENTS:
            gradients = self._scale * self._gradients(merged, len(parts[0].mix), is_text)
        return scores(self._settings.selector, Evidence(merged, contrast, gradients), self._senses)

    def _gradients(self, merged: Seen, n_first: int, is_text: bool) -> Tensor:
        none = merged.mix.new_zeros(0, merged.mix.shape[1])
        rows = Rows(merged.mix, merged.targets, merged.mix.new_zeros(len(merged.mix), 0))
        if is_text:
            return surprisal_gradients(rows, self.unembedding)
        return example_gradient(self._settings.loss, Example(rows, n_first), none, self.unembedding)[1]

    def _senses(self, tokens: Tensor) -> Tensor:
        return wide(self._lexicon.senses(tokens))


def _merged(parts: Sequence[Seen]) -> Seen:
    """Several sequences as one: rows one behind the other, tokens of all."""
    if len(parts) == 1:
        return parts[0]
    tokens = torch.cat([one.tokens for one in parts]).unique()
    weights = []
    for one in parts:
        table = one.weights.new_zeros(len(one.mix), len(tokens), one.weights.shape[-1])
        table[:, torch.searchsorted(tokens, one.tokens)] = one.weights
        weights.append(table)
    mix, targets = torch.cat([one.mix for one in parts]), torch.cat([one.targets for one in parts])
    return Seen(mix, targets, tokens, torch.cat(weights))
