"""Which operations of an edit meet at the same senses of the same tokens, and whether their order matters.

At one sense of one token every operation is an affine map: multiples of the identity (scale, remove, topic), linear
maps of rank one more (project out, replace association), translations (delta), constants (set), and copies
(transplant). Whether two commute follows from that, up to what depends on the model's own vectors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from interpd_backpack.edits.operations import (
    AddDelta,
    MaskWeights,
    Operation,
    ProjectOut,
    Remove,
    ReplaceAssociation,
    Scale,
    Set,
    Topic,
    Transplant,
)
from interpd_backpack.edits.places import ALL, Senses, Token, Tokens, of_senses, spelled


class OrderMatters(UserWarning):
    """Two operations of an edit would do something else in the other order."""


@dataclass(frozen=True)
class Conflict:
    """Two operations that meet."""

    first: int
    """The number of the operation that acts first, from 0."""
    second: int
    where: str
    """The tokens and senses at which they meet."""
    order_matters: bool | None
    """Whether the other order gives other numbers; ``None``: that depends on the model's vectors."""
    reason: str

    def __str__(self) -> str:
        verdict = {True: "their order matters", False: "in either order the same", None: "their order may matter"}
        meeting = f"operations {self.first} and {self.second} meet at {self.where}"
        return f"{meeting}; {verdict[self.order_matters]}: {self.reason}"


def conflicts(operations: Sequence[Operation]) -> tuple[Conflict, ...]:
    """Every pair that meets, in order."""
    return _met(combinations(enumerate(operations), 2))


def conflicts_between(operations: Sequence[Operation], others: Sequence[Operation]) -> tuple[Conflict, ...]:
    """Pairs that meet of one of ``operations`` and one of ``others``, which act after them and are counted on."""
    return _met(product(enumerate(operations), enumerate(others, len(operations))))


def _met(pairs: Iterable[tuple[tuple[int, Operation], tuple[int, Operation]]]) -> tuple[Conflict, ...]:
    found = []
    for (i, first), (j, second) in pairs:
        where = _meet(first, second)
        if where:
            order_matters, reason = _verdict(first, second)
            found.append(Conflict(i, j, where, order_matters, reason))
    return tuple(found)


def _meet(first: Operation, second: Operation) -> str:
    """Where one of two operations changes what the other changes or copies; empty when nowhere."""
    if _is_late(first) != _is_late(second):
        # weights are a factor of their own: they meet nothing but one another
        return ""
    senses = _common(_senses(first), _senses(second))
    tokens = [
        common
        for changed, touched in ((_changed(first), _touched(second)), (_touched(first), _changed(second)))
        if (common := _common(changed, touched))
    ]
    if not senses or not tokens:
        return ""
    widest = ALL if ALL in tokens else tuple({one: None for part in tokens for one in part})
    return f"{of_senses(senses)} of {spelled(widest)}"


def _is_late(operation: Operation) -> bool:
    """Whether it acts on weights, behind all that is done to senses."""
    return isinstance(operation, MaskWeights) or (isinstance(operation, Topic) and operation.anneal)


def _senses(operation: Operation) -> Senses:
    if isinstance(operation, AddDelta | Set):
        return (operation.sense,)
    return getattr(operation, "senses", ALL)


def _changed(operation: Operation) -> Tokens:
    """The tokens whose senses an operation changes."""
    if isinstance(operation, AddDelta | Set):
        return (operation.token,)
    if isinstance(operation, ReplaceAssociation):
        return (operation.target,)
    if isinstance(operation, Transplant):
        return (operation.into,)
    # a topic, and positions, may be at any token
    return getattr(operation, "tokens", None) or ALL


def _touched(operation: Operation) -> Tokens:
    own = _changed(operation)
    return (*own, operation.out_of) if isinstance(operation, Transplant) else own


def _common(first: tuple | str, second: tuple | str) -> tuple | str:
    if first == ALL:
        return second
    return first if second == ALL else tuple(one for one in first if one in second)


def _verdict(first: Operation, second: Operation) -> tuple[bool | None, str]:
    if first == second:
        return False, "they are the same"
    if _is_late(first):
        return False, "both multiply weights"
    if _is_identity(first) or _is_identity(second):
        return False, "one of them changes nothing"
    for kind, verdict in ((Transplant, _with_transplant), (Set, _with_set), (AddDelta, _with_delta)):
        for one, other in ((first, second), (second, first)):
            if isinstance(one, kind):
                return verdict(one, other)  # type: ignore[operator]
    return _two_maps(first, second)


def _is_identity(operation: Operation) -> bool:
    if isinstance(operation, Scale):
        return operation.factor == 1
    if isinstance(operation, Topic):
        return all(one == 1 for one in operation.factors)
    if isinstance(operation, ProjectOut):
        return operation.share == 0
    return isinstance(operation, AddDelta) and not operation.vector.any()


def _with_transplant(one: Transplant, other: Operation) -> tuple[bool | None, str]:
    if isinstance(other, Scale | Remove | ProjectOut) and _covers(other, one.into, one.out_of):
        return False, "both words are changed alike"
    if isinstance(other, Topic):
        return None, "a topic scales the two words differently, unless their scores lie in one band"
    return True, "senses are copied as they are at that point of the edit"


def _covers(operation: Scale | Remove | ProjectOut, *tokens: Token) -> bool:
    return operation.tokens == ALL or all(one in operation.tokens for one in tokens)


def _with_set(one: Set, other: Operation) -> tuple[bool | None, str]:
    if isinstance(other, Set | AddDelta):
        return True, "what is set replaces what came before it"
    return _mapped(one.vector, other, "set")


def _with_delta(one: AddDelta, other: Operation) -> tuple[bool | None, str]:
    if isinstance(other, AddDelta):
        return False, "sums can be taken in any order"
    return _mapped(one.vector, other, "added")


def _mapped(vector: np.ndarray, other: Operation, how: str) -> tuple[bool | None, str]:
    """Whether a linear map changes a vector that is set or added."""
    if not vector.any():
        return False, "the vector is zero, which no linear map changes"
    if isinstance(other, Scale | Remove):
        return True, f"a vector that is {how} before is scaled, one that is {how} after is not"
    if isinstance(other, ProjectOut) and isinstance(other.direction, np.ndarray):
        if _cosine(vector, other.direction) == 0:
            return False, f"the vector that is {how} has nothing of the direction"
        return True, f"the vector that is {how} has a part along the direction"
    return None, f"it depends on the model what becomes of a vector that is {how} before"


def _two_maps(first: Operation, second: Operation) -> tuple[bool | None, str]:
    if isinstance(first, Scale | Remove | Topic) or isinstance(second, Scale | Remove | Topic):
        return False, "a factor can be taken out of a linear map"
    if isinstance(first, ProjectOut) and isinstance(second, ProjectOut):
        return _two_projections(first, second)
    return None, "two linear maps commute only for some vectors"


def _two_projections(first: ProjectOut, second: ProjectOut) -> tuple[bool | None, str]:
    if isinstance(first.direction, np.ndarray) and isinstance(second.direction, np.ndarray):
        if abs(_cosine(first.direction, second.direction)) in (0.0, 1.0):
            return False, "the directions are parallel or orthogonal"
        return True, "the directions are neither parallel nor orthogonal"
    both = (first.direction, second.direction)
    if all(isinstance(one, tuple) for one in both) and set(both[0]) == set(both[1]):
        return False, "the directions are the same"
    return None, "projections commute when their directions are parallel or orthogonal"


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Rounded, so that what is parallel or orthogonal but for rounding is 1 or 0."""
    return round(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)), 12)
