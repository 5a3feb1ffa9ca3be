"""``model.backpack.finetune``: vectors that are added to a few senses, so that a model does what examples show."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd.graph.run import Event, Result
from interpd_backpack.asking import ask
from interpd_backpack.edits import fingerprint
from interpd_backpack.edits.asking import write_of
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.examples import TASKS, Criterion, Example, example_of, read_examples
from interpd_backpack.evaluation.files import read_documents
from interpd_backpack.finding.cases import Under
from interpd_backpack.finding.finetuned import History, Metrics, SenseFinetuning, TrainedSense
from interpd_backpack.finding.settings import (
    BACKGROUND,
    EVALUATION,
    HARD_NEGATIVES,
    HELD_OUT,
    TRAIN,
    Settings,
)
from interpd_backpack.words import spelt
from interpd_client import Model

Examples = str | Path | Sequence[Example | Mapping[str, str]]
"""A JSON Lines file of ``{prefix, suffix}``, ``{prefix, suffix1, suffix2}`` or ``{text}``; or such things."""

Tokens = Callable[..., Sequence[tuple[int, ...]]]

Texts = str | Path | Sequence[str]
"""A JSON Lines file of ``{text}``, or texts."""

OnEpoch = Callable[[History], object]
"""Is given the history so far."""


@dataclass(frozen=True)
class Data:
    """All that a finetuning is given, as token ids."""

    ids: np.ndarray
    """Of all items, one behind the other."""
    items: np.ndarray
    """``[item 4]``: use, tokens of the prefix, of the first suffix, of the second."""


def finetune(
    model: Model,
    examples: Examples,
    task: str | Criterion,
    *,
    background: Texts,
    held_out: Texts = (),
    evaluation: Examples = (),
    hard_negatives: Examples = (),
    **options: Any,
) -> SenseFinetuning:
    """Sense finetuning from canonical examples (Hewitt et al. 2024): an edit, and what it does.

    Args:
        model: A Backpack.
        examples: What is to be learned.
        task: A task of the paper (``country``, ``company``, ``temporal``, ``stereoset``, ``gender``, ``syntax``), or a
            criterion of one's own: the loss, and below what it is a success.
        background: Texts on which predictions are to stay as they are; longer ones are cut into windows.
        held_out: Texts that say whether the degradation ball is left; empty: the background.
        evaluation: Other examples of the same task, on which the outcome is measured.
        hard_negatives: Examples or texts that must not get worse.
        options: Fields of ``settings.Settings`` (``selector``, ``learning_rate``, ``radius``, ...); ``name`` of the
            edit; ``checkpoint``, an artifact that is kept after each epoch, and ``resume``, one to go on from;
            ``under``, an edit that is in force, or a function that records writes; ``on_epoch``, told the history
            after each epoch; options of requests.

    Raises:
        CallerError: What cannot be.
    """
    criterion = criterion_of(task)
    known = {field.name for field in fields(Settings)} - {"loss"}
    settings = Settings(criterion.quantity, **{name: options.pop(name) for name in known & options.keys()})
    name = options.pop("name", task if isinstance(task, str) else criterion.quantity)
    constants = {key: options.pop(key) for key in ("checkpoint", "resume") if key in options}
    under: Under | None = options.pop("under", None)
    on_epoch: OnEpoch | None = options.pop("on_epoch", None)
    data = packed(
        _tokens_of(model),
        settings,
        {TRAIN: examples, EVALUATION: evaluation, HARD_NEGATIVES: hard_negatives},
        {BACKGROUND: background, HELD_OUT: held_out},
        most=model.info.max_positions,
    )
    answer = ask(
        model,
        "backpack.finetune",
        # an edit that is in force may be about places that a shorter text has not
        data.ids[: data.items[0, 1:3].sum()].tolist(),
        {"ids": data.ids, "items": data.items, "settings": settings.to_json(), **constants},
        options,
        write=write_of(model, under),
        on_event=None if on_epoch is None else _told(on_epoch),
    )
    found = answer.values
    texts = spelt(model, found.tokens.tolist())
    senses = [
        TrainedSense(int(token), text, int(sense), float(score), vector)
        for token, text, sense, score, vector in zip(
            found.tokens, texts, found.senses, found.scores, found.delta, strict=True
        )
    ]
    metrics = Metrics(criterion, data.items, found.before, found.after)
    epoch, share, ratio = found.chosen.tolist()
    return SenseFinetuning(
        name=name,
        settings=settings,
        senses=tuple(senses),
        history=found.history,
        epoch=int(epoch),
        share=share,
        ratio=ratio,
        metrics=metrics,
        base=fingerprint(model.info),
        info=answer.info,
    )


def criterion_of(task: str | Criterion) -> Criterion:
    """What counts as a success. Raises ``CallerError`` for a task that the paper has not."""
    if isinstance(task, Criterion):
        return task
    if task not in TASKS:
        raise CallerError(f"there is no task {task!r}; there are {', '.join(TASKS)}, or give a Criterion")
    return TASKS[task]


def packed(
    tokens: Tokens,
    settings: Settings,
    examples: Mapping[int, Examples],
    texts: Mapping[int, Texts],
    *,
    most: int | None,
) -> Data:
    """The token ids of examples and texts, by what they are for.

    Prefixes are tokenised as texts of their own and suffixes without special tokens, and put together, as published.

    Args:
        tokens: From texts to the token ids of each; with special tokens or with ``special=False``, and with
            ``long=True`` also of those that the model does not take at once.
        settings: What the loss needs.
        examples: By use.
        texts: By use.
        most: Tokens that the model takes; longer texts are cut into windows. ``None``: any number.

    Raises:
        CallerError: Examples that the loss has no suffixes of, texts of one token.
    """
    rows: list[tuple[int, list[tuple[int, ...]]]] = []
    for use, given in examples.items():
        listed = listed_examples(given)
        prefixes = tokens([one.prefix for one in listed])
        chosen = [_suffixes(one, number, use, settings) for number, one in enumerate(listed)]
        suffixes = iter(tokens([suffix for some in chosen for suffix in some], special=False))
        for prefix, some in zip(prefixes, chosen, strict=True):
            if some:
                rows.append((use, [prefix, *(next(suffixes) for _ in some)]))
            else:
                rows.append((use, [prefix[:1], prefix[1:]]))
    for use, given in texts.items():
        for ids in tokens(listed_texts(given), long=True):
            rows += [(use, [window[:1], window[1:]]) for window in _windows(ids, most)]
    items = np.array([[use, *(len(part) for part in (*parts, ())[:3])] for use, parts in rows], dtype=np.int64)
    if (short := items[:, 1:3].min(1) < 1).any():
        use, parts = rows[int(short.argmax())]
        raise CallerError(f"an item has a part without tokens (ids {parts}): a text needs two tokens, a suffix one")
    ids = [number for _, parts in rows for part in parts for number in part]
    return Data(np.array(ids, dtype=np.int64), items)


def listed_examples(given: Examples) -> tuple[Example, ...]:
    """Examples from a file, or as they are. Raises ``InvalidRequest``, ``CallerError``."""
    if isinstance(given, str | Path):
        return read_examples(given)
    return tuple(
        one if isinstance(one, Example) else example_of(f"example {number}", one) for number, one in enumerate(given)
    )


def listed_texts(given: Texts) -> list[str]:
    """Texts of a file (a ``.txt`` is one; else JSON Lines, of examples the prefixes), or as they are.

    Raises ``InvalidRequest``.
    """
    if not isinstance(given, str | Path):
        return list(given)
    if Path(given).suffix == ".txt":
        return [document.text for document in read_documents([given])]
    return [one.prefix for one in read_examples(given)]


def _suffixes(example: Example, number: int, use: int, settings: Settings) -> tuple[str, ...]:
    """Those that count."""
    if use == HARD_NEGATIVES:
        return example.suffixes[:1]
    needed = 2 if settings.is_pair else 1
    if len(example.suffixes) < needed:
        raise CallerError(
            f"example {number} ({example.prefix!r}) has {len(example.suffixes)} suffixes, "
            f"{settings.loss!r} needs {needed}"
        )
    if settings.is_pair:
        return example.suffixes[:2]
    return example.suffixes[-1:] if settings.loss == "avoid" else example.suffixes[:1]


def _tokens_of(model: Model) -> Tokens:
    asking = Asking(model)

    def tokens(texts: Sequence[str], *, special: bool = True, long: bool = False) -> list[tuple[int, ...]]:
        return [asking.text_tokens(text) for text in texts] if long else asking.tokens(texts, special=special)

    return tokens


def _windows(ids: tuple[int, ...], most: int | None) -> Iterator[tuple[int, ...]]:
    """A text in pieces that the model takes; a last piece of one token predicts nothing."""
    size = most or max(len(ids), 1)
    for start in range(0, max(len(ids), 1), size):
        piece = ids[start : start + size]
        if len(piece) > 1 or start == 0:
            yield piece


def _told(on_epoch: OnEpoch) -> Callable[[Event], object]:
    def told(event: Event) -> None:
        if isinstance(event, Result) and event.partial and event.name.rpartition(".")[2] == "history":
            on_epoch(History(*event.tensor.to_numpy().T))

    return told
