"""The operations of the edit language: what each does to the sense vectors ``C(x)_l`` of tokens ``x``.

An edit is a list of them. Each acts on what the ones before it have made: as if they were carried out, one after the
other, on the whole table ``C`` of the vocabulary. All are checked when they are made (``CallerError``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.edits import places
from interpd_backpack.edits.places import ALL, Senses, Token, TokenOrWord, Tokens, of_senses, shown_token, spelled

TOPIC_FACTORS: Mapping[int, tuple[float, float, float, float]] = MappingProxyType(
    {0: (1.0, 1.0, 1.0, 1.0), 1: (1.5, 1.5, 1.3, 1.0), 2: (2.2, 2.2, 1.5, 1.0), 3: (3.3, 3.3, 3.0, 1.0)}
)
"""The published strengths of topic control: factors of the bands above each quantile, and of the rest."""
TOPIC_QUANTILES = (0.95, 0.8, 0.6)


class Operation:
    """One step of an edit."""

    kind: ClassVar[str]
    """Its name in files."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            checked, value = _CHECKED.get(field.name), getattr(self, field.name)
            is_left_out = value is None and field.default is None
            if checked is not None and not is_left_out:
                object.__setattr__(self, field.name, checked(value, f"{self.kind}: {field.name}"))
        self._check()

    def _check(self) -> None:
        """Refuses what is wrong of several fields together."""

    def describe(self) -> str:
        """What it does, for people."""
        raise TypeError(f"{type(self).__name__} is no operation by itself")

    def values(self) -> dict[str, Any]:
        """Its fields, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operation) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return (self.kind, *(_comparable(value) for value in self.values().values()))


@dataclass(frozen=True, eq=False)
class Scale(Operation):
    """``C(x)_l`` becomes ``factor * C(x)_l``.

    The same as scaling the weights of ``x`` in sense ``l`` wherever it stands (Hewitt et al. 2023, 6.2).
    """

    kind = "scale"
    tokens: Tokens
    senses: Senses
    factor: float

    def describe(self) -> str:
        """What it does, for people."""
        return f"scale {of_senses(self.senses)} of {spelled(self.tokens)} by {self.factor:g}"


@dataclass(frozen=True, eq=False)
class Remove(Operation):
    """``C(x)_l`` becomes zero."""

    kind = "remove"
    tokens: Tokens
    senses: Senses

    def describe(self) -> str:
        """What it does, for people."""
        return f"remove {of_senses(self.senses)} of {spelled(self.tokens)}"


@dataclass(frozen=True, eq=False)
class Topic(Operation):
    """Every ``C(x)_l`` is scaled by how much it speaks for the words of a bag (Hewitt et al. 2023, 6.1 and D.1).

    The score of (x, l) is what it adds to the logits of the bag, over its largest logit; scores above quantiles of all
    scores have the factors of ``strength``. Scores are of the model's own senses, whatever came before in the edit.
    """

    kind = "topic"
    bag: tuple[TokenOrWord, ...]
    strength: int | tuple[float, ...] = 1
    """0 to 3, the published ones, or factors: those above each quantile, the highest first, and that of the rest."""
    quantiles: tuple[float, ...] = TOPIC_QUANTILES
    """Falling, between 0 and 1."""
    formula: Literal["code", "paper"] = "code"
    """What the score is divided by: the largest logit (published code), or the largest absolute one (the paper)."""
    anneal: bool = False
    """Whether factors fade with how much of each sense has been said: they act on the weights then, after all else."""

    @property
    def factors(self) -> tuple[float, ...]:
        """The factor of each band, one more than quantiles."""
        return TOPIC_FACTORS[self.strength] if isinstance(self.strength, int) else self.strength

    def _check(self) -> None:
        if self.formula not in ("code", "paper"):
            raise CallerError(f"topic: formula is {self.formula!r}, expected 'code' or 'paper'")
        if not isinstance(self.anneal, bool):
            raise CallerError(f"topic: anneal is {self.anneal!r}, expected True or False")
        falls = all(low < high for high, low in zip(self.quantiles, self.quantiles[1:], strict=False))
        if not self.quantiles or not falls or not all(0 < one < 1 for one in self.quantiles):
            raise CallerError(f"topic: quantiles are {self.quantiles}, expected falling numbers between 0 and 1")
        if len(self.factors) != len(self.quantiles) + 1:
            raise CallerError(
                f"topic: {len(self.factors)} factors for {len(self.quantiles)} quantiles, expected one for each "
                "quantile and one for what lies below"
            )

    def describe(self) -> str:
        """What it does, for people."""
        factors = "/".join(f"{one:g}" for one in self.factors)
        annealed = ", fading as it is said" if self.anneal else ""
        return f"turn to the topic of {spelled(self.bag)}: factors {factors}{annealed}"


@dataclass(frozen=True, eq=False)
class ReplaceAssociation(Operation):
    """What ``target`` says about ``remove`` it says about ``add`` instead (Hewitt et al. 2023, 6.3, as coded).

    With the rows ``r`` and ``a`` of the output embedding: ``C(x)_l += (C(x)_l . r / |r|^2) (a |r|^2 / |a|^2 - r)``. The
    part that is added gives ``add`` the logit that ``remove`` had of each sense, negative ones included.
    """

    kind = "replace_association"
    target: TokenOrWord
    remove: TokenOrWord
    add: TokenOrWord
    senses: Senses = ALL

    def _check(self) -> None:
        if self.remove == self.add:
            raise CallerError(f"replace_association: {shown_token(self.remove)} would be replaced by itself")

    def describe(self) -> str:
        """What it does, for people."""
        target, remove, add = map(shown_token, (self.target, self.remove, self.add))
        return f"in {of_senses(self.senses)} of {target}, replace {remove} by {add}"


@dataclass(frozen=True, eq=False)
class Transplant(Operation):
    """``C(into)_l`` becomes what ``C(out_of)_l`` is at that point of the edit."""

    kind = "transplant"
    into: TokenOrWord
    out_of: TokenOrWord
    senses: Senses

    def _check(self) -> None:
        if self.into == self.out_of:
            raise CallerError(f"transplant: {shown_token(self.into)} would be given its own senses")

    def describe(self) -> str:
        """What it does, for people."""
        return f"give {shown_token(self.into)} {of_senses(self.senses)} of {shown_token(self.out_of)}"


@dataclass(frozen=True, eq=False)
class ProjectOut(Operation):
    """A direction ``d`` is taken out: ``C(x)_l -= share * (C(x)_l . d / |d|^2) d``."""

    kind = "project_out"
    tokens: Tokens
    direction: np.ndarray | tuple[TokenOrWord, TokenOrWord]
    """A vector ``[d_model]``, or two tokens: the difference of their rows of the output embedding."""
    senses: Senses = ALL
    share: float = 1.0
    """1: all of it, so that the senses lie in the null space of ``d``."""

    def _check(self) -> None:
        if isinstance(self.direction, np.ndarray):
            if not self.direction.any():
                raise CallerError("project_out: direction is zero, so there is nothing to project out")
        elif self.direction[0] == self.direction[1]:
            raise CallerError(f"project_out: direction is {shown_token(self.direction[0])} minus itself, which is zero")

    def describe(self) -> str:
        """What it does, for people."""
        along = "a vector" if isinstance(self.direction, np.ndarray) else " - ".join(map(shown_token, self.direction))
        share = "" if self.share == 1 else f"{self.share:g} of "
        return f"project {share}{along} out of {of_senses(self.senses)} of {spelled(self.tokens)}"


@dataclass(frozen=True, eq=False)
class AddDelta(Operation):
    """``C(x)_l`` becomes ``C(x)_l + vector``."""

    kind = "add_delta"
    token: TokenOrWord
    sense: int
    vector: np.ndarray
    """``[d_model]``; kept in float64."""

    def describe(self) -> str:
        """What it does, for people."""
        return (
            f"add a vector of norm {np.linalg.norm(self.vector):.3g} to sense {self.sense} of {shown_token(self.token)}"
        )


@dataclass(frozen=True, eq=False)
class Set(Operation):
    """``C(x)_l`` becomes ``vector``."""

    kind = "set"
    token: TokenOrWord
    sense: int
    vector: np.ndarray
    """``[d_model]``; kept in float64."""

    def describe(self) -> str:
        """What it does, for people."""
        return (
            f"set sense {self.sense} of {shown_token(self.token)} to a vector of norm {np.linalg.norm(self.vector):.3g}"
        )


@dataclass(frozen=True, eq=False)
class MaskWeights(Operation):
    """The weights that every position gives to tokens, or to positions, in some senses are multiplied by ``factor``.

    Weights do not sum to one afterwards. This acts on what the senses are after all other operations, wherever it
    stands in the edit. With ``negative_only`` the contributions to logits are reweighted, not the weights: those to the
    words that lie below that quantile of the vocabulary, for each token and sense (0.02 in the published code).
    """

    kind = "mask_weights"
    tokens: Tokens | None = None
    senses: Senses = ALL
    factor: float = 0.0
    positions: tuple[int, ...] | None = None
    """Instead of tokens: counted from the prompt's first token."""
    negative_only: float | None = None

    def _check(self) -> None:
        if (self.tokens is None) == (self.positions is None):
            raise CallerError("mask_weights: say either tokens or positions")
        if self.negative_only is None:
            return
        if self.positions is not None or self.tokens == ALL:
            raise CallerError("mask_weights: negative_only is about named tokens")
        if self.factor <= 0:
            raise CallerError(
                f"mask_weights: factor is {self.factor:g}, expected more than 0 with negative_only: which contributions"
                " are meant is found among those that are multiplied by it"
            )

    def describe(self) -> str:
        """What it does, for people."""
        if self.positions is not None:
            where = f"positions {', '.join(map(str, self.positions))}"
        else:
            where = spelled(self.tokens or ())
        if self.negative_only is None:
            return f"multiply the weights of {of_senses(self.senses)} at {where} by {self.factor:g}"
        against = f"the {self.negative_only:.0%} of words that they speak most against"
        return f"multiply contributions of {of_senses(self.senses)} of {where} to {against} by {self.factor:g}"


OPERATIONS: Mapping[str, type[Operation]] = MappingProxyType(
    {
        one.kind: one
        for one in (
            *(Scale, Remove, Topic, ReplaceAssociation, Transplant, ProjectOut),
            *(AddDelta, Set, MaskWeights),
        )
    }
)
"""By their names in files."""


CHANGED = frozenset({"tokens", "token", "target", "into"})
"""The fields that name tokens whose senses, or weights, an operation changes."""
NAMES_TOKENS = CHANGED | {"bag", "remove", "add", "out_of", "direction"}
"""All fields that name tokens."""


def _comparable(value: Any) -> Any:
    return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def _direction(value: Any, what: str) -> np.ndarray | tuple[TokenOrWord, TokenOrWord]:
    if isinstance(value, tuple | list) and any(isinstance(one, Token | str) for one in value) and len(value) != 2:
        raise CallerError(f"{what} is a vector or two tokens, got {len(value)}")
    # two whole numbers are ids: no model is two wide
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(one, Token | str | int) for one in value):
        return places.a_token(value[0], what), places.a_token(value[1], what)
    return places.a_vector(value, what)


def _strength(value: Any, what: str) -> int | tuple[float, ...]:
    if isinstance(value, tuple | list):
        return tuple(places.a_number(one, what) for one in value)
    if isinstance(value, bool) or value not in TOPIC_FACTORS:
        raise CallerError(f"{what} is 0, 1, 2, 3 or a tuple of factors, got {value!r}")
    return int(value)


def _sense(value: Any, what: str) -> int:
    found = places.some_senses(value, what)
    if len(found) != 1 or found == ALL:
        raise CallerError(f"{what} is one sense, got {value!r}")
    return int(found[0])


_CHECKED: Mapping[str, Callable[[Any, str], Any]] = {
    "tokens": places.tokens_or_all,
    "bag": places.some_tokens,
    **dict.fromkeys(("token", "target", "remove", "add", "into", "out_of"), places.a_token),
    "senses": places.some_senses,
    "sense": _sense,
    "positions": places.some_positions,
    "factor": places.a_number,
    "share": places.a_number,
    "negative_only": places.a_quantile,
    "vector": places.a_vector,
    "direction": _direction,
    "strength": _strength,
    "quantiles": lambda value, what: tuple(places.a_number(one, what) for one in value),
}
"""What a field of each name is made into; the others are checked by their operation."""
