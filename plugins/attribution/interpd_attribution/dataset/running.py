"""Rows sent to a model, several under way at once; a row that fails is told of, and the others go on."""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from interpd.errors import Broken, CallerError, DeadlineExceeded, InterpdError, InvalidGraph
from interpd_attribution.attribution import Attribution
from interpd_attribution.dataset.rows import Row

IN_FLIGHT = 4
"""Rows under way at once: enough that workers are never idle and passes are shared."""

N_ALIKE = 8
"""So many first rows that all fail with the same words say that the request is wrong, not the rows."""

ITS_OWN = (CallerError, Broken, DeadlineExceeded)
"""Errors that may be of one row. Others (nobody answers, the run was cancelled) end the whole."""


PLACE = re.compile(r"^\S+\.py:\d+: .*\n +", re.MULTILINE)
"""The line of a program before what is wrong with it."""


def said(error: InterpdError) -> str:
    """What is wrong, without the line of the program: it is one of this package, and not the user's."""
    if isinstance(error, InvalidGraph):
        return "; ".join(one.message for one in error.violations)
    return PLACE.sub("", error.message)


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that could not be attributed."""

    row: Row
    error: InterpdError

    def __str__(self) -> str:
        return f"{self.row}: {said(self.error)}"


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a dataset is."""

    done: int
    """Rows, failed ones included."""
    total: int
    failed: int
    elapsed_s: float

    @property
    def left_s(self) -> float | None:
        """An estimate of the time that the rest takes; ``None`` before the first row."""
        return self.elapsed_s / self.done * (self.total - self.done) if self.done else None


class Attributing(Protocol):
    """A model of the client, as far as it is needed here."""

    @property
    def attribute(self) -> Callable[..., Any]:
        """Its part that attributes."""


def attribute_dataset(
    model: Attributing,
    rows: Iterable[Row | str | tuple[Any, ...]],
    *,
    in_flight: int = IN_FLIGHT,
    on_failure: Callable[[Failure], None] | None = None,
    progress: Callable[[Counts], None] | None = None,
    **arguments: Any,
) -> Iterator[Attribution]:
    """The attributions of rows, in their order, each as soon as it is there; ``info["dataset_row"]`` is its row.

    Args:
        model: ``client.model(...)``.
        rows: ``read_rows(...)``; or texts, or tuples of a text, its continuation, and perhaps a contrast.
        in_flight: Rows under way at once.
        on_failure: Told of each row that fails; the others go on. ``None``: the first failure is raised.
        progress: Told after each row.
        arguments: Those of ``model.attribute`` beside the texts.

    Raises what ends them all: nobody answers, or the first rows all fail with the same words.
    """
    if in_flight < 1:
        raise CallerError(f"in_flight is {in_flight}, expected 1 or more")
    known = [_as_row(number, row) for number, row in enumerate(rows)]
    # lines of several runs would write over each other
    quiet = {"progress": False} if len(known) > 1 else {}
    sender = _Sender(model, {**quiet, **arguments})
    return _Following(on_failure, progress).attributions(sender, known, in_flight)


@dataclass(frozen=True)
class _Sender:
    """Sends rows to a model."""

    model: Attributing
    arguments: Mapping[str, Any]

    def outcome(self, row: Row) -> Attribution | Failure:
        """What became of a row. Raises errors that are of no row."""
        if row.problem:
            return Failure(row, CallerError(row.problem))
        try:
            found = self.model.attribute(row.input, row.generated, **{**self.arguments, **row.arguments})
        except ITS_OWN as error:
            return Failure(row, error)
        return replace(found, info={**found.info, "dataset_row": row.number, "dataset_key": row.key})


@dataclass(frozen=True)
class _Following:
    """Follows rows, and tells who wants to know."""

    on_failure: Callable[[Failure], None] | None
    progress: Callable[[Counts], None] | None

    def attributions(self, sender: _Sender, rows: Sequence[Row], in_flight: int) -> Iterator[Attribution]:
        """What comes of the rows, in their order."""
        started_s, failures = time.monotonic(), list[Failure]()
        for n_done, outcome in enumerate(_outcomes(sender, rows, in_flight), 1):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                self._tell(failures, n_done)
            else:
                yield outcome
            if self.progress is not None:
                self.progress(Counts(n_done, len(rows), len(failures), time.monotonic() - started_s))

    def _tell(self, failures: Sequence[Failure], n_done: int) -> None:
        last = failures[-1]
        if self.on_failure is None:
            raise last.error
        self.on_failure(last)
        words = {(type(one.error), one.error.message) for one in failures}
        if len(failures) == n_done == N_ALIKE and len(words) == 1:
            raise last.error


def _outcomes(sender: _Sender, rows: Sequence[Row], in_flight: int) -> Iterator[Attribution | Failure]:
    executor = ThreadPoolExecutor(in_flight, thread_name_prefix="attribute-dataset")
    waiting: deque[Future[Attribution | Failure]] = deque()
    try:
        for row in rows:
            waiting.append(executor.submit(sender.outcome, row))
            # more than are under way, so that those behind a slow row need not wait for it
            if len(waiting) == 4 * in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # also when the caller wants no more of them; what is under way ends with its client
        executor.shutdown(wait=False, cancel_futures=True)


def _as_row(number: int, row: Row | str | tuple[Any, ...]) -> Row:
    if isinstance(row, Row):
        return row
    return Row(number, *row) if isinstance(row, tuple) else Row(number, row)
