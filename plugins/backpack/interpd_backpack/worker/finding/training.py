"""The training itself: cached rows in, vectors out, no forward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interpd_backpack.finding.settings import Settings
from interpd_backpack.worker.finding.adam import Moments, cosine, step
from interpd_backpack.worker.finding.ball import Ball
from interpd_backpack.worker.finding.cached import Rows
from interpd_backpack.worker.finding.losses import Example, divergence_gradient, example_gradient

SEED_STRIDE = 1 << 32
"""Epochs of one seed have seeds that no other seed's have."""


@dataclass(frozen=True)
class State:
    """All that the next epoch depends on, and what has been reached."""

    delta: Tensor
    """``[pair d_model]``."""
    moments: Moments
    inside: Tensor
    """What the last epoch inside the ball had, as measured: rounded where that is asked for."""
    inside_epoch: int
    """Which that was; 0: none, nothing is added."""
    history: tuple[tuple[float, ...], ...]
    """For each epoch, the beginning included: mean loss of the examples, mean KL of its steps, ratio of NLLs, rate."""

    @property
    def n_epochs(self) -> int:
        """Epochs that are done."""
        return len(self.history) - 1


@dataclass(frozen=True)
class Outcome:
    """What is kept of a training."""

    delta: Tensor
    """``[pair d_model]``, rounded where that is asked for."""
    epoch: int
    share: float
    """Of that epoch's vectors."""
    ratio: float
    """NLL of the held-out texts over what it was: at most 1 + radius."""


class Training:
    """Sense finetuning on cached rows (Hewitt et al. 2024, section 4).

    The published loop sets gradients to zero before each example and takes a step after each fifth, so that four of
    five examples count for nothing. Here the gradients of all are added.

    Args:
        settings: How.
        examples: What is learned.
        background: Rows of texts on which predictions are to stay.
        ball: Of held-out texts.
        unembedding: E.
        breathe: Called now and then; may raise.
    """

    def __init__(
        self,
        settings: Settings,
        examples: Sequence[Example],
        background: Sequence[Rows],
        ball: Ball,
        *,
        unembedding: Tensor,
        breathe: Callable[[], None],
    ) -> None:
        self._settings, self._examples, self._background = settings, examples, background
        self._ball, self._unembedding, self._breathe = ball, unembedding, breathe

    def begin(self) -> State:
        """Before the first epoch: nothing is added."""
        rows = self._examples[0].rows
        zero = rows.mix.new_zeros(rows.weights.shape[1], rows.mix.shape[1])
        return State(zero, Moments.zero(zero), zero, 0, ((self.loss(zero), 0.0, 1.0, 0.0),))

    def epoch(self, state: State) -> State:
        """After one more epoch."""
        settings, number = self._settings, state.n_epochs
        generator = torch.Generator().manual_seed(settings.seed * SEED_STRIDE + number)
        order = torch.randperm(len(self._examples), generator=generator).tolist()
        texts = torch.randint(len(self._background), (len(order),), generator=generator).tolist()
        rate = cosine(settings.learning_rate, number, settings.n_epochs)
        delta, moments, divergences = state.delta, state.moments, 0.0
        gradient = torch.zeros_like(delta)
        for place, (example, text) in enumerate(zip(order, texts, strict=True), start=1):
            self._breathe()
            own, divergence = self._gradient(delta, self._examples[example], self._background[text])
            gradient, divergences = gradient + own, divergences + divergence
            if place % settings.accumulate == 0 or place == len(order):
                delta, moments = step(delta, gradient, moments, rate)
                gradient = torch.zeros_like(delta)
        measured = self.rounded(delta)
        ratio = self._ball.ratio(measured)
        row = (self.loss(measured), divergences / len(order), ratio, rate)
        state = replace(state, delta=delta, moments=moments, history=(*state.history, row))
        return replace(state, inside=measured, inside_epoch=number + 1) if ratio <= 1 + settings.radius else state

    def outcome(self, state: State) -> Outcome:
        """The last epoch inside the ball, or that share of the very last one which lies inside if its loss is lower."""
        kept = Outcome(state.inside, state.inside_epoch, 1.0, self._ball.ratio(state.inside))
        if not self._settings.line_search or state.inside_epoch == state.n_epochs:
            return kept
        share = self._ball.share(state.delta, self._settings.radius, self.rounded)
        shrunk = self.rounded(share * state.delta)
        found = Outcome(shrunk, state.n_epochs, share, self._ball.ratio(shrunk))
        return found if self.loss(shrunk) < self.loss(state.inside) else kept

    def loss(self, delta: Tensor) -> float:
        """The mean loss over the examples with ``delta`` added."""
        total = 0.0
        for example in self._examples:
            self._breathe()
            total += float(example_gradient(self._settings.loss, example, delta, self._unembedding)[0])
        return total / len(self._examples)

    def rounded(self, delta: Tensor) -> Tensor:
        """``delta`` as it will be kept."""
        return delta.half().to(delta.dtype) if self._settings.half else delta

    def _gradient(self, delta: Tensor, example: Example, background: Rows) -> tuple[Tensor, float]:
        _, by_mix = example_gradient(self._settings.loss, example, delta, self._unembedding)
        gradient = example.rows.weights.T @ by_mix
        if not self._settings.kl_weight:
            return gradient, 0.0
        divergence, of_background = divergence_gradient(background, delta, self._unembedding)
        return gradient + self._settings.kl_weight * of_background, float(divergence)
