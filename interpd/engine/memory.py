"""The values of one run, and when each may be forgotten.

Outside generations a value is dropped when the last node that uses it has run. In a generation the values of a step
are dropped when the step ends, except those that come back (stacked) or that a later generation of the run uses.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interpd.graph.ir import Ref

Outputs = tuple[Any, ...]


@dataclass(slots=True)
class Values:
    """What the nodes of one run have given so far."""

    uses: Sequence[int]
    """How many nodes use each node's value; an output counts once more."""
    kept_steps: Collection[int] = ()
    """Nodes whose per-step values outlive their step."""
    keep_all: bool = False
    """A method may run the graph's writes again, with all that they need."""
    step: int = 0
    _single: dict[int, Outputs] = field(default_factory=dict)
    _of_step: dict[int, Outputs] = field(default_factory=dict)
    _by_step: dict[int, dict[int, Outputs]] = field(default_factory=dict)
    _left: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = list(self.uses)

    def begin_step(self, step: int) -> None:
        """Forgets the previous step's own values."""
        self.step = step
        self._of_step = {}

    def put(self, node: int, outputs: Outputs, *, stacked: bool = False) -> None:
        """Keeps what ``node`` gave (``stacked``: in this step)."""
        if not stacked:
            if self._left[node] or self.keep_all:
                self._single[node] = outputs
            return
        self._of_step[node] = outputs
        if node in self.kept_steps:
            self._by_step.setdefault(node, {})[self.step] = outputs

    def has(self, node: int) -> bool:
        """Whether the value exists now."""
        return node in self._single or node in self._of_step or self.step in self._by_step.get(node, {})

    def get(self, ref: Ref) -> Any:
        """The value that ``ref`` names, of this step where it has one per step."""
        outputs = self._single.get(ref.node) or self._of_step.get(ref.node)
        return (outputs or self._by_step[ref.node][self.step])[ref.output]

    def steps_of(self, ref: Ref) -> list[Any]:
        """The values of all steps that ran, in order."""
        by_step = self._by_step.get(ref.node, {})
        return [by_step[step][ref.output] for step in sorted(by_step)]

    def release(self, sources: Collection[int]) -> None:
        """Counts one use of each node of ``sources`` as done."""
        for node in sources:
            self._left[node] -= 1
            if not self._left[node] and not self.keep_all:
                self._single.pop(node, None)

    def replace(self, change: Mapping[int, Outputs]) -> None:
        """Puts other outputs in place of values that exist."""
        self._single.update(change)

    def singles(self) -> Mapping[int, Outputs]:
        """Every value that is not of a step."""
        return self._single

    def snapshot(self) -> "Values":
        """A copy to return to; it shares the tensors, which are never changed."""
        copy = Values(self.uses, self.kept_steps, self.keep_all, self.step)
        copy._single, copy._of_step = dict(self._single), dict(self._of_step)
        copy._by_step = {node: dict(steps) for node, steps in self._by_step.items()}
        copy._left = list(self._left)
        return copy
