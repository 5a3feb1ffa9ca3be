"""Work that would keep the event loop, and with it every other client, waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from interpd.errors import Overloaded

T = TypeVar("T")


class Aside:
    """One thread, and a line of bounded length before it.

    One, because the interpreter runs one at a time: more would take turns away from the event loop.

    Args:
        longest_line: Calls that may wait.
    """

    def __init__(self, longest_line: int) -> None:
        self._longest_line = longest_line
        self._n_inside = 0
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="interpd-aside")

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """What ``function`` returns. Raises ``Overloaded`` when too many wait already."""
        if self._n_inside > self._longest_line:
            raise Overloaded(f"{self._n_inside} large requests are being looked at; try again later")
        self._n_inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        finally:
            self._n_inside -= 1

    def close(self) -> None:
        """Gives up the thread, once it is done with what it is looking at."""
        self._threads.shutdown(wait=False)
