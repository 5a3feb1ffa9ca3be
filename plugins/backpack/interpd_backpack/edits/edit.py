"""An edit: operations in order, and the model that they are meant for."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.edits import files, writing
from interpd_backpack.edits.conflicts import Conflict, OrderMatters, conflicts, conflicts_between
from interpd_backpack.edits.differences import Difference, difference
from interpd_backpack.edits.fingerprint import Fingerprint
from interpd_backpack.edits.inverses import inverse_of
from interpd_backpack.edits.operations import CHANGED, Operation
from interpd_backpack.edits.places import ALL, Token
from interpd_backpack.edits.resolving import words_in


@dataclass(frozen=True)
class Edit:
    """Operations on senses, in the order in which they act. Immutable, and equal when all of it is.

    Raises ``CallerError`` for tokens, senses or vectors that its model has not.
    """

    operations: tuple[Operation, ...]
    name: str
    base: Fingerprint

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", tuple(self.operations))
        if not self.operations:
            raise CallerError("an edit without operations changes nothing")
        if not self.name.strip():
            raise CallerError("an edit needs a name")
        for number, one in enumerate(self.operations):
            if not isinstance(one, Operation):
                raise CallerError(f"operation {number} is {one!r}, expected one of interpd_backpack.edits")
            if problem := _problem(one, self.base):
                raise CallerError(f"operation {number} ({one.describe()}): {problem}")

    def __add__(self, other: "Edit") -> "Edit":
        """The operations of both, these first; warns (``OrderMatters``) where the other order is something else.

        Raises ``CallerError`` when they are of different models.
        """
        if not isinstance(other, Edit):
            return NotImplemented
        if problem := other.base.problem(self.base) and self.base.problem(other.base):
            raise CallerError(f"the edits {self.name!r} and {other.name!r} are of different models: {problem}")
        base = self.base if self.base.revision else other.base
        both = Edit(self.operations + other.operations, f"{self.name} + {other.name}", base)
        met = [one for one in conflicts_between(self.operations, other.operations) if one.order_matters is not False]
        own, others = self.operations, other.operations
        # in what takes another back the order is the right one
        if met and not _takes_back(own, others) and not _takes_back(others, own):
            more = f" (and {len(met) - 1} more: see conflicts())" if len(met) > 1 else ""
            warnings.warn(f"the edit {both.name!r}: {met[0]}{more}", OrderMatters, stacklevel=2)
        return both

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of all that the files of the edit say, its name too; ``diff`` compares what edits do."""
        return writing.digest_of(*self._spelled_out)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens that operations name as changed, by id; those of what changes all of them are not listed."""
        return tuple(sorted({token for one in self.operations for token in named(one, changed_only=True)}))

    def conflicts(self) -> tuple[Conflict, ...]:
        """Pairs of operations that act on the same senses of the same tokens, and whether their order matters."""
        return conflicts(self.operations)

    def diff(self, other: "Edit") -> Difference:
        """What ``other`` does that this one does not, and the other way round."""
        an_edit(other)
        return difference(self.operations, other.operations, base=self.base.problem(other.base))

    def inverse(self) -> "Edit":
        """An edit that takes this one back, up to rounding: the inverses of its operations, in reverse.

        Raises ``CallerError`` naming an operation that has none.
        """
        undone = [(number, one, inverse_of(one)) for number, one in enumerate(self.operations)]
        for number, one, inverse in undone:
            if inverse is None:
                raise CallerError(
                    f"the edit {self.name!r} has no inverse: operation {number} ({one.describe()}) has none"
                )
        inverses = tuple(inverse for _, _, inverse in reversed(undone) if inverse is not None)
        return Edit(inverses, f"inverse of {self.name}", self.base)

    def renamed(self, name: str) -> "Edit":
        """The same edit under another name."""
        return replace(self, name=name)

    def describe(self) -> str:
        """What it does, a line for each operation."""
        lines = (f"  {number}. {one.describe()}" for number, one in enumerate(self.operations))
        return "\n".join((f"{self.name}:", *lines))

    @property
    def vectors(self) -> np.ndarray:
        """The vectors that the JSON counts, ``[vector d_model]`` in float64."""
        return self._spelled_out[1]

    def to_json(self) -> dict[str, Any]:
        """The content of ``edit.json``; vectors stand there as numbers of rows."""
        return {**self._spelled_out[0], "digest": self.digest}

    def save(self, folder: str | Path) -> Path:
        """Writes ``edit.json`` and ``edit.safetensors`` into ``folder``, which is made if need be; its path."""
        return files.write(Path(folder), self.to_json(), self._spelled_out[1])

    @classmethod
    def load(cls, folder: str | Path) -> "Edit":
        """The edit that ``save`` wrote. Raises ``CallerError`` for files that are damaged or were changed."""
        return cls.from_json(*files.read(Path(folder)), where=f"the edit in {str(folder)!r}")

    @classmethod
    def from_json(cls, content: Any, vectors: np.ndarray, *, where: str = "the edit") -> "Edit":
        """The edit of ``to_json`` and the vectors ``[vector d_model]`` that it counts. Raises ``CallerError``."""
        found = cls(*writing.parsed(content, vectors, where))
        if found.digest != content["digest"]:
            raise CallerError(f"{where} is damaged: it says more, or says it in other words, than an edit does")
        return found

    def to_artifact(self) -> bytes:
        """The edit as one safetensors file: what a worker is given, and the content of ``edit.safetensors``."""
        return files.artifact_bytes(self.to_json(), self._spelled_out[1])

    @cached_property
    def _spelled_out(self) -> tuple[dict[str, Any], np.ndarray]:
        return writing.spelled_out(self.operations, self.name, self.base)

    def __str__(self) -> str:
        return self.describe()


def an_edit(value: object, otherwise: str = "") -> Edit:
    """``value``, which is an edit.

    Args:
        value: What was given.
        otherwise: What else could have been, ``, or None`` for instance.

    Raises:
        CallerError: It is none; says how one is made of what was given.
    """
    if isinstance(value, Edit):
        return value
    got = f"got {value!r}"
    if isinstance(value, Operation):
        got = f"got an operation ({value.describe()}): model.backpack.edit(...) makes an edit of operations"
    elif isinstance(value, list | tuple):
        got = f"got a {type(value).__name__} of {len(value)}: edits are put together with first + second"
    raise CallerError(f"expected an edit{otherwise}, {got}")


def named(operation: Operation, *, changed_only: bool = False) -> Iterator[Token]:
    """The tokens that an operation names; ``changed_only``: those whose senses, or weights, it changes."""
    for name, value in operation.values().items():
        parts: Iterable[Any] = value if isinstance(value, tuple) else (value,)
        if not changed_only or name in CHANGED:
            yield from (one for one in parts if isinstance(one, Token))


def _takes_back(operations: tuple[Operation, ...], inverses: tuple[Operation, ...]) -> bool:
    return tuple(inverse_of(one) for one in reversed(operations)) == inverses


def _problem(operation: Operation, base: Fingerprint) -> str:
    values = operation.values()
    words = [word for _, some in words_in(operation) for word in some]
    if words:
        return f"the word {words[0]!r} is no token yet; model.backpack.edit(...) finds the tokens of words"
    beyond = [one for one in named(operation) if one.id >= base.n_tokens]
    if beyond:
        return f"{beyond[0]} is not in the vocabulary of {base.n_tokens} tokens"
    senses = values.get("senses", values.get("sense", ALL))
    highest = 0 if senses == ALL else senses if isinstance(senses, int) else max(senses)
    if highest >= base.n_senses:
        return f"there is no sense {highest}: the model has {base.n_senses}, from 0"
    vector = values.get("vector", values.get("direction"))
    if isinstance(vector, np.ndarray) and vector.shape != (base.d_model,):
        return f"the vector has shape {list(vector.shape)}, expected [{base.d_model}]"
    return ""
