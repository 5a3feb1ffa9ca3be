"""Requests that were under way when a worker died.

Whoever loses a worker is told to try again, and so is the request that ended it. One that was there at several deaths
runs alone from then on: if the worker dies again it is known who did it, that request is refused for a while, and
nobody else was hurt. One that ends alone is cleared.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from interpd.errors import OpFailed
from interpd.graph.digest import graph_digest
from interpd.graph.run import RunRequest

N_DEATHS = 2
"""Deaths after which a request runs alone."""

REFUSED_S = 600.0
"""How long a request that ended its worker alone is refused."""

N_REMEMBERED = 4096

Key = tuple[str, str]


@dataclass(slots=True)
class _Record:
    n_deaths: int = 0
    refused_until: float = 0.0


class Suspects:
    """What is known about requests, by model and content.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: OrderedDict[Key, _Record] = OrderedDict()
        self._shapes: set[tuple[str, int]] = set()
        """Model and number of nodes of those in the records: what can be looked at before the digest is taken."""

    def refuse(self, request: RunRequest) -> None:
        """Raises ``OpFailed`` for a request that is known to end workers."""
        record = self._find(request)
        if record is not None and self._clock() < record.refused_until:
            left_s = record.refused_until - self._clock()
            raise OpFailed(
                f"this request has ended its worker {record.n_deaths} times, the last time alone; it is refused for "
                f"{left_s:.0f} s more: change it, or load the model again",
                model=request.model,
            )

    def must_be_alone(self, request: RunRequest) -> bool:
        """Whether nothing else may run beside it."""
        record = self._find(request)
        return record is not None and record.n_deaths >= N_DEATHS

    def note_death(self, request: RunRequest, *, was_alone: bool) -> OpFailed | None:
        """Takes a death of its worker into account; what it is told when it did it."""
        record = self._records.setdefault(_key(request), _Record())
        record.n_deaths += 1
        self._shapes.add(_shape(request))
        if len(self._records) > N_REMEMBERED:
            self._records.popitem(last=False)
        if not was_alone or record.n_deaths <= N_DEATHS:
            return None
        record.refused_until = self._clock() + REFUSED_S
        return OpFailed(
            f"the worker of model {request.model!r} died {record.n_deaths} times while it held this request, the last "
            "time with nothing beside it; do not send it again",
            model=request.model,
        )

    def clear(self, request: RunRequest) -> None:
        """Forgets a request that ended while its worker lived."""
        if self._find(request) is not None:
            del self._records[_key(request)]
        if not self._records:
            self._shapes.clear()

    def forget_model(self, model: str) -> None:
        """Forgets all requests of a model."""
        for key in [key for key in self._records if key[0] == model]:
            del self._records[key]

    def _find(self, request: RunRequest) -> _Record | None:
        # the digest of a large graph takes a while, and nearly nobody is ever suspected
        return self._records.get(_key(request)) if _shape(request) in self._shapes else None


def _shape(request: RunRequest) -> tuple[str, int]:
    return request.model, len(request.graph.nodes)


def _key(request: RunRequest) -> Key:
    return request.model, graph_digest(request.graph, request.prompts, request.generation)
