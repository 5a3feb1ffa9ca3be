"""``backpack.compile``: an edit carried out once on the senses of the resident model."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.edits import ALL, Edit, MaskWeights, Operation, ProjectOut, Remove, Scale, Topic, fingerprint
from interpd_backpack.edits.places import Senses
from interpd_backpack.worker.edits.artifacts import SenseEdit, SenseOverrides
from interpd_backpack.worker.edits.composing import chosen, direction_of, edited_senses, in_order, unit, wide
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.topics.scoring import SensePeaks, banded, vocabulary_scores

PAPER = "https://arxiv.org/abs/2305.16765"


@method("backpack.compile", paper=PAPER)
def compile_edit(
    ctx: MethodContext, *, edit: SenseEdit, save_as: str, peaks: SensePeaks | None = None
) -> Int64[Tensor, ""]:
    """How many tokens have senses of their own under an edit, which is kept as it is applied.

    Args:
        edit: For this model.
        save_as: The name of the artifact (``sense_overrides``).
        peaks: What ``backpack.peaks`` kept: topics are scored without computing the logits of every sense again.

    Raises:
        CallerError: The edit is of another model, or damaged.
    """
    made = compiled(ctx, edit.edit(), peaks)
    ctx.raise_if_cancelled()
    ctx.save_artifact(save_as, made)
    return torch.tensor(0 if made.token_ids is None else len(made.token_ids))


def compiled(ctx: MethodContext, edit: Edit, peaks: SensePeaks | None = None) -> SenseOverrides:
    """An edit as it is applied to the model. Raises ``CallerError`` as the method does."""
    lexicon = Lexicon(ctx)
    check_base(ctx, edit)
    topics = Topics(ctx, peaks)
    everywhere = _Everywhere(lexicon, topics)
    for one in in_order(edit.operations):
        everywhere.add(one)
    fading = [everywhere.fading(one) for one in edit.operations if isinstance(one, Topic) and one.anneal]
    positions = list(_of_positions(edit, lexicon))
    named = [token.id for token in edit.tokens]
    reweighted = _Reweighted(ctx, lexicon, edit, topics)
    return SenseOverrides(
        token_ids=torch.tensor(named, device=lexicon.device) if named else None,
        rows=edited_senses(edit, named, lexicon, topics) if named else None,
        factors=torch.stack(everywhere.tables) if everywhere.tables else None,
        directions=torch.stack(everywhere.directions) if everywhere.directions else None,
        plan=json.dumps({"steps": everywhere.steps, "positions": positions, "fading": fading}),
        digest=edit.digest,
        **reweighted.tensors(),
    )


def check_base(ctx: MethodContext, edit: Edit) -> None:
    """Raises ``CallerError`` for an edit of another model."""
    if problem := edit.base.problem(fingerprint(ctx.session.info)):
        raise CallerError(f"the edit {edit.name!r} is of another model: {problem}")


class Topics:
    """Factors of topics, each computed once."""

    def __init__(self, ctx: MethodContext, peaks: SensePeaks | None) -> None:
        self._ctx, self._peaks = ctx, peaks
        self._known: dict[Topic, Tensor] = {}

    def __call__(self, topic: Topic) -> Tensor:
        if topic not in self._known:
            bag = [token.id for token in topic.bag]
            scores = vocabulary_scores(self._ctx, bag, topic.formula, self._peaks)
            self._known[topic] = banded(scores, topic.quantiles, topic.factors)
        return self._known[topic]


@dataclass
class _Everywhere:
    """What is done to tokens that no operation names, in order."""

    lexicon: Lexicon
    topics: Topics
    steps: list[dict[str, Any]] = field(default_factory=list)
    tables: list[Tensor] = field(default_factory=list)
    directions: list[Tensor] = field(default_factory=list)

    def add(self, one: Operation) -> None:
        """One more operation, if it is about every token."""
        if isinstance(one, Topic):
            self.steps.append({"table": self._table(one)})
        elif getattr(one, "tokens", None) != ALL:
            return
        elif isinstance(one, Scale | MaskWeights):
            self.steps.append({"scale": self._of_senses(one.senses, one.factor, 1.0)})
        elif isinstance(one, Remove):
            self.steps.append({"scale": self._of_senses(one.senses, 0.0, 1.0)})
        elif isinstance(one, ProjectOut):
            shares = self._of_senses(one.senses, one.share, 0.0)
            self.steps.append({"project": len(self.directions), "shares": shares})
            self.directions.append(unit(direction_of(one, self.lexicon)).to(self.lexicon.device))

    def fading(self, one: Topic) -> dict[str, Any]:
        """What is known of a topic that fades before there is a text."""
        return {"table": self._table(one), "strongest": max(one.factors), "formula": one.formula}

    def _table(self, one: Topic) -> int:
        self.tables.append(self.topics(one).double())
        return len(self.tables) - 1

    def _of_senses(self, senses: Senses, here: float, elsewhere: float) -> list[float]:
        return _of_senses(senses, here, elsewhere, self.lexicon)


def _of_senses(senses: Senses, here: float, elsewhere: float, lexicon: Lexicon) -> list[float]:
    return [here if meant else elsewhere for meant in chosen(senses, lexicon.n_senses, torch.device("cpu")).tolist()]


def _of_positions(edit: Edit, lexicon: Lexicon) -> Iterator[dict[str, Any]]:
    for one in edit.operations:
        if isinstance(one, MaskWeights) and one.positions is not None:
            yield {"positions": list(one.positions), "factors": _of_senses(one.senses, one.factor, 1.0, lexicon)}


class _Reweighted:
    """What ``negative_only`` adds to logits.

    As published: of the contributions multiplied by the factor, those below the quantile of the vocabulary take the
    place of what they were. Each such operation looks at the senses that the whole edit leaves.
    """

    def __init__(self, ctx: MethodContext, lexicon: Lexicon, edit: Edit, topics: Topics) -> None:
        self._ctx, self._lexicon, self._edit, self._topics = ctx, lexicon, edit, topics
        self._found: list[tuple[int, Tensor, Tensor]] = []

    def tensors(self) -> dict[str, Tensor]:
        """Fields of ``SenseOverrides``; none without such an operation."""
        for one in self._edit.operations:
            if isinstance(one, MaskWeights) and one.negative_only is not None:
                self._reweight(one)
        if not self._found:
            return {}
        n_words = max(words.shape[-1] for _, words, _ in self._found)
        ids = torch.tensor([token for token, _, _ in self._found], device=self._lexicon.device)
        words = torch.stack([_padded(words, n_words) for _, words, _ in self._found])
        return {
            "masked_ids": ids,
            "spoken_against": words,
            "changes": self._lexicon.output_scale
            * torch.stack([_padded(changes, n_words) for _, _, changes in self._found]),
        }

    def _reweight(self, one: MaskWeights) -> None:
        assert isinstance(one.tokens, tuple)
        assert one.negative_only is not None
        rows = wide(self._lexicon.unembedding)
        senses = edited_senses(self._edit, [token.id for token in one.tokens], self._lexicon, self._topics)
        meant = chosen(one.senses, self._lexicon.n_senses, self._lexicon.device)
        for token, own in zip(one.tokens, senses, strict=True):
            says = wide(own) @ rows.T
            weighted = one.factor * says
            is_low = weighted < weighted.quantile(one.negative_only, dim=-1, keepdim=True)
            changes = torch.where(is_low & meant[:, None], weighted - says, 0.0).double()
            n_words = int(is_low.sum(-1).max())
            # those that change come first, zeros fill up
            words = is_low.to(torch.int8).sort(dim=-1, descending=True, stable=True).indices[:, :n_words]
            self._found.append((token.id, words, changes.gather(-1, words)))
            self._ctx.raise_if_cancelled()


def _padded(x: Tensor, n_words: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, n_words - x.shape[-1]))
