"""Whether a request may enter: everything that can be known before it waits.

Cheap reasons come first, so that an overloaded front refuses in microseconds; the graph is checked last, by the same
code that the client runs. Per-run limits are part of that check (``Manifest.limits``).
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from interpd.config import SchedulerConfig
from interpd.errors import DeadlineExceeded, LimitExceeded, Overloaded
from interpd.graph.check import CheckReport, check
from interpd.graph.run import RunRequest
from interpd.graph.schema import Manifest
from interpd.scheduler.book import RunBook
from interpd.scheduler.queue import RunQueue
from interpd.scheduler.runs import Run

MIN_RETRY_S, MAX_RETRY_S = 0.5, 30.0
SMALL_BYTES = 1 << 20
"""Results up to this size are never refused for want of memory."""

N_RECENT = 32
"""Ends of runs from which the pace is taken."""


class Admission:
    """Turns requests into runs, or says why not.

    Args:
        config: Bounds on the queue.
        clock: Monotonic seconds.
        wall: Seconds of the Unix clock, which deadlines of requests use.
    """

    def __init__(self, config: SchedulerConfig, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._config = config
        self._clock, self._wall = clock, wall
        self._ends: deque[float] = deque(maxlen=N_RECENT)

    def admit(
        self,
        request: RunRequest,
        manifest: Manifest,
        queues: Mapping[str, RunQueue],
        book: RunBook,
        report: CheckReport | None = None,
    ) -> Run:
        """The run, not queued yet. Raises ``Overloaded``, ``DeadlineExceeded``, ``CallerError``.

        ``report``: what the checker found, when it was asked already.
        """
        self._refuse_full(request.owner, queues)
        self._refuse_keeping(request.keep_s)
        left_s = manifest.limits.run_s
        if request.deadline_s is not None:
            left_s = min(left_s, request.deadline_s - self._wall())
        if left_s <= 0:
            raise DeadlineExceeded("the deadline had passed when the request arrived", stage="arrival")
        report = report or check(request, manifest)
        report.raise_if_bad()
        bytes_due = report.estimate.least_bytes_returned if report.estimate is not None else 0
        if bytes_due > SMALL_BYTES:
            self._refuse_unread(bytes_due, book.held_bytes)
        now = self._clock()
        bounded = replace(request, deadline_s=self._wall() + left_s)
        keep_s = max(request.keep_s, 0.0)
        return Run(bounded, now=now, deadline=now + left_s, keep_s=keep_s, bytes_due=bytes_due)

    def _refuse_keeping(self, keep_s: float) -> None:
        """Raises ``LimitExceeded``: whoever comes back in time for what was promised shall find it."""
        most_s = self._config.max_keep_s
        if keep_s > most_s:
            raise LimitExceeded(
                f"keep_s {keep_s:g} is more than the {most_s:g} seconds for which this service keeps results",
                limit_s=most_s,
            )

    def note_end(self, now: float) -> None:
        """Takes the end of a run into the pace from which retry hints are made."""
        self._ends.append(now)

    def _refuse_full(self, owner: str, queues: Mapping[str, RunQueue]) -> None:
        n_waiting = sum(map(len, queues.values()))
        if n_waiting >= self._config.max_queued:
            raise Overloaded(
                f"the queue is full: {n_waiting} runs wait, limit {self._config.max_queued}; try again later",
                retry_after_s=self._retry_after_s(n_waiting),
                limit=self._config.max_queued,
            )
        n_own = sum(queue.n_waiting(owner) for queue in queues.values())
        if n_own >= self._config.max_queued_per_owner:
            raise Overloaded(
                f"owner {owner!r} has {n_own} runs waiting, limit {self._config.max_queued_per_owner}; "
                "wait for some of them to end",
                retry_after_s=self._retry_after_s(n_own),
                limit=self._config.max_queued_per_owner,
            )

    def _refuse_unread(self, bytes_due: int, held_bytes: int) -> None:
        # one run alone is bounded by its own limit
        if held_bytes and held_bytes + bytes_due > self._config.held_bytes:
            raise Overloaded(
                f"{held_bytes} bytes of results are due or wait for their readers, and {bytes_due} more would be too "
                f"many, limit {self._config.held_bytes}; try again later, or ask for less",
                retry_after_s=self._retry_after_s(1),
                limit=self._config.held_bytes,
            )

    def _retry_after_s(self, n_waiting: int) -> float:
        """Half the time in which the runs that wait now will have ended, at the pace of late."""
        if len(self._ends) < 2:
            return 1.0
        s_per_run = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return min(max(n_waiting * s_per_run / 2, MIN_RETRY_S), MAX_RETRY_S)
