"""Edits at the client: made of words, put in force in traces, tried out."""

import warnings
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any, Literal, get_args

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd.graph.schema import ArtifactInfo
from interpd_backpack.asking import Write, ask, known_peaks, listed
from interpd_backpack.edits.conflicts import OrderMatters
from interpd_backpack.edits.dry_run import DryRun, MovedSense
from interpd_backpack.edits.edit import Edit, an_edit
from interpd_backpack.edits.files import KIND
from interpd_backpack.edits.fingerprint import fingerprint
from interpd_backpack.edits.operations import MaskWeights, Operation, Topic
from interpd_backpack.edits.places import Token
from interpd_backpack.edits.resolving import resolved
from interpd_backpack.words import Pieces, spelt, word
from interpd_client import Model, PromptTrace

OfTokens = Literal["refuse", "first", "last", "each"]
"""What is done with a word of several tokens in an edit, which is about tokens."""
OnConflict = Literal["warn", "refuse", "allow"]
COMPILED = "compiled"


def build(model: Model, operations: Sequence[Operation], *, name: str, pieces: Pieces, on_conflict: OnConflict) -> Edit:
    """An edit of ``model`` with tokens for words: see ``model.backpack.edit``."""
    if pieces not in get_args(OfTokens):
        raise CallerError(f"pieces is {pieces!r}, but an edit is of tokens: {', '.join(get_args(OfTokens))}")
    if on_conflict not in get_args(OnConflict):
        raise CallerError(f"on_conflict is {on_conflict!r}, expected one of {', '.join(get_args(OnConflict))}")
    if wrong := [one for one in operations if not isinstance(one, Operation)]:
        raise CallerError(_no_operation(wrong[0]))
    base = fingerprint(model.info)

    @cache
    def find(text: str) -> tuple[Token, ...]:
        ids = word(model, text, pieces).ids
        return tuple(map(Token, ids, spelt(model, ids)))

    found = [resolved(one, find) for one in operations]
    edit = Edit(tuple(found), name or "; ".join(one.describe() for one in found), base)
    _tell(edit, on_conflict)
    return edit


def _no_operation(given: object) -> str:
    if isinstance(given, Edit):
        return f"{given.name!r} is an edit and no operation: edits are put together with first + second"
    if isinstance(given, list | tuple):
        return f"operations are given one by one, without the {type(given).__name__}: edit(first, second)"
    return f"{given!r} is no operation of interpd_backpack.edits"


def _tell(edit: Edit, on_conflict: OnConflict) -> None:
    met = [one for one in edit.conflicts() if one.order_matters is not False]
    if met and on_conflict == "refuse":
        raise CallerError(f"the edit {edit.name!r}: {met[0]}")
    for one in met if on_conflict == "warn" else ():
        warnings.warn(f"the edit {edit.name!r}: {one}", OrderMatters, stacklevel=4)


def put_in_force(model: Model, t: PromptTrace, edit: Edit) -> None:
    """Records the writes that apply an edit: see ``model.backpack.with_edit``."""
    check_base(model, an_edit(edit))
    _refuse_adapter(t, edit)
    _refuse_second(t, edit)
    late = [one for one in edit.operations if isinstance(one, MaskWeights | Topic)]
    fades = any(isinstance(one, Topic) and one.anneal for one in late)
    reweights = any(isinstance(one, MaskWeights) and one.negative_only is not None for one in late)
    of_positions = any(isinstance(one, MaskWeights) and one.positions is not None for one in late)
    name, ids = _in_trace(model, t, edit), t.prefix_ids
    if of_positions:
        t.sense_weights = t.op("backpack.mask_weights", t.sense_weights, overrides=name)
    if fades:
        own, rows = t.module("backpack.sense_table")(ids), t.param("lm_head.weight")[ids]
        t.sense_weights = t.op("backpack.fade", t.sense_weights, own, rows, ids, overrides=name)
    t.senses = t.op(EDIT, t.senses, ids, overrides=name)
    if reweights:
        t.logits = t.op("backpack.reweight", t.logits, t.sense_weights, ids, overrides=name)


def write_of(model: Model, under: Write | Edit | None) -> Write | None:
    """What records the writes of an edit, or of a function that does so. Raises ``CallerError`` for neither."""
    if under is None or callable(under):
        return under
    edit = an_edit(under, ", a function that records writes in a trace, or None")
    return lambda t: put_in_force(model, t, edit)


EDIT = "backpack.edit"


def _refuse_adapter(t: PromptTrace, edit: Edit) -> None:
    if t._recording.adapter:
        raise CallerError(
            f"the adapter {t._recording.adapter!r} is in force in this trace, and {edit.name!r} is of the senses that "
            "the model has without it: leave one of them out"
        )


def _in_trace(model: Model, t: PromptTrace, edit: Edit) -> str:
    """As ``compiled``; of many prompts under one edit only the first one asks."""
    name = _name_compiled(model, edit)
    is_there = any(node.op == EDIT and node.params["overrides"] == name for node in t._recording.nodes)
    return name if is_there else compiled(model, edit)


def _refuse_second(t: PromptTrace, edit: Edit) -> None:
    nodes, invoke = t._recording.nodes, t._scope.invoke()
    for node in nodes:
        value = node.inputs[0] if node.op == "site.write" and node.invoke == invoke else None
        if value is not None and nodes[getattr(value, "node", 0)].op == EDIT:
            raise CallerError(
                f"an edit is in force in this prompt already, and {edit.name!r} would begin with the model's own "
                "senses: put both together, first + second"
            )


def check_base(model: Model, edit: Edit) -> None:
    """Raises ``CallerError`` for an edit of another model."""
    if problem := edit.base.problem(fingerprint(model.info)):
        raise CallerError(f"the edit {edit.name!r} is not of the model {model.name!r}: {problem}")


def uploaded(model: Model, edit: Edit) -> str:
    """The name under which the model's workers have the edit, which is uploaded unless they have this very file."""
    return _uploaded(model, edit, model.artifacts())


def _uploaded(model: Model, edit: Edit, known: Sequence[ArtifactInfo]) -> str:
    name, data = _name(edit), edit.to_artifact()
    digest = f"sha256:{sha256(data).hexdigest()}"
    if (name, digest) not in {(one.name, one.digest) for one in known}:
        model.upload_artifact(data, name, KIND)
    return name


def compiled(model: Model, edit: Edit) -> str:
    """The name under which the model's workers have the edit as it is applied; made at its first use."""
    known, name = model.artifacts(), _name_compiled(model, edit)
    source = _uploaded(model, edit, known)
    if name not in {one.name for one in known}:
        constants = {"edit": source, "save_as": name, **known_peaks(model)}
        ask(model, "backpack.compile", _ANY, constants, {"progress": False})
    return name


def _name_compiled(model: Model, edit: Edit) -> str:
    # senses are kept in the dtype that the model had
    return f"{_name(edit)}.{COMPILED}.{model.info.dtype}"


def _name(edit: Edit) -> str:
    return f"edit-{edit.digest.removeprefix('sha256:')}"


_ANY = Prompt(token_ids=(0,))
"""A prompt for methods that look at none."""


def dry_run(
    model: Model, edit: Edit, *, words: str | int | Sequence[str | int], top: int, pieces: Pieces, **run: Any
) -> DryRun:
    """What an edit does to the words that each sense speaks for and against: see ``model.backpack.dry_run``."""
    check_base(model, an_edit(edit))
    tokens = tuple(id_ for one in listed(words) for id_ in word(model, one, pieces).ids)
    constants = {"edit": uploaded(model, edit), "tokens": tokens, "k": top, **known_peaks(model)}
    answer = ask(model, "backpack.dry_run", _ANY, constants, run)
    found = answer.values
    ids = sorted({int(id_) for part in (found.token_ids, found.more_ids, found.less_ids) for id_ in part.ravel()})
    strings = dict(zip(ids, spelt(model, ids), strict=True))

    def ranked(ids: Any, changes: Any) -> tuple[tuple[Token, float], ...]:
        return tuple((Token(int(id_), strings[int(id_)]), float(x)) for id_, x in zip(ids, changes, strict=True))

    rows = [
        MovedSense(
            Token(int(token), strings[int(token)]),
            int(found.senses[row]),
            float(found.norms[row]),
            float(found.changes[row]),
            ranked(found.more_ids[row], found.more[row]),
            ranked(found.less_ids[row], found.less[row]),
        )
        for row, token in enumerate(found.token_ids)
    ]
    return DryRun(edit, tuple(rows), dict(answer.info))
