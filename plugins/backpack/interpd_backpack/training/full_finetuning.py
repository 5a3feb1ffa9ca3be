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
from interpd_backpack.finding.settings import BACKGROUND, EVALUATION, HARD_NEGATIVES, HELD_OUT, TRAIN, Settings
from interpd_backpack.worker.finding.adam import BETAS, cosine
from interpd_backpack.worker.finding.ball import SEARCH_STEPS
from interpd_backpack.worker.finding.cached import Predicted
from interpd_backpack.worker.finding.items import Item, items_of
from interpd_backpack.worker.finding.losses import example_loss
from interpd_backpack.worker.finding.training import SEED_STRIDE

OF_SENSES = ("selector", "senses_per_example", "background_weight", "half")
"""Settings that are about senses."""
TOKENS_AT_ONCE = 1 << 12
"""Tokens of one pass, padding included."""

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


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What was chosen for one ball; the copy has these weights."""

    epoch: int
    share: float
    weights: Weights


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
    given = {"background": background, "held_out": held_out, "evaluation": evaluation}
    radius = options.get("radius", Settings.radius)
    (found,) = full_finetunings(model, tokenizer, examples, task, radii=(radius,), **given, **options)
    return found


def full_finetunings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    task: str | Criterion,
    *,
    radii: Sequence[float],
    **options: Any,
) -> tuple[FullFinetuning, ...]:
    """What ``full_finetuning`` gives for each of several balls, from one training: no ball changes its steps.

    Args:
        model: As there.
        tokenizer: As there.
        examples: As there.
        task: As there.
        radii: Of the balls.
        options: As there.

    Raises:
        CallerError: What cannot be.
    """
    texts = {BACKGROUND: options.pop("background"), HELD_OUT: options.pop("held_out", ())}
    given = {
        TRAIN: examples,
        EVALUATION: options.pop("evaluation", ()),
        HARD_NEGATIVES: options.pop("hard_negatives", ()),
    }
    known = {field.name for field in fields(Settings)} - {"loss", *OF_SENSES}
    if unknown := sorted(options.keys() - known):
        raise CallerError(f"there is no option {unknown[0]!r}; there are hard_negatives, {', '.join(sorted(known))}")
    criterion = criterion_of(task)
    settings = [Settings(criterion.quantity, **{**options, "radius": radius}) for radius in radii]
    if not settings:
        raise CallerError("expected one radius at least")

    def tokens(texts: Sequence[str], *, special: bool = True, **_: bool) -> list[tuple[int, ...]]:
        return [tuple(tokenizer(text, add_special_tokens=special)["input_ids"]) for text in texts]

    most = getattr(model.config, "max_position_embeddings", None)
    data = packed(tokens, settings[0], given, texts, most=most)
    training = _FullTraining(
        model, items_of(torch.from_numpy(data.ids), torch.from_numpy(data.items), settings[0]), settings
    )
    before = training.outcomes()
    history, chosen = training.run()
    found = []
    for one in chosen:
        training.put(one.weights)
        metrics = Metrics(criterion, data.items, before, training.outcomes())
        made = copy.deepcopy(training.model)
        found.append(FullFinetuning(made, np.array(history), one.epoch, one.share, training.ratio(), metrics))
    return tuple(found)


class _FullTraining:
    def __init__(self, model: PreTrainedModel, items: Sequence[Item], settings: Sequence[Settings]) -> None:
        self._first, self._items, self._settings = model, items, settings[0]
        self._radii = [one.radius for one in settings]
        self.model: PreTrainedModel = copy.deepcopy(model).eval().requires_grad_(True)
        self._base = self._held_out_nll()

    def run(self) -> tuple[list[tuple[float, ...]], list[_Chosen]]:
        """(history, what is chosen for each ball)."""
        settings, begin = self._settings, self._weights()
        history = [(self.loss(), 0.0, 1.0, 0.0)]
        inside = {radius: _Chosen(0, 1.0, begin) for radius in self._radii}
        optimiser = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate, betas=BETAS)
        for number in range(settings.n_epochs):
            rate = cosine(settings.learning_rate, number, settings.n_epochs)
            divergence = self._epoch(optimiser, number, rate)
            history.append((self.loss(), divergence, self.ratio(), rate))
            held = [radius for radius in self._radii if history[-1][2] <= 1 + radius]
            if held:
                inside |= dict.fromkeys(held, _Chosen(number + 1, 1.0, self._weights()))
        last = self._weights()
        return history, [self._searched(inside[radius], begin, last, radius) for radius in self._radii]

    def put(self, weights: Weights) -> None:
        """Gives the copy these weights."""
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(weights[name])

    def loss(self) -> float:
        """The mean loss of the examples."""
        with torch.no_grad():
            return float(np.mean([float(one) for one in self._losses(list(self._of(TRAIN)))]))

    def ratio(self) -> float:
        """NLL of the held-out texts over what it was."""
        return self._held_out_nll() / self._base

    def outcomes(self) -> np.ndarray:
        """log p of the first and second suffix of each item, summed, ``[item 2]``."""
        with torch.no_grad():
            sums = iter([float(logs.double().sum()) for logs in self._logs(self._parts(self._items))])
        return np.array([(*(next(sums) for _ in item.parts), 0.0)[:2] for item in self._items])

    def _epoch(self, optimiser: torch.optim.Adam, number: int, rate: float) -> float:
        settings, examples, texts = self._settings, list(self._of(TRAIN)), list(self._of(BACKGROUND))
        generator = torch.Generator().manual_seed(settings.seed * SEED_STRIDE + number)
        order = torch.randperm(len(examples), generator=generator).tolist()
        drawn = torch.randint(len(texts), (len(order),), generator=generator).tolist()
        optimiser.param_groups[0]["lr"] = rate
        divergences = 0.0
        for start in range(0, len(order), settings.accumulate):
            step = slice(start, start + settings.accumulate)
            optimiser.zero_grad()
            total = torch.stack(self._losses([examples[example] for example in order[step]])).sum()
            if settings.kl_weight:
                divergence = self._divergence([texts[text].parts[0] for text in drawn[step]])
                divergences += float(divergence.detach())
                total = total + settings.kl_weight * divergence
            total.backward()
            optimiser.step()
        return divergences / len(order)

    def _searched(self, inside: _Chosen, begin: Weights, last: Weights, radius: float) -> _Chosen:
        """The greatest share of the last epoch inside the ball, where its loss is lower than that of an epoch."""
        n_epochs = self._settings.n_epochs
        if not self._settings.line_search or inside.epoch == n_epochs:
            return inside
        self.put(inside.weights)
        own, share = self.loss(), self._line(begin, last, radius)
        return _Chosen(n_epochs, share, self._weights()) if share and self.loss() < own else inside

    def _line(self, begin: Weights, end: Weights, radius: float) -> float:
        """The greatest share of the way that halving finds inside the ball; the copy has these weights then."""
        low, high = 0.0, 1.0
        for _ in range(SEARCH_STEPS):
            middle = (low + high) / 2
            self.put({name: begin[name] + middle * (end[name] - begin[name]) for name in begin})
            low, high = (middle, high) if self.ratio() <= 1 + radius else (low, middle)
        self.put({name: begin[name] + low * (end[name] - begin[name]) for name in begin})
        return low

    def _of(self, use: int) -> Iterator[Item]:
        return (item for item in self._items if item.use == use)

    def _losses(self, items: Sequence[Item]) -> list[Tensor]:
        means = iter([logs.mean() for logs in self._logs(self._parts(items))])
        both = [[next(means) for _ in item.parts] for item in items]
        return [example_loss(self._settings.loss, some[0], some[-1]) for some in both]

    def _logs(self, parts: Sequence[Predicted]) -> list[Tensor]:
        """log p of what each of them predicts."""
        return [
            logs.gather(1, part.ids[part.start :, None].to(logs.device))[:, 0]
            for part, logs in zip(parts, _log_softmaxes(self.model, parts), strict=True)
        ]

    def _divergence(self, parts: Sequence[Predicted]) -> Tensor:
        with torch.no_grad():
            old = list(_log_softmaxes(self._first, parts))
        new = _log_softmaxes(self.model, parts)
        sums = [
            functional.kl_div(one, other, log_target=True, reduction="sum") for one, other in zip(new, old, strict=True)
        ]
        return torch.stack(sums).sum()

    def _held_out_nll(self) -> float:
        items = list(self._of(HELD_OUT)) or list(self._of(BACKGROUND))
        with torch.no_grad():
            return -sum(float(logs.double().sum()) for logs in self._logs(self._parts(items)))

    @staticmethod
    def _parts(items: Sequence[Item]) -> list[Predicted]:
        return [part for item in items for part in item.parts]

    def _weights(self) -> Weights:
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}


def _log_softmaxes(model: nn.Module, parts: Sequence[Predicted]) -> Iterator[Tensor]:
    """log p of the whole vocabulary at each predicted position, ``[row d_vocab]`` for each of ``parts``.

    Shorter ones are padded at the end, which no position of a causal model sees that counts.
    """
    device = next(model.parameters()).device
    for some in _batches(parts):
        longest = max(len(part.ids) for part in some)
        ids = torch.stack([functional.pad(part.ids, (0, longest - len(part.ids))) for part in some]).to(device)
        mask = torch.stack([torch.arange(longest) < len(part.ids) for part in some]).long().to(device)
        logits = model(ids, attention_mask=mask, use_cache=False).logits
        for part, own in zip(some, logits, strict=True):
            rows = own[part.start - 1 : len(part.ids) - 1]
            yield (rows if rows.dtype == torch.float64 else rows.float()).log_softmax(-1)


def _batches(parts: Sequence[Predicted]) -> Iterator[Sequence[Predicted]]:
    start, longest = 0, 0
    for number, part in enumerate(parts):
        longest = max(longest, len(part.ids))
        if number > start and longest * (number - start + 1) > TOKENS_AT_ONCE:
            yield parts[start:number]
            start, longest = number, len(part.ids)
    if parts:
        yield parts[start:]
