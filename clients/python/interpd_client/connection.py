"""A transport with the client's manners: patience where the service asks for it, and memory of what it uploaded."""

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from interpd.errors import DeadlineExceeded, Unavailable
from interpd.graph.types import TensorData
from interpd_client.waiting import Blocking, Waits

LONGEST_WAIT_S = 15.0
"""Upper bound on one wait before trying again, whatever the service asks for."""


@dataclass(slots=True)
class Connection:
    """What all models and runs of one client share. Whoever may use its transport may use it."""

    transport: Any
    """A ``Transport``, or that of ``interpd_client.aio``; whose calls ``waits`` knows to wait for."""
    timeout_s: float | None = None
    """Bound on each call that names none."""
    n_retries: int = 3
    progress: bool | None = None
    """Whether runs show progress; ``None``: where somebody looks."""
    waits: Waits = field(default_factory=Blocking)
    _uploaded: set[tuple[str, str]] = field(default_factory=set)
    _uploading: AbstractAsyncContextManager[None] = field(init=False)

    def __post_init__(self) -> None:
        self._uploading = self.waits.lock()

    async def ask(self, method: str, *args: object) -> Any:
        """What ``method`` of the transport answers within ``timeout_s``, tried again while the service says when to."""
        return await self.ask_within(self.timeout_s, method, *args)

    async def ask_within(self, timeout_s: float | None, method: str, *args: object) -> Any:
        """The same, with a bound of its own on each try."""
        for attempt in range(self.n_retries + 1):
            try:
                return await self.waits.call(getattr(self.transport, method), *args, timeout_s)
            except Unavailable as error:
                if attempt == self.n_retries or not may_retry(error):
                    raise
                await self.wait(error)
        raise AssertionError("the last attempt returns or raises")

    async def wait(self, error: Unavailable, deadline_s: float | None = None) -> None:
        """Waits as long as the service asked. Raises ``error`` when the deadline would pass meanwhile."""
        wait_s = min(error.retry_after_s, LONGEST_WAIT_S)
        if deadline_s is not None and time.time() + wait_s >= deadline_s:
            raise error
        await self.waits.sleep(wait_s)

    async def upload(self, model: str, blobs: Mapping[str, TensorData]) -> None:
        """Sends those constants that the workers of ``model`` do not have yet, each once."""
        if all(self._has(model, digest) for digest in blobs):
            return
        # one at a time: who needs the same constant waits for it instead of sending it again
        async with self._uploading:
            for digest, tensor in blobs.items():
                if not self._has(model, digest):
                    await self.ask("put_blob", model, digest, tensor)
                    self._uploaded.add((model, digest))

    def forget(self, model: str, digests: Iterable[str]) -> None:
        """Takes it that the workers lost these constants (a restarted worker has none)."""
        for digest in digests:
            self._uploaded.discard((model, digest))
            self._uploaded.discard(("", digest))

    def _has(self, model: str, digest: str) -> bool:
        return (model, digest) in self._uploaded or ("", digest) in self._uploaded


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
