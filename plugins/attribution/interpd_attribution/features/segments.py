"""Segments: which positions of a prompt are one feature, and what each feature is called."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from interpd.errors import CallerError


@dataclass(frozen=True)
class Segments:
    """A feature for each position, or none. Numbers follow the order in which features begin.

    Raises ``CallerError`` for numbers with gaps, another count of labels, and a feature on both sides of a model.
    """

    of: tuple[int, ...]
    """The feature of each position (source, then target); -1: in none. The constant ``features`` of a method."""
    labels: tuple[str, ...]
    """The text of each feature."""
    n_source: int = 0
    """How many of the positions are a source's; 0 for a decoder-only model."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", tuple(int(number) for number in self.of))
        object.__setattr__(self, "labels", tuple(self.labels))
        used = {number for number in self.of if number >= 0}
        if used != set(range(len(self.labels))) or min(self.of, default=0) < -1:
            raise CallerError(
                f"features: {len(self.labels)} labels, so positions are numbered 0 to {len(self.labels) - 1} without "
                f"gaps, or -1; got {sorted(set(self.of))}"
            )
        shared = used & set(self.of[: self.n_source]) & set(self.of[self.n_source :])
        if shared:
            label = self.labels[min(shared)]
            raise CallerError(
                f"feature {label!r} has positions of the source and of the target; give each side its own"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sides(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The labels of the source's features, and of the target's."""
        n = len(set(self.of[: self.n_source]) - {-1})
        return self.labels[:n], self.labels[n:]

    def positions(self, number: int) -> tuple[int, ...]:
        """The positions of a feature."""
        return tuple(position for position, one in enumerate(self.of) if one == number)

    def ids(self, ids: Sequence[int]) -> tuple[int, ...]:
        """For each feature its token's id, -1 where it has several tokens. ``ids``: those of all positions."""
        found = [[id_ for id_, one in zip(ids, self.of, strict=True) if one == number] for number in range(len(self))]
        return tuple(group[0] if len(group) == 1 else -1 for group in found)

    def beside(self, target: Self) -> Self:
        """These of a source, and those of its target behind them."""
        shift = len(self)
        moved = (number + shift if number >= 0 else -1 for number in target.of)
        return replace(self, of=(*self.of, *moved), labels=self.labels + target.labels, n_source=len(self.of))

    def followed_by(self, labels: Sequence[str]) -> Self:
        """These, and a feature for each of some further positions."""
        own = range(len(self), len(self) + len(labels))
        return replace(self, of=(*self.of, *own), labels=(*self.labels, *labels))

    def without(self, numbers: Collection[int]) -> Self:
        """These but for some features, whose positions are in none."""
        self._check(numbers)
        keys = [None if number in numbers or number < 0 else number for number in self.of]
        return renumbered(keys, dict(enumerate(self.labels)), self.n_source)

    def parents(self, coarse: "Segments") -> tuple[int, ...]:
        """For each of these the feature of ``coarse`` in which it lies, -1: in none.

        Raises ``CallerError`` for a feature that lies in two, or partly in one: ``within`` cuts it.
        """
        if len(coarse.of) != len(self.of):
            raise CallerError(f"features of {len(self.of)} positions and of {len(coarse.of)} are not of one prompt")
        found = [{coarse.of[position] for position in self.positions(number)} for number in range(len(self))]
        for label, held in zip(self.labels, found, strict=True):
            if len(held) > 1:
                raise CallerError(
                    f"feature {label!r} is not within one of the coarser features; cut it: .within(coarse)"
                )
        return tuple(held.pop() for held in found)

    def within(self, coarse: "Segments") -> "Segments":
        """These, cut where features of ``coarse`` end, so that each lies in one of them or in none."""
        if len(coarse.of) != len(self.of):
            raise CallerError(f"features of {len(self.of)} positions and of {len(coarse.of)} are not of one prompt")
        pairs = [(own, held) if own >= 0 else None for own, held in zip(self.of, coarse.of, strict=True)]
        return renumbered(pairs, {pair: self.labels[pair[0]] for pair in pairs if pair}, self.n_source)

    def refined(self, fine: "Segments", numbers: Collection[int]) -> "Segments":
        """These, but with some of them replaced by their parts in ``fine``. Parts that ``fine`` leaves out are gone."""
        self._check(numbers)
        fine = fine.within(self)
        keys: list[tuple[str, int] | None] = []
        for own, part in zip(self.of, fine.of, strict=True):
            key = ("part", part) if own in numbers else ("own", own)
            keys.append(key if key[1] >= 0 else None)
        labels = {("own", number): label for number, label in enumerate(self.labels)}
        labels |= {("part", number): label for number, label in enumerate(fine.labels)}
        return renumbered(keys, labels, self.n_source)

    def summed(self, scores: np.ndarray, coarse: "Segments") -> np.ndarray:
        """The scores of these features, ``[feature ...]``, added up to those of ``coarse``; for additive scores only.

        NaN, where a feature comes too late to explain anything, counts only where all parts are so.
        """
        scores = np.asarray(scores)
        if scores.shape[:1] != (len(self),):
            raise CallerError(f"scores have {scores.shape[:1]} rows, expected one for each of {len(self)} features")
        parents = np.array(self.parents(coarse))
        rows = np.full((len(coarse), *scores.shape[1:]), np.nan, scores.dtype)
        for number in set(parents.tolist()) - {-1}:
            part = scores[parents == number]
            rows[number] = np.where(np.isnan(part).all(0), np.nan, np.nansum(part, 0))
        return rows

    def _check(self, numbers: Collection[int]) -> None:
        wrong = [number for number in numbers if not 0 <= number < len(self)]
        if wrong:
            raise CallerError(f"there is no feature {wrong[0]}; there are {len(self)}")


def renumbered(keys: Sequence[object], labels: dict, n_source: int = 0) -> Segments:
    """Features by what positions have in common: equal keys are one feature, ``None`` is in none."""
    numbers: dict[object, int] = {}
    of = tuple(-1 if key is None else numbers.setdefault(key, len(numbers)) for key in keys)
    return Segments(of, tuple(labels[key] for key in numbers), n_source)
