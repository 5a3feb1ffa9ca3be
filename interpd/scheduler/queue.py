"""Who runs next: a fair queue over owners by virtual token counters.

Each owner has a counter of the tokens that it was served, divided by its weight; the waiting owner with the smallest
counter is next, whatever the lengths of their queues. An owner that comes back after a pause is lifted to the smallest
counter of those who wait (when nobody waits, to that of the owner served last), so that nobody saves up a claim by
staying away. Between two owners that both wait, the difference of what they were served stays below two of the largest
requests.

Source: Sheng et al., Fairness in Serving Large Language Models, OSDI 2024 (arXiv:2401.00588), algorithm 2. We charge an
estimate when a run is taken and correct it when the run ends; they charge decoded tokens as they come.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from interpd.scheduler.runs import Run

MAX_IDLE_COUNTERS = 4096
"""Counters of owners without waiting runs that are remembered; beyond it they are forgotten, as if never served."""


class RunQueue(Protocol):
    """The waiting runs of one model."""

    def push(self, run: Run) -> None:
        """Appends a run to its owner's line."""

    def pop(self) -> Run:
        """Takes the next run out and charges its owner. Raises ``IndexError`` when empty."""

    def first(self) -> Run:
        """The run that ``pop`` would give. Raises ``IndexError`` when empty."""

    def remove(self, run: Run) -> None:
        """Takes a run out of turn; it must be waiting."""

    def charge(self, owner: str, n_tokens: float) -> None:
        """Corrects what ``owner`` was served (negative: it was less than estimated)."""

    def ordered(self) -> list[Run]:
        """The waiting runs in the order in which ``pop`` would give them, if nothing arrived."""

    def n_waiting(self, owner: str) -> int:
        """Runs of one owner."""

    def __len__(self) -> int:
        """Runs of all owners."""


class FairQueue:
    """``RunQueue`` by virtual token counters.

    Args:
        weights: Shares of owners; 1 for those not named.
    """

    def __init__(self, weights: Mapping[str, float] | Iterable[tuple[str, float]] = ()) -> None:
        self._weights = dict(weights)
        self._served: dict[str, float] = {}
        self._lines: dict[str, dict[str, Run]] = {}
        self._level = 0.0

    def push(self, run: Run) -> None:
        """Appends a run to its owner's line, lifting an owner that comes back."""
        owner = run.request.owner
        if owner not in self._lines:
            floor = min((self._served[o] for o in self._lines), default=self._level)
            self._served[owner] = max(self._served.get(owner, 0.0), floor)
            self._lines[owner] = {}
        self._lines[owner][run.run_id] = run

    def pop(self) -> Run:
        """The first run of the owner that was served least."""
        run = self.first()
        owner = run.request.owner
        self.charge(owner, run.cost_tokens)
        self._level = self._served[owner]
        self.remove(run)
        return run

    def first(self) -> Run:
        """The run that is next."""
        if not self._lines:
            raise IndexError("the queue is empty")
        owner = min(self._lines, key=self._served.__getitem__)
        return next(iter(self._lines[owner].values()))

    def remove(self, run: Run) -> None:
        """Takes a run out of turn."""
        owner = run.request.owner
        del self._lines[owner][run.run_id]
        if not self._lines[owner]:
            del self._lines[owner]
            self._forget_idle()

    def charge(self, owner: str, n_tokens: float) -> None:
        """Adds to what ``owner`` was served."""
        if owner in self._served:
            self._served[owner] += n_tokens / self._weights.get(owner, 1.0)

    def ordered(self) -> list[Run]:
        """The waiting runs by the counter that their owner will have when their turn comes."""
        tagged: list[tuple[float, Run]] = []
        for owner, line in self._lines.items():
            turn = self._served[owner]
            for run in line.values():
                tagged.append((turn, run))
                turn += run.cost_tokens / self._weights.get(owner, 1.0)
        return [run for _, run in sorted(tagged, key=lambda pair: pair[0])]

    def n_waiting(self, owner: str) -> int:
        """Runs of one owner."""
        return len(self._lines.get(owner, ()))

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def _forget_idle(self) -> None:
        if len(self._served) - len(self._lines) > MAX_IDLE_COUNTERS:
            self._served = {owner: self._served[owner] for owner in self._lines}
