"""Questions about predictions: which number, of which position, and the result that comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from interpd.errors import CallerError
from interpd.graph.run import Event
from interpd.graph.run import Result as ResultEvent
from interpd_backpack.asking import Write, ask, one_token, strings_of
from interpd_backpack.edits import Edit
from interpd_backpack.edits.asking import write_of
from interpd_backpack.explaining.contributions import Contributions, Quantity, number_said
from interpd_backpack.explaining.over_texts import ContributionsOver
from interpd_backpack.texts import Text, in_pieces, whole
from interpd_backpack.words import Pieces, Word, spelt
from interpd_client import Model

QUANTITIES = ("logit", "difference", "log_probability")
Under = Write | Edit
"""What is in force: an edit, or a function that records writes in a trace."""
Where = int | Literal["all", "before_target"]

OnPartial = Callable[[dict[str, np.ndarray]], object]
"""Called with ``types``, ``sums`` and ``counts`` so far."""


@dataclass(frozen=True)
class Number:
    """Which number of a prediction is taken apart."""

    target: str | int | None = None
    contrast: str | int | None = None
    quantity: Quantity | None = None
    pieces: Pieces = "refuse"


def contributions(
    model: Model,
    prompt: Any,
    number: Number,
    *,
    position: int = -1,
    under: Under | None = None,
    **run: Any,
) -> Contributions:
    """A prediction, taken apart; see ``Backpack.contributions``."""
    if prompt == "":
        raise CallerError("the prompt is empty; what a text begins with is explained by its token, prompt=[id]")
    chosen, word, other = _asked(model, number)
    constants = {"position": position, "quantity": chosen, **_ids(word, other)}
    answer = ask(model, "backpack.contributions", prompt, constants, run, write=write_of(model, under))
    found, tokens = answer.values, answer.tokens
    at = position % len(tokens.ids)
    if word is None:
        id_ = int(found.target)
        word = Word(spelt(model, [id_])[0].strip(), (id_,), "refuse")
    tables = (np.asarray(table)[: at + 1] for table in (found.contributions, found.says, found.weights))
    numbers = (found.scale, found.base, found.value, found.residual, found.log_probability, found.entropy)
    used = next((one.pieces for one in (word, other) if one is not None and one.pieces != "refuse"), "refuse")
    return Contributions(
        chosen,
        word,
        other,
        at,
        tokens.ids[: at + 1],
        tokens.strings[: at + 1],
        strings_of(model, word.ids, () if other is None else other.ids),
        *tables,
        *map(float, numbers),
        {**answer.info, "pieces": used, "under": _said(under)},
    )


def contributions_over(
    model: Model,
    texts: Sequence[Text],
    number: Number,
    *,
    position: Where = -1,
    under: Under | None = None,
    on_partial: OnPartial | None = None,
    **run: Any,
) -> ContributionsOver:
    """Many predictions, taken apart by token and sense; see ``Backpack.contributions_over``."""
    if isinstance(texts, Text) or not texts:
        raise CallerError("texts are several prompts, in a list; of one, contributions(...) says more")
    chosen, word, other = _asked(model, number)
    encoded, cut = _encoded(model, texts, position)
    places = _places(encoded, position, word)
    constants = {
        "texts": tuple(id_ for ids in encoded for id_ in ids),
        "lengths": tuple(map(len, encoded)),
        "rows": tuple(row for row, _ in places),
        "positions": tuple(at for _, at in places),
        "targets": tuple(_target(encoded[row], at, position, word) for row, at in places),
        "against": () if other is None else other.ids * len(places),
        "quantity": chosen,
    }
    watch = None if on_partial is None else _Watch(on_partial)
    method, prompt = "backpack.contributions_over", encoded[0]
    answer = ask(model, method, prompt, constants, run, write=write_of(model, under), on_event=watch)
    found = answer.values
    names = ("types", "sums", "squares", "counts", "values", "bases", "residuals", "targets")
    where = {"all": "at every position", "before_target": "wherever it comes", "-1": "at the last position"}.get(
        str(position), f"at position {position}"
    )
    of = "the token that comes" if word is None and position == "all" else ""
    strings = strings_of(model, found.types, found.targets, constants["against"])
    said = f"{chosen} of {of}" if of else number_said(chosen, word, other, strings)
    used = next((one.pieces for one in (word, other) if one is not None and one.pieces != "refuse"), "refuse")
    return ContributionsOver(
        f"{said} {where}",
        chosen,
        *(np.asarray(getattr(found, name)) for name in names),
        strings,
        len(texts),
        {**answer.info, "pieces": used, "under": _said(under), "cut": cut},
    )


def _encoded(model: Model, texts: Sequence[Text], position: Where) -> tuple[Sequence[tuple[int, ...]], str]:
    """The tokens of texts, and what has to be said of long ones. Raises ``CallerError``.

    Where many positions of a text predict, long ones are read in pieces; the one prediction of a position needs all
    that is before it.
    """
    if isinstance(position, str):
        found = in_pieces(model, texts)
        return found.ids, found.said()
    way_out = "with position='all' or 'before_target' texts are read in pieces; for one prediction shorten or leave out"
    return [tokens.ids for tokens in whole(model, texts, way_out)], ""


def _said(under: Under | None) -> dict[str, str] | None:
    """What is in force, as results tell it."""
    if isinstance(under, Edit):
        return {"edit": under.name, "digest": under.digest}
    return None if under is None else {"writes": getattr(under, "__name__", type(under).__name__)}


class _Watch:
    """Takes partial results apart."""

    def __init__(self, told: OnPartial) -> None:
        self._told = told

    def __call__(self, event: Event) -> None:
        if isinstance(event, ResultEvent) and event.partial and event.name == "so_far":
            table = event.tensor.to_numpy()
            types, counts = table[:, :2].astype(np.int64).T
            self._told({"types": types, "counts": counts, "sums": table[:, 2:]})


def _asked(model: Model, number: Number) -> tuple[Quantity, Word | None, Word | None]:
    """(which number, its token, the other token). Raises ``CallerError``."""
    contrast, pieces = number.contrast, number.pieces
    chosen: Quantity = number.quantity or ("logit" if contrast is None else "difference")
    if chosen not in QUANTITIES:
        raise CallerError(f"quantity is {chosen!r}, expected one of {', '.join(QUANTITIES)}")
    if (chosen == "difference") != (contrast is not None):
        raise CallerError(
            "a difference is one of two words: give contrast"
            if contrast is None
            else f"contrast is the other word of a difference: with quantity={chosen!r} leave it out"
        )
    word = None if number.target is None else one_token(model, number.target, pieces)
    other = None if contrast is None else one_token(model, contrast, pieces)
    if word is not None and other is not None and word.ids == other.ids:
        raise CallerError(f"the difference of {word.text!r} and itself is zero: contrast is another word")
    return chosen, word, other


def _ids(word: Word | None, other: Word | None) -> dict[str, int]:
    given = {"target": word, "against": other}
    return {name: one.ids[0] for name, one in given.items() if one is not None}


def _places(texts: Sequence[Sequence[int]], position: Where, word: Word | None) -> list[tuple[int, int]]:
    """The (text, position) of each prediction. Raises ``CallerError``."""
    if position == "all":
        return [(row, at) for row, ids in enumerate(texts) for at in range(len(ids) - 1)]
    if position == "before_target":
        if word is None:
            raise CallerError("position='before_target' looks for the target: give one")
        found = [(row, at) for row, ids in enumerate(texts) for at in range(len(ids) - 1) if ids[at + 1] == word.ids[0]]
        if not found:
            raise CallerError(f"{word.text!r} comes in none of the {len(texts)} texts")
        return found
    if isinstance(position, str):
        raise CallerError(f"position is {position!r}, expected a number, 'all' or 'before_target'")
    for row, ids in enumerate(texts):
        if not -len(ids) <= position < len(ids):
            raise CallerError(f"text {row} has {len(ids)} tokens, and no position {position}")
    return [(row, position % len(ids)) for row, ids in enumerate(texts)]


def _target(ids: Sequence[int], at: int, position: Where, word: Word | None) -> int:
    """The token of a prediction: the one that was asked for, the one that comes, or the most likely one."""
    if word is not None:
        return word.ids[0]
    return ids[at + 1] if position == "all" else -1
