"""``model.backpack.effects``: predictions before and after each of many edits."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_backpack.asking import Said, known_peaks, listed, one_token, strings_of
from interpd_backpack.edits import Edit
from interpd_backpack.edits.edit import an_edit
from interpd_backpack.effects.results import Effects, Item
from interpd_backpack.texts import Text, whole
from interpd_backpack.words import Pieces, Word, shown_prompt, spelt
from interpd_client import Model

Where = int | Sequence[int] | Literal["all"]
"""Positions whose next token is predicted; -1: the end of the prompt."""

EVERYTHING = -1
"""As the only target: all tokens."""


def effects(
    model: Model,
    prompts: Any,
    edits: Edit | Sequence[Edit],
    *,
    targets: str | int | Sequence[str | int] = (),
    position: Where = -1,
    top: int = 10,
    pieces: Pieces = "refuse",
    only_logits: bool = False,
    **run: Any,
) -> Effects:
    """Predictions before and after each edit; see ``Backpack.effects``."""
    chosen = [an_edit(one) for one in (edits if isinstance(edits, Iterable) else [edits])]
    if not chosen:
        raise CallerError("effects are of edits: give one, or a list of them (model.backpack.edit makes them)")
    texts = whole(model, _several(prompts))
    items = tuple(
        _item(tokens, row, place) for row, tokens in enumerate(texts) for place in _places(len(tokens.ids), position)
    )
    everything = isinstance(targets, str) and targets == "all"
    words = () if everything else tuple(one_token(model, word, pieces) for word in listed(targets))
    constants: dict[str, Any] = {
        "edits": tuple(json.dumps(one.to_json()) for one in chosen),
        "targets": (EVERYTHING,) if everything else tuple(word.ids[0] for word in words),
        **known_peaks(model),
    }
    places = np.array([(item.prompt, item.position) for item in items], np.int64)
    ports = [_padded(texts), places, *_vectors(chosen)]
    t = model.trace(list(texts[0].ids), **run)
    if only_logits:
        t.save(out=t.op("backpack.logit_effects", *ports, **constants))
    else:
        t.save(out=t.op("backpack.effects", *ports, **constants, top=top))
    result = t.run()
    if everything:
        words = _whole(model, result["out"].logits_before.shape[-1])
    numbers = _only_logits(result["out"]) if only_logits else result["out"]._asdict()
    made = result.provenance
    info = Said(
        model=made.model,
        source=model.info.source,
        revision=made.model_revision,
        dtype=made.dtype,
        engine=made.engine,
        graph=made.graph_digest,
        pieces=pieces,
    )
    return Effects(
        tuple(one.name for one in chosen),
        tuple(one.digest for one in chosen),
        items,
        words,
        **{name: np.asarray(value) for name, value in numbers.items()},
        strings=strings_of(model, numbers["moved_ids"]),
        info=info,
    )


def _several(prompts: Any) -> list[Any]:
    """A list of texts, or of lists of token ids, is several prompts. Raises ``CallerError`` for an empty one."""
    if isinstance(prompts, list | tuple) and not prompts:
        raise CallerError("there is no prompt")
    if isinstance(prompts, list | tuple) and prompts and all(isinstance(one, Text | list | tuple) for one in prompts):
        return list(prompts)
    return [prompts]


def _item(tokens: Tokens, row: int, place: int) -> Item:
    return Item(row, place, tokens.ids[: place + 1], shown_prompt(tokens)[: place + 1])


def _places(length: int, position: Where) -> list[int]:
    wanted = range(length) if position == "all" else [position] if isinstance(position, int) else list(position)
    for place in wanted:
        if not isinstance(place, int) or not -length <= place < length:
            raise CallerError(f"position {place!r} is not there: a prompt has {length} tokens")
    return [place % length for place in wanted]


def _padded(texts: Sequence[Tokens]) -> np.ndarray:
    table = np.full((len(texts), max(len(tokens.ids) for tokens in texts)), -1, np.int64)
    for row, tokens in enumerate(texts):
        table[row, : len(tokens.ids)] = tokens.ids
    return table


def _vectors(edits: Sequence[Edit]) -> list[np.ndarray]:
    rows = [one.vectors for one in edits if len(one.vectors)]
    return [np.concatenate(rows)] if rows else []


def _whole(model: Model, n_rows: int) -> tuple[Word, ...]:
    return tuple(Word(text.strip(), (id_,), "refuse") for id_, text in enumerate(spelt(model, tuple(range(n_rows)))))


def _only_logits(found: Any) -> dict[str, np.ndarray]:
    before, after = np.asarray(found.before), np.asarray(found.after)
    none = np.zeros((*after.shape[:2], 0))
    return {
        "logits_before": before,
        "logits_after": after,
        "log_p_before": np.full(before.shape, np.nan),
        "log_p_after": np.full(after.shape, np.nan),
        "kl": np.full(after.shape[:2], np.nan),
        "moved_ids": none.astype(np.int64),
        "moved_before": none,
        "moved_after": none,
    }
