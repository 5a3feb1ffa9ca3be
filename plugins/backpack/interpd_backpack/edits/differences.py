"""What one edit does that another does not."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from interpd_backpack.edits.operations import Operation


@dataclass(frozen=True)
class Difference:
    """From one edit to another, operation by operation, in order."""

    steps: tuple[tuple[str, Operation], ...]
    """``"="`` in both, ``"-"`` in the first only, ``"+"`` in the second only; one that moved is both."""
    base: str
    """Why the edits are of different models; empty when they are not."""

    @property
    def removed(self) -> tuple[Operation, ...]:
        """Operations of the first edit that the second has not, there."""
        return tuple(one for mark, one in self.steps if mark == "-")

    @property
    def added(self) -> tuple[Operation, ...]:
        """Operations of the second edit that the first has not, there."""
        return tuple(one for mark, one in self.steps if mark == "+")

    @property
    def is_reordered(self) -> bool:
        """Whether both have the same operations, in different orders."""
        return bool(self.added) and Counter(self.added) == Counter(self.removed)

    def __bool__(self) -> bool:
        return bool(self.removed or self.added or self.base)

    def __str__(self) -> str:
        lines = [f"{mark} {one.describe()}" for mark, one in self.steps]
        return "\n".join([*([f"! {self.base}"] if self.base else []), *lines])


def difference(first: Sequence[Operation], second: Sequence[Operation], *, base: str) -> Difference:
    """What leads from ``first`` to ``second``."""
    steps: list[tuple[str, Operation]] = []
    for tag, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if tag == "equal":
            steps += [("=", one) for one in first[a:b]]
        else:
            steps += [("-", one) for one in first[a:b]] + [("+", one) for one in second[c:d]]
    return Difference(tuple(steps), base)
