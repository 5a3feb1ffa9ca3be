"""``backpack.effects`` and ``backpack.logit_effects``: what many edits do to predictions of some texts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.edits import Edit, Topic, fingerprint
from interpd_backpack.worker.edits.applying import fade, mask_weights, reweight
from interpd_backpack.worker.edits.artifacts import SenseOverrides
from interpd_backpack.worker.edits.compiling import compiled
from interpd_backpack.worker.effects.seen import NearLexicon, Seen, seen, wide
from interpd_backpack.worker.effects.shifts import is_of_senses, shift, weighed_shift
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.topics.scoring import SensePeaks, banded, vocabulary_scores

PAPER = "https://arxiv.org/abs/2305.16765"
EVERYTHING = -1
"""As the only target: all tokens."""
EDITS = 256
"""Edits between two words on how far it is."""
NUMBERS = 1 << 23
"""Logits that are held at once, in double precision: 64 MiB."""


@dataclass(frozen=True)
class Effects:
    """Predictions before and after each edit."""

    logits_before: Float64[Tensor, "item target"]
    logits_after: Float64[Tensor, "edit item target"]
    log_p_before: Float64[Tensor, "item target"]
    """Over all logits of the model, padding of the vocabulary included."""
    log_p_after: Float64[Tensor, "edit item target"]
    kl: Float64[Tensor, "edit item"]
    """KL(before || after) of the next token, in nats."""
    moved_ids: Int64[Tensor, "edit item top"]
    """The tokens whose probability moves most, either way."""
    moved_before: Float64[Tensor, "edit item top"]
    """Their log-probabilities."""
    moved_after: Float64[Tensor, "edit item top"]


@method("backpack.effects", paper=PAPER)
def effects(
    ctx: MethodContext,
    ids: Int64[Tensor, "row pos"],
    items: Int64[Tensor, "item 2"],
    vectors: Float64[Tensor, "vector d_model"] | None = None,
    *,
    edits: tuple[str, ...],
    targets: tuple[int, ...] = (),
    top: int = 10,
    peaks: SensePeaks | None = None,
) -> Effects:
    """Predictions at positions of texts before and after each of many edits, all from one forward pass.

    An edit costs one product with the unembedding for each position, and no pass.

    Args:
        ids: Texts; -1 behind their ends.
        items: For each prediction the number of its text, and the position in it.
        vectors: Of all edits, one behind the other.
        edits: The content of ``edit.json`` of each.
        targets: Tokens whose logits and log-probabilities are told; -1 alone: all, padding of the vocabulary included.
        top: How many of the tokens that move most are told.
        peaks: What ``backpack.peaks`` kept: topics are scored without computing the logits of every sense again.

    Raises:
        CallerError: A text, position, token or edit that cannot be; a graph that writes.
    """
    work = _Work(ctx, ids, items, peaks)
    asked = work.edits(edits, vectors)
    wanted = tuple(range(work.n_rows)) if targets == (EVERYTHING,) else targets
    work.check(wanted)
    if not 0 <= top <= work.lexicon.n_tokens:
        raise CallerError(f"top is {top}, expected 0 to {work.lexicon.n_tokens}, the tokens of the vocabulary")
    before = work.before.log_softmax(-1)
    parts = [_told(work, before, after, wanted, top) for after in work.after(asked)]
    logits, log_p, kl, moved, moved_before, moved_after = (torch.cat(part) for part in zip(*parts, strict=True))
    chosen = list(wanted)
    return Effects(work.before[:, chosen], logits, before[:, chosen], log_p, kl, moved, moved_before, moved_after)


@dataclass(frozen=True)
class LogitEffects:
    """Logits before and after each edit."""

    before: Float64[Tensor, "item target"]
    after: Float64[Tensor, "edit item target"]


@method("backpack.logit_effects", paper=PAPER)
def logit_effects(
    ctx: MethodContext,
    ids: Int64[Tensor, "row pos"],
    items: Int64[Tensor, "item 2"],
    vectors: Float64[Tensor, "vector d_model"] | None = None,
    *,
    edits: tuple[str, ...],
    targets: tuple[int, ...],
    peaks: SensePeaks | None = None,
) -> LogitEffects:
    """The logits of some tokens at positions of texts before and after each of many edits of senses.

    As ``backpack.effects``, with the rows of the unembedding that are asked for and no others: microseconds an edit.

    Raises:
        CallerError: As ``backpack.effects``; no targets; or an edit of contributions to logits (``negative_only``), for
            which all of them are needed.
    """
    work = _Work(ctx, ids, items, peaks)
    asked = work.edits(edits, vectors)
    work.check(targets)
    if not targets:
        raise CallerError("no targets: name the tokens whose logits are meant")
    for edit in asked:
        if any(getattr(one, "negative_only", None) is not None for one in edit.operations):
            raise CallerError(f"the edit {edit.name!r} looks at all logits (negative_only): ask backpack.effects")
    directions, before = wide(work.lexicon.output_rows(targets)).double(), work.before[:, list(targets)]
    after = []
    for start in range(0, len(asked), EDITS):
        ctx.progress(start, len(asked), "edits")
        shifts = torch.stack([work.shift(edit)[0] for edit in asked[start : start + EDITS]])
        after.append(before + shifts.double() @ directions.T)
    return LogitEffects(before, torch.cat(after))


class _Work:
    """Texts, what was seen of them, and edits that are tried on it."""

    def __init__(self, ctx: MethodContext, ids: Tensor, items: Tensor, peaks: SensePeaks | None) -> None:
        self._ctx, self._peaks = ctx, peaks
        rows, positions = items.T.tolist()
        self._seen: Seen = seen(ctx, Lexicon(ctx), [_text(row) for row in ids.cpu()], rows, positions)
        self.lexicon = NearLexicon(ctx, self._seen.tokens)
        # rounded once, at the end, as in a pass
        self.before = self.lexicon.logits(self._seen.before_head.to(ctx.session.dtype)).double()
        self._factors: dict[Topic, Tensor] = {}

    @property
    def n_rows(self) -> int:
        """Rows of the unembedding."""
        return self.before.shape[-1]

    def check(self, targets: Sequence[int]) -> None:
        """Raises ``CallerError`` for a target that is none."""
        if wrong := [id_ for id_ in targets if not 0 <= id_ < self.n_rows]:
            raise CallerError(f"the target {wrong[0]} is not there: tokens are 0 to {self.n_rows - 1}")

    def edits(self, specs: Sequence[str], vectors: Tensor | None) -> list[Edit]:
        """The edits. Raises ``CallerError`` for none, and for one that is damaged or of another model."""
        if not specs:
            raise CallerError("there are no edits")
        rows = np.zeros((0, 0)) if vectors is None else vectors.double().cpu().numpy()
        found, start, base = [], 0, fingerprint(self._ctx.session.info)
        for number, spec in enumerate(specs):
            content = json.loads(spec)
            end = start + _n_vectors(content)
            edit = Edit.from_json(content, rows[start:end], where=f"edit {number}")
            if problem := edit.base.problem(base):
                raise CallerError(f"the edit {edit.name!r} is of another model: {problem}")
            found.append(edit)
            start = end
        if start != len(rows):
            raise CallerError(f"the edits count {start} vectors, {len(rows)} are given")
        return found

    def after(self, edits: Sequence[Edit]) -> Iterator[Tensor]:
        """The logits after some edits at a time, ``[edit item d_vocab]``."""
        rows = wide(self.lexicon.unembedding)
        size = min(EDITS, max(1, NUMBERS // self.before.numel()))
        for start in range(0, len(edits), size):
            self._ctx.progress(start, len(edits), "edits")
            shifts = [self.shift(edit) for edit in edits[start : start + size]]
            after = self.before + (torch.stack([moved for moved, _, _ in shifts]) @ rows.T).double()
            for logits, (_, weights, overrides) in zip(after, shifts, strict=True):
                if overrides is not None:
                    logits.copy_(self._reweighted(logits, weights, overrides))
            yield after

    def shift(self, edit: Edit) -> tuple[Tensor, tuple[Tensor, ...], SenseOverrides | None]:
        """(``[item d_model]``, the weights after the edit and what else it does, if it changes more than senses)."""
        if is_of_senses(edit):
            return shift(self._seen, edit, self.lexicon, self._topic), (), None
        overrides = compiled(self._ctx, edit, self._peaks)

        def weigh(weights: Tensor, ids: Tensor) -> Tensor:
            weighed = mask_weights(weights[None, :, None], overrides=overrides)
            if overrides.fading:
                own, rows = wide(self.lexicon.senses(ids)), wide(self.lexicon.output_rows(ids))
                weighed = fade(weighed, own[None], rows[None], ids[None], overrides=overrides)
            return weighed[0, :, 0]

        moved, weights = weighed_shift(self._seen, edit, self.lexicon, self._topic, weigh)
        return moved, weights, overrides

    def _reweighted(self, logits: Tensor, weights: Sequence[Tensor], overrides: SenseOverrides) -> Tensor:
        return torch.cat(
            [
                reweight(row[None, None], own[None, :, None].to(row.dtype), ids[None], overrides=overrides)[0]
                for row, own, ids in zip(logits, weights, self._seen.ids, strict=True)
            ]
        )

    def _topic(self, topic: Topic) -> Tensor:
        if topic not in self._factors:
            bag = [token.id for token in topic.bag]
            scores = vocabulary_scores(self._ctx, bag, topic.formula, self._peaks)
            self._factors[topic] = banded(scores, topic.quantiles, topic.factors)
        return self._factors[topic]


def _told(work: _Work, before: Tensor, logits: Tensor, wanted: Sequence[int], top: int) -> tuple[Tensor, ...]:
    after = logits.log_softmax(-1)
    p = before.exp()
    # what has no probability moves nothing, whatever its logarithm is
    kl = torch.where(p > 0, p * (before - after), 0.0).sum(-1)
    moved = (after.exp() - p)[..., : work.lexicon.n_tokens].abs().topk(top, dim=-1).indices
    each = before.expand_as(after)
    chosen = list(wanted)
    return logits[..., chosen], after[..., chosen], kl, moved, each.gather(-1, moved), after.gather(-1, moved)


def _text(row: Tensor) -> Tensor:
    """The tokens of a row. Raises ``CallerError`` for none, and for padding that others follow."""
    n_tokens = int((row >= 0).sum())
    if not n_tokens or (row[:n_tokens] < 0).any():
        raise CallerError(f"the text {row.tolist()} is none: expected tokens, and -1 behind the last")
    return row[:n_tokens]


def _n_vectors(content: Any) -> int:
    """How many vectors the JSON of an edit counts."""
    if isinstance(content, dict):
        return isinstance(content.get("vector"), int) + sum(map(_n_vectors, content.values()))
    return sum(map(_n_vectors, content)) if isinstance(content, list) else 0
