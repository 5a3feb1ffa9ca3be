"""One method of the plugin, asked by the client: what it says, and how that came about."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from interpd.errors import CallerError
from interpd.graph.run import Event, Tokens
from interpd_backpack.words import Pieces, Word, checked, spelt, word
from interpd_client import Model, PromptTrace

Write = Callable[[PromptTrace], object]
"""Records writes in a trace: they are in force in what is asked."""

POOLED = ("mean", "sum")


class Said(TypedDict, total=False):
    """How a result came about."""

    model: str
    source: str
    revision: str
    dtype: str
    engine: str
    graph: str
    pieces: str


@dataclass(frozen=True)
class Answer:
    """What a method said."""

    values: Any
    """Its outputs by name."""
    info: Said
    tokens: Tokens
    """Of the prompt."""


def ask(
    model: Model,
    method: str,
    prompt: Any,
    constants: Mapping[str, Any],
    run: Mapping[str, Any],
    *,
    write: Write | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> Answer:
    """What a method says.

    Args:
        model: Of which it is asked.
        method: Its name.
        prompt: Of the trace that it is a node of.
        constants: Its own.
        run: Options of requests: ``timeout_s``, ``progress``, ``adapter``, ...
        write: Records what is to be in force.
        on_event: Called with what happens meanwhile.
    """
    t = model.trace(prompt, **run)
    if write is not None:
        write(t)
    t.save(out=t.op(method, **constants))
    result = t.submit().result(on_event)
    made = result.provenance
    info = Said(
        model=made.model,
        source=model.info.source,
        revision=made.model_revision,
        dtype=made.dtype,
        engine=made.engine,
        graph=made.graph_digest,
    )
    return Answer(result["out"], info, result.tokens[0])


@dataclass(frozen=True)
class Asked:
    """Words as a method takes them."""

    rows: tuple[Word, ...]
    """One for each row of what comes back; a piece is a row of its own where each is taken for itself."""
    constants: Mapping[str, Any]
    """``ids``, ``counts``, ``pool``."""

    @property
    def said(self) -> str:
        """The policy that was needed; ``refuse`` where every word is one token."""
        return next((row.pieces for row in self.rows if row.pieces != "refuse"), "refuse")


def asked_words(model: Model, texts: Sequence[str | int], pieces: Pieces) -> Asked:
    """Words, each of one token or treated by the policy. Raises ``CallerError``."""
    if not texts:
        raise CallerError("no word was given")
    found = [word(model, text, pieces) for text in texts]
    rows = []
    for one in found:
        if one.pieces == "each":
            strings = spelt(model, one.ids)
            rows += [Word(string.strip(), (id_,), "each") for string, id_ in zip(strings, one.ids, strict=True)]
        else:
            rows.append(one)
    ids = tuple(id_ for row in rows for id_ in row.ids)
    pool = pieces if pieces in POOLED else "mean"
    return Asked(tuple(rows), {"ids": ids, "counts": tuple(len(row.ids) for row in rows), "pool": pool})


def one_token(model: Model, text: str | int, pieces: Pieces) -> Word:
    """A word that is predicted, which is one token: of several only the first or the last. Raises ``CallerError``."""
    found = word(model, text, pieces if pieces in ("first", "last") else "each")
    if len(found.ids) > 1:
        strings = ", ".join(map(repr, spelt(model, found.ids)))
        raise CallerError(
            f"the word {found.text!r} is {len(found.ids)} tokens ({strings}), and one token is predicted: take one of "
            "these, or pieces='first' or 'last'"
        )
    return found


PEAKS = "sense_peaks"
"""The kind of artifact that ``backpack.peaks`` makes."""


def known_peaks(model: Model) -> dict[str, str]:
    """What methods that score topics are given, so that they do not compute the logits of every sense again."""
    names = [one.name for one in model.artifacts() if one.kind == PEAKS]
    return {"peaks": names[0]} if names else {}


def listed(words: str | int | Sequence[str | int]) -> list[str | int]:
    """One word, or several. Raises ``CallerError`` for what is neither."""
    if isinstance(words, str) or not isinstance(words, Iterable):
        words = [checked(words)]
    return [checked(one) for one in words]


def strings_of(model: Model, *ids: Any) -> dict[int, str]:
    """The text of each token in arrays of ids; -1 is none."""
    unique = sorted({int(id_) for some in ids for id_ in np.asarray(some).ravel().tolist()} - {-1})
    return dict(zip(unique, spelt(model, unique), strict=True)) if unique else {}


def plain(array: Any) -> Any:
    """An array as JSON takes it, which knows no NaN."""
    values = np.asarray(array)
    if not np.issubdtype(values.dtype, np.floating):
        return values.tolist()
    return np.where(np.isfinite(values), values, None).tolist() if values.size else values.tolist()


def frozen(array: Any) -> np.ndarray:
    """An array that cannot be written to."""
    kept = np.asarray(array).view()
    kept.flags.writeable = False
    return kept
