"""A transport with the client's manners: patience where the service asks for it, and memory of what it uploaded."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from interpd.errors import DeadlineExceeded, Unavailable
from interpd.graph.types import TensorData
from interpd_client.transport import Transport

_T = TypeVar("_T")

LONGEST_WAIT_S = 15.0
"""Upper bound on one wait before trying again, whatever the service asks for."""


@dataclass(slots=True)
class Connection:
    """What all models and runs of one client share. Any thread may use it."""

    transport: Transport
    timeout_s: float | None = None
    """Bound on each call that names none."""
    n_retries: int = 3
    progress: bool | None = None
    """Whether runs show progress; ``None``: where somebody looks."""
    sleep: Callable[[float], None] = time.sleep
    _uploaded: set[tuple[str, str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, call: Callable[[], _T]) -> _T:
        """What ``call`` returns, tried again while the service says when to."""
        for attempt in range(self.n_retries + 1):
            try:
                return call()
            except Unavailable as error:
                if attempt == self.n_retries or not may_retry(error):
                    raise
                self.wait(error)
        raise AssertionError("the last attempt returns or raises")

    def wait(self, error: Unavailable, deadline_s: float | None = None) -> None:
        """Waits as long as the service asked. Raises ``error`` when the deadline would pass meanwhile."""
        wait_s = min(error.retry_after_s, LONGEST_WAIT_S)
        if deadline_s is not None and time.time() + wait_s >= deadline_s:
            raise error
        self.sleep(wait_s)

    def upload(self, model: str, blobs: Mapping[str, TensorData]) -> None:
        """Sends those constants that the workers of ``model`` do not have yet."""
        for digest, tensor in blobs.items():
            with self._lock:
                known = (model, digest) in self._uploaded or ("", digest) in self._uploaded
            if not known:
                self.ask(lambda digest=digest, tensor=tensor: self._put(model, digest, tensor))
                with self._lock:
                    self._uploaded.add((model, digest))

    def forget(self, model: str, digests: Iterable[str]) -> None:
        """Takes it that the workers lost these constants (a restarted worker has none)."""
        with self._lock:
            for digest in digests:
                self._uploaded -= {(model, digest), ("", digest)}

    def _put(self, model: str, digest: str, tensor: TensorData) -> None:
        self.transport.put_blob(model, digest, tensor, self.timeout_s)


def may_retry(error: Unavailable) -> bool:
    """Whether the service answered and asked for patience; a service that did not answer asked for nothing."""
    return type(error) is not Unavailable


def remaining_s(deadline_s: float | None) -> float | None:
    """Seconds until a deadline on the Unix clock. Raises ``DeadlineExceeded`` when it has passed."""
    if deadline_s is None:
        return None
    left_s = deadline_s - time.time()
    if left_s <= 0:
        raise DeadlineExceeded("the deadline passed before the run could be sent again; give it more timeout_s")
    return left_s
