"""Canonical examples (2402.06155): how often a model does what is asked of it, before and after an edit, and at what
cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np

from interpd.errors import CallerError, InvalidRequest
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.files import read_records
from interpd_backpack.evaluation.perplexity import Perplexity, PerplexitySettings, measure_perplexity
from interpd_backpack.evaluation.sections import Chart, Section, Table, percent, plain

Quantity = Literal["say", "avoid", "balance", "prefer"]
"""The loss of an example, of the log probabilities of its suffixes.

``say``: -log p(suffix). ``avoid``: log p of the last suffix. ``balance``: |log p(suffix1) - log p(suffix2)|.
``prefer``: log p(suffix2) - log p(suffix1).
"""


@dataclass(frozen=True)
class Criterion:
    """What counts as a success: a loss below a threshold."""

    quantity: Quantity
    below: float

    def __post_init__(self) -> None:
        if self.quantity not in get_args(Quantity):
            raise CallerError(f"the quantity is {self.quantity!r}, expected one of {', '.join(get_args(Quantity))}")


TASKS: Mapping[str, Criterion] = MappingProxyType(
    {
        "country": Criterion("say", -math.log(0.2)),
        "company": Criterion("say", -math.log(0.05)),
        "temporal": Criterion("say", -math.log(0.05)),
        "stereoset": Criterion("avoid", math.log(0.001)),
        "gender": Criterion("balance", math.log(1.5)),
        "syntax": Criterion("prefer", -math.log(16)),
    }
)
"""Tasks of the paper, with its thresholds; of ``syntax`` those of its code."""

SUFFIX_FIELDS = (("suffix",), ("suffix1", "suffix2"))


@dataclass(frozen=True)
class Example:
    """A beginning, and what may or may not follow."""

    prefix: str
    suffixes: tuple[str, ...]
    """One, or the wanted one and the other; none: the prefix is a text of its own."""


@dataclass(frozen=True, kw_only=True)
class ExampleSettings:
    """Which examples, and what is wanted of them.

    Args:
        examples: A JSON Lines file of ``{prefix, suffix}`` or ``{prefix, suffix1, suffix2}``; or examples.
        task: A task of the paper (``country``, ``company``, ``temporal``, ``stereoset``, ``gender``, ``syntax``), or a
            criterion of one's own.
        hard_negatives: Such a file, or one of ``{text}``: what should stay as it was.
        general: Texts whose mean -log p says in which ball of degradation the edit stays.
        special: Whether the tokenizer adds what it puts around texts to the prefixes.
    """

    examples: str | Path | tuple[Example, ...]
    task: str | Criterion
    hard_negatives: str | Path | tuple[Example, ...] = ()
    general: PerplexitySettings | None = None
    special: bool = True

    def criterion(self) -> Criterion:
        """What counts as a success. Raises ``CallerError``: no such task."""
        if isinstance(self.task, Criterion):
            return self.task
        if self.task not in TASKS:
            raise CallerError(f"there is no task {self.task!r}; there are {', '.join(TASKS)}, or give a Criterion")
        return TASKS[self.task]


@dataclass(frozen=True)
class Outcome:
    """Losses of examples before and after an edit."""

    before: np.ndarray
    """``[example]``."""
    after: np.ndarray | None

    @property
    def change(self) -> float | None:
        """How much the mean rises."""
        return None if self.after is None else float(self.after.mean() - self.before.mean())


@dataclass(frozen=True)
class ExampleMetrics:
    """How often examples succeed, what hard negatives lose, and what general text loses."""

    name: str
    criterion: Criterion
    losses: Outcome
    hard_negatives: Outcome | None
    """-log p of the suffixes, or of the text, of each, in nats."""
    general: Perplexity | None

    @property
    def before(self) -> float:
        """The success rate of the model as it is."""
        return float((self.losses.before < self.criterion.below).mean())

    @property
    def after(self) -> float | None:
        """The success rate under the edit."""
        return None if self.losses.after is None else float((self.losses.after < self.criterion.below).mean())

    def section(self) -> Section:
        """Success rates, hard negatives, and the ball."""
        rows: list[tuple[Any, ...]] = [
            ("success (%)", *_moved(100 * self.before, None if self.after is None else 100 * self.after)),
            ("mean loss", *_moved(float(self.losses.before.mean()), _mean(self.losses.after))),
        ]
        if self.hard_negatives is not None:
            negatives = self.hard_negatives
            rows.append(("hard negatives, nats", *_moved(float(negatives.before.mean()), _mean(negatives.after))))
        if self.general is not None:
            edited = self.general.edited
            rows.append(("general text, nats", *_moved(float(self.general.surprisals.mean()), _mean(edited))))
        notes = [
            f"examples: {len(self.losses.before)}; a success is a loss ({self.criterion.quantity}) below "
            f"{self.criterion.below:.4g}; log probabilities are summed over the tokens of a suffix"
        ]
        if self.general is not None and self.general.degradation is not None:
            inside = [f"{ball:g}" for ball in self.general.ball if self.general.is_inside(ball)]
            held = f"inside the balls {', '.join(inside)}" if inside else "outside all balls"
            notes.append(f"general text is {percent(self.general.degradation)} worse: {held}")
        charts = ()
        if self.after is not None:
            series = {"before": [100 * self.before], "after": [100 * self.after]}
            charts = (Chart("success (%)", (self.name,), series),)
        table = Table(("", "before", "after", "change"), tuple(rows))
        return Section(f"Canonical examples: {self.name}", (table,), charts, tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Rates, and the loss of every example."""
        found = {"name": self.name, "quantity": self.criterion.quantity, "below": self.criterion.below}
        found |= {"success": self.before, "success_edited": self.after}
        found |= {"losses": self.losses.before, "losses_edited": self.losses.after}
        if self.hard_negatives is not None:
            found |= {"hard_negatives": self.hard_negatives.before, "hard_negatives_edited": self.hard_negatives.after}
        if self.general is not None:
            found["general"] = self.general.to_dict()
        return plain(found)


def read_examples(path: str | Path) -> tuple[Example, ...]:
    """The examples of a JSON Lines file.

    Raises:
        InvalidRequest: A line without a prefix and its suffixes, or a text.
    """
    found = tuple(example_of(place, record) for place, record in read_records(path))
    if not found:
        raise InvalidRequest(f"{path} has no examples")
    return found


def measure_examples(asking: Asking, settings: ExampleSettings) -> ExampleMetrics:
    """How often examples succeed, before and after the edit.

    Raises:
        CallerError: Examples that the criterion has no loss of.
    """
    criterion, examples = settings.criterion(), _given(settings.examples)
    _check(examples, criterion)
    losses = _both(asking, examples, settings, lambda logs: _losses(logs, criterion.quantity), "examples")
    negatives = None
    if hard := _given(settings.hard_negatives):
        negatives = _both(asking, hard, settings, lambda logs: -np.array([one[0] for one in logs]), "hard negatives")
    general = None if settings.general is None else measure_perplexity(asking, settings.general)
    name = settings.task if isinstance(settings.task, str) else settings.task.quantity
    return ExampleMetrics(name, criterion, losses, negatives, general)


def _given(examples: str | Path | tuple[Example, ...]) -> tuple[Example, ...]:
    return tuple(examples) if isinstance(examples, tuple | list) else read_examples(examples)


def example_of(place: str, record: Mapping[str, Any]) -> Example:
    """The example of a record that stands at ``place``. Raises ``InvalidRequest``."""
    named = "prefix" if "prefix" in record else "text"
    if named not in record:
        raise InvalidRequest(f"{place} has neither a prefix nor a text; its fields are {', '.join(record)}")
    for name in (named, *{name for names in SUFFIX_FIELDS for name in names} & record.keys()):
        if not isinstance(record[name], str) or not record[name]:
            got = "an empty one" if record[name] == "" else repr(record[name])
            raise InvalidRequest(f"{place}: {name!r} is a text, got {got}")
    prefix = record[named]
    if named == "text":
        return Example(prefix, ())
    for names in SUFFIX_FIELDS:
        found = tuple(record[name] for name in names if name in record)
        if len(found) == len(names):
            return Example(prefix, found)
    raise InvalidRequest(f"{place} has a prefix and no suffix, nor suffix1 and suffix2")


def _check(examples: Sequence[Example], criterion: Criterion) -> None:
    needed = 2 if criterion.quantity in ("balance", "prefer") else 1
    for number, example in enumerate(examples):
        if len(example.suffixes) < needed:
            raise CallerError(
                f"example {number} ({example.prefix!r}) has {len(example.suffixes)} suffixes, "
                f"{criterion.quantity!r} needs {needed}"
            )
    if not examples:
        raise CallerError("there are no examples")


def _both(asking: Asking, examples: Sequence[Example], settings: ExampleSettings, loss: Any, what: str) -> Outcome:
    cases = _cases(asking, examples, settings.special)
    before = loss(_log_probabilities(asking, cases, edited=False, what=what))
    if asking.put is None:
        return Outcome(before, None)
    return Outcome(before, loss(_log_probabilities(asking, cases, edited=True, what=f"{what}, edited")))


Case = tuple[int, tuple[int, ...], int]
"""Number of the example, tokens, and how many of them are the prefix."""


def _cases(asking: Asking, examples: Sequence[Example], special: bool) -> list[Case]:
    prefixes = asking.tokens([example.prefix for example in examples], special=special)
    numbers = [number for number, example in enumerate(examples) for _ in example.suffixes]
    suffixes = asking.tokens([suffix for example in examples for suffix in example.suffixes], special=False)
    cases = [
        (number, prefixes[number] + ids, len(prefixes[number])) for number, ids in zip(numbers, suffixes, strict=True)
    ]
    # a text of its own is scored from its second token on
    cases += [(number, prefixes[number], 1) for number, one in enumerate(examples) if not one.suffixes]
    return sorted(cases, key=lambda case: case[0])


def _log_probabilities(asking: Asking, cases: Sequence[Case], *, edited: bool, what: str) -> list[list[float]]:
    """Of each example's suffixes, or of its text."""
    found = asking.surprisals([ids for _, ids, _ in cases], edited=edited, what=what)
    sums: dict[int, list[float]] = {}
    for (number, _, n_prefix), values in zip(cases, found, strict=True):
        sums.setdefault(number, []).append(-float(values[max(1, n_prefix) :].sum()))
    return [sums[number] for number in sorted(sums)]


def _losses(logs: Sequence[Sequence[float]], quantity: Quantity) -> np.ndarray:
    if quantity == "say":
        return np.array([-one[0] for one in logs])
    if quantity == "avoid":
        return np.array([one[-1] for one in logs])
    differences = np.array([one[1] - one[0] for one in logs])
    return np.abs(differences) if quantity == "balance" else differences


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None else float(values.mean())


def _moved(before: float, after: float | None) -> tuple[float | None, ...]:
    return (before, after, None if after is None else after - before)
