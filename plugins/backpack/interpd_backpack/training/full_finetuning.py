"""Finetuning of all weights on canonical examples: what sense finetuning is compared with (Hewitt et al. 2024).

The same examples, losses, divergence, schedule and ball as ``finding.finetuning``, on a copy of any causal language
model that is here, outside the daemon, whose weights nobody changes.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interpd.errors import CallerError
from interpd_backpack.evaluation.examples import Criterion
from interpd_backpack.finding.finetuned import Metrics
from interpd_backpack.finding.finetuning import Examples, Texts, criterion_of, packed
from interpd_backpack.finding.settings import (
    BACKGROUND,
    EVALUATION,
    HARD_NEGATIVES,
    HELD_OUT,
    TRAIN,
    Loss,
    Settings,
)
from interpd_backpack.worker.finding.adam import BETAS, cosine
from interpd_backpack.worker.finding.ball import SEARCH_STEPS
from interpd_backpack.worker.finding.cached import Predicted
from interpd_backpack.worker.finding.items import Item, items_of
from interpd_backpack.worker.finding.losses import example_loss
from interpd_backpack.worker.finding.training import SEED_STRIDE

OF_SENSES = ("selector", "senses_per_example", "background_weight", "half")
"""Settings that are about senses."""

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class FullFinetuning:
    """A finetuned copy of a model, and what it does."""

    model: PreTrainedModel
    history: np.ndarray
    """``[epoch 4]``, the beginning included: mean loss of the examples, mean KL of the steps, ratio of the held-out
    NLL, learning rate."""
    epoch: int
    """Which epoch's weights were taken; 0: none was inside the ball."""
    share: float
    """How far they are from the first weights towards those of that epoch."""
    ratio: float
    """NLL of the held-out texts over what it was: at most 1 + ``radius``."""
    metrics: Metrics


def full_finetuning(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    task: str | Criterion,
    *,
    background: Texts,
    held_out: Texts = (),
    evaluation: Examples = (),
    **options: Any,
) -> FullFinetuning:
    """Finetuning of all weights of a copy of ``model``; it stays inside the degradation ball as sense finetuning does.

    Adam takes a step for every ``accumulate`` examples, without dropout. Where the last epoch leaves the ball, the
    greatest share of the way there that halving finds inside is tried, too (``line_search``); unlike that of senses
    this way need not be convex, and what is found is measured.

    Args:
        model: Any causal language model; it stays as it is.
        tokenizer: Its own.
        examples: As for ``model.backpack.finetune``.
        task: As there.
        background: As there.
        held_out: As there.
        evaluation: As there.
        options: ``hard_negatives``, and fields of ``finding.settings.Settings`` that are not about senses.

    Raises:
        CallerError: What cannot be.
    """
    hard_negatives = options.pop("hard_negatives", ())
    known = {field.name for field in fields(Settings)} - {"loss", *OF_SENSES}
    if unknown := sorted(options.keys() - known):
        raise CallerError(f"there is no option {unknown[0]!r}; there are hard_negatives, {', '.join(sorted(known))}")
    criterion = criterion_of(task)
    settings = Settings(criterion.quantity, **options)

    def tokens(texts: Sequence[str], *, special: bool = True, **_: bool) -> list[tuple[int, ...]]:
        return [tuple(tokenizer(text, add_special_tokens=special)["input_ids"]) for text in texts]

    given = {TRAIN: examples, EVALUATION: evaluation, HARD_NEGATIVES: hard_negatives}
    data = packed(
        tokens,
        settings,
        given,
        {BACKGROUND: background, HELD_OUT: held_out},
        most=getattr(model.config, "max_position_embeddings", None),
    )
    items = items_of(torch.from_numpy(data.ids), torch.from_numpy(data.items), settings)
    training = _FullTraining(model, items, settings)
    before = training.outcomes()
    history, epoch, share = training.run()
    return FullFinetuning(
        training.model,
        np.array(history),
        epoch,
        share,
        training.ratio(),
        Metrics(criterion, data.items, before, training.outcomes()),
    )


class _FullTraining:
    def __init__(self, model: PreTrainedModel, items: Sequence[Item], settings: Settings) -> None:
        self._first, self._items, self._settings = model, items, settings
        self.model: PreTrainedModel = copy.deepcopy(model).eval().requires_grad_(True)
        self._base = self._held_out_nll()

    def run(self) -> tuple[list[tuple[float, ...]], int, float]:
        """(history, epoch, share); the copy ends with what was chosen."""
        settings, begin = self._settings, self._weights()
        history, inside, epoch = [(self.loss(), 0.0, 1.0, 0.0)], begin, 0
        optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate, betas=BETAS)
        for number in range(settings.n_epochs):
            rate = cosine(settings.learning_rate, number, settings.n_epochs)
            divergence = self._epoch(optimiser, number, rate)
            history.append((self.loss(), divergence, self.ratio(), rate))
            if history[-1][2] <= 1 + settings.radius:
                inside, epoch = self._weights(), number + 1
        last, share = self._weights(), 1.0
        self._put(inside)
        if settings.line_search and epoch < settings.n_epochs:
            own, found = self.loss(), self._line(begin, last)
            if found and self.loss() < own:
                return history, settings.n_epochs, found
            self._put(inside)
        return history, epoch, share

    def loss(self) -> float:
        """The mean loss of the examples."""
        with torch.no_grad():
            return float(np.mean([float(self._loss(item)) for item in self._of(TRAIN)]))

    def ratio(self) -> float:
        """NLL of the held-out texts over what it was."""
        return self._held_out_nll() / self._base

    def outcomes(self) -> np.ndarray:
        """log p of the first and second suffix of each item, summed, ``[item 2]``."""
        with torch.no_grad():
            sums = [[float(self._logs(part).double().sum()) for part in item.parts] for item in self._items]
        return np.array([(*some, 0.0)[:2] for some in sums])

    def _epoch(self, optimiser: torch.optim.Adam, number: int, rate: float) -> float:
        settings, examples, texts = self._settings, list(self._of(TRAIN)), list(self._of(BACKGROUND))
        generator = torch.Generator().manual_seed(settings.seed * SEED_STRIDE + number)
        order = torch.randperm(len(examples), generator=generator).tolist()
        drawn = torch.randint(len(texts), (len(order),), generator=generator).tolist()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        divergences = 0.0
        for place, (example, text) in enumerate(zip(order, drawn, strict=True), start=1):
            loss = self._loss(examples[example])
            if settings.kl_weight:
                divergence = self._divergence(texts[text].parts[0])
                divergences += float(divergence.detach())
                loss = loss + settings.kl_weight * divergence
            loss.backward()
            if place % settings.accumulate == 0 or place == len(order):
                optimiser.step()
                optimiser.zero_grad()
        return divergences / len(order)

    def _line(self, begin: Weights, end: Weights) -> float:
        """The greatest share of the way that halving finds inside the ball; the copy has these weights then."""
        low, high = 0.0, 1.0
        for _ in range(SEARCH_STEPS):
            middle = (low + high) / 2
            self._put({name: begin[name] + middle * (end[name] - begin[name]) for name in begin})
            low, high = (middle, high) if self.ratio() <= 1 + self._settings.radius else (low, middle)
        self._put({name: begin[name] + low * (end[name] - begin[name]) for name in begin})
        return low

    def _of(self, use: int) -> Iterator[Item]:
        return (item for item in self._items if item.use == use)

    def _loss(self, item: Item) -> Tensor:
        means = [self._logs(part).mean() for part in item.parts]
        return _loss(self._settings.loss, means)

    def _logs(self, part: Predicted) -> Tensor:
        logs = _log_softmax(self.model, part)
        return logs.gather(1, part.ids[part.start :, None].to(logs.device))[:, 0]

    def _divergence(self, part: Predicted) -> Tensor:
        with torch.no_grad():
            old = _log_softmax(self._first, part)
        return functional.kl_div(_log_softmax(self.model, part), old, log_target=True, reduction="sum")

    def _held_out_nll(self) -> float:
        items = list(self._of(HELD_OUT)) or list(self._of(BACKGROUND))
        with torch.no_grad():
            return -sum(float(self._logs(item.parts[0]).double().sum()) for item in items)

    def _weights(self) -> Weights:
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def _put(self, weights: Weights) -> None:
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(weights[name])


def _log_softmax(model: nn.Module, part: Predicted) -> Tensor:
    device = next(model.parameters()).device
    logits = model(part.ids[None].to(device), use_cache=False).logits[0, part.start - 1 : -1]
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


def _loss(loss: Loss, means: Sequence[Tensor]) -> Tensor:
    return example_loss(loss, means[0], means[-1])
