"""The senses of tokens under an edit: its operations, carried out one after the other.

All are computed in single precision at least, and rounded to the model's dtype once, at the end.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_backpack.edits import (
    ALL,
    AddDelta,
    Edit,
    MaskWeights,
    Operation,
    ProjectOut,
    Remove,
    ReplaceAssociation,
    Scale,
    Set,
    Token,
    Topic,
    Transplant,
)
from interpd_backpack.edits.places import Senses, TokenOrWord, Tokens
from interpd_backpack.worker.lexicon import Lexicon

TopicFactors = Callable[[Topic], Tensor]
"""The factors ``[d_vocab, sense]`` of a topic that does not fade."""


class Rows(Protocol):
    """What a direction is made of."""

    def output_rows(self, ids: Tensor | Sequence[int]) -> Tensor:
        """Rows of E for tokens."""


def edited_senses(
    edit: Edit, ids: Tensor | Sequence[int], lexicon: Lexicon, topic_factors: TopicFactors | None = None
) -> Tensor:
    """The senses of tokens under an edit, ``[token, sense, d_model]`` in the model's dtype.

    Weights given to tokens are taken along, for ``(p alpha) C = alpha (p C)``; those of positions, topics that fade and
    ``negative_only`` are of texts, not of tokens, and left to ``applying``.

    Args:
        edit: For this model.
        ids: Each token as often as you like.
        lexicon: Of the model.
        topic_factors: Needed for edits with topics.

    Raises:
        CallerError: A topic without ``topic_factors``.
    """
    wanted = torch.as_tensor(ids, dtype=torch.int64, device=lexicon.device)
    # what is copied has to be carried along from the start: it may be changed before, or be a copy itself
    sources = [_id(one.out_of) for one in edit.operations if isinstance(one, Transplant)]
    known = torch.cat([wanted, wanted.new_tensor(sources)]).unique()
    senses = lexicon.senses(known)
    table = Table(known, wide(senses).clone(), lexicon, topic_factors)
    for one in in_order(edit.operations):
        table.apply(one)
    return table.senses.to(senses.dtype)[torch.searchsorted(known, wanted)]


def in_order(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """The operations on senses as they act: weights of tokens come last."""
    of_tokens = [one for one in operations if not _is_of_texts(one)]
    return tuple(sorted(of_tokens, key=lambda one: isinstance(one, MaskWeights)))


def _is_of_texts(operation: Operation) -> bool:
    if isinstance(operation, Topic):
        return operation.anneal
    return isinstance(operation, MaskWeights) and (operation.tokens is None or operation.negative_only is not None)


@dataclass
class Table:
    """Senses of some tokens, while they are edited."""

    ids: Tensor
    """``[token]``, sorted, each once."""
    senses: Tensor
    """``[token, sense, d_model]``, in single precision at least; written to."""
    lexicon: Rows
    topic_factors: TopicFactors | None = None

    def apply(self, operation: Operation) -> None:
        """Carries one operation out."""
        for kind, act in _ACTS:
            if isinstance(operation, kind):
                act(self, operation)
                return
        raise AssertionError(f"nothing carries out {operation!r}")

    def _scale(self, one: Scale | Remove | MaskWeights) -> None:
        factor = 0.0 if isinstance(one, Remove) else one.factor
        # what was infinite is zero, too, once it is removed
        self._change(one.tokens, one.senses, lambda part: part * factor if factor else torch.zeros_like(part))

    def _topic(self, one: Topic) -> None:
        if self.topic_factors is None:
            raise CallerError(f"'{one.describe()}' needs the scores of the whole vocabulary, which are not there")
        self.senses = self.senses * self.topic_factors(one).to(self.senses)[self.ids][..., None]

    def _replace(self, one: ReplaceAssociation) -> None:
        old, new = self.lexicon.output_rows([_id(one.remove), _id(one.add)]).to(self.senses.dtype)
        replacement = new * ((old @ old) / (new @ new)) - old
        self._change((one.target,), one.senses, lambda part: part + (part @ old / (old @ old))[..., None] * replacement)

    def _transplant(self, one: Transplant) -> None:
        (source,) = self.senses[self._rows((one.out_of,))]
        self._change((one.into,), one.senses, source.expand_as)

    def _project(self, one: ProjectOut) -> None:
        way = unit(direction_of(one, self.lexicon)).to(self.senses)
        self._change(one.tokens, one.senses, lambda part: part - one.share * (part @ way)[..., None] * way)

    def _add(self, one: AddDelta) -> None:
        self._change((one.token,), (one.sense,), lambda part: part + torch.tensor(one.vector).to(part))

    def _set(self, one: Set) -> None:
        self._change((one.token,), (one.sense,), lambda part: torch.tensor(one.vector).to(part).expand_as(part))

    def _change(self, tokens: Tokens | None, senses: Senses, make: Callable[[Tensor], Tensor]) -> None:
        """Puts what ``make`` makes of rows ``[token, sense, d_model]`` in place of some of their senses."""
        rows = self._rows(tokens or ())
        if rows is not None and not len(rows):
            return
        part = self.senses if rows is None else self.senses[rows]
        is_meant = chosen(senses, part.shape[1], part.device)[:, None]
        changed = torch.where(is_meant, make(part), part)
        if rows is None:
            self.senses = changed
        else:
            self.senses[rows] = changed

    def _rows(self, tokens: Tokens) -> Tensor | None:
        """Where tokens stand in the table, those of them that do; ``None``: all of it."""
        if tokens == ALL:
            return None
        return torch.isin(self.ids, self.ids.new_tensor([_id(token) for token in tokens])).nonzero()[:, 0]


_ACTS = (
    (Scale | Remove | MaskWeights, Table._scale),
    (Topic, Table._topic),
    (ReplaceAssociation, Table._replace),
    (Transplant, Table._transplant),
    (ProjectOut, Table._project),
    (AddDelta, Table._add),
    (Set, Table._set),
)


def _id(token: TokenOrWord) -> int:
    assert isinstance(token, Token)
    return token.id


def direction_of(operation: ProjectOut, lexicon: Rows) -> Tensor:
    """What is projected out, ``[d_model]`` in float64. Raises ``CallerError`` for two tokens of equal rows."""
    if isinstance(operation.direction, tuple):
        one, other = lexicon.output_rows([_id(token) for token in operation.direction]).double()
        found = one - other
    else:
        found = torch.tensor(operation.direction)
    if not found.any():
        raise CallerError(f"'{operation.describe()}': the direction is zero, so there is nothing to project out")
    return found


def unit(direction: Tensor) -> Tensor:
    """The direction at length 1."""
    return direction / direction.norm()


def chosen(senses: Senses, n_senses: int, device: torch.device) -> Tensor:
    """Which senses are meant, ``bool[sense]``."""
    mask = torch.zeros(n_senses, dtype=torch.bool, device=device)
    mask[slice(None) if senses == ALL else list(senses)] = True
    return mask


def wide(x: Tensor) -> Tensor:
    """At least single precision."""
    return x if x.dtype == torch.float64 else x.float()
