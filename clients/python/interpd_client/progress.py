"""What a run is doing, in one line that is written over: in terminals and in notebooks."""

import sys
import threading
import time
from types import TracebackType
from typing import Any, Protocol, Self, final

from interpd.graph.run import Event, Progress, Queued, Result, Started, TokenGenerated

DELAY_S = 0.5
"""Shorter runs show nothing."""
REDRAW_S = 0.1


class Screen(Protocol):
    """Where a line can be shown and replaced."""

    def draw(self, text: str) -> None:
        """Shows ``text`` in the place of what was shown before."""

    def clear(self) -> None:
        """Takes the line away."""


@final
class Terminal:
    """The line of a terminal's standard error."""

    def draw(self, text: str) -> None:
        """Shows ``text`` in the place of what was shown before."""
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Takes the line away."""
        self.draw("")


@final
class Notebook:
    """One output of a notebook cell."""

    def __init__(self, display: Any) -> None:
        self._show = display.display
        self._handle: Any = None

    def draw(self, text: str) -> None:
        """Shows ``text`` in the place of what was shown before."""
        data = {"text/plain": text}
        if self._handle is None:
            self._handle = self._show(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def clear(self) -> None:
        """Takes the line away."""
        self.draw("")


def find_screen(wanted: bool | None) -> Screen | None:
    """Where to show progress: a notebook, else a terminal; ``None`` where nobody looks or nobody wants it."""
    if wanted is False:
        return None
    # imported by the notebook itself, or there is none
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        return Notebook(sys.modules["IPython.display"])
    return Terminal() if wanted or sys.stderr.isatty() else None


_shown = threading.Lock()
"""Held by the run whose line is shown: those of several at once would write over each other."""


@final
class ProgressLine:
    """Shows the last event of a run, once it has lasted longer than ``DELAY_S`` and no other run is shown."""

    def __init__(self, wanted: bool | None = None, screen: Screen | None = None, delay_s: float = DELAY_S) -> None:
        self._screen = screen or find_screen(wanted)
        self._text = "sent"
        self._n_tokens = 0
        self._drawn_s = 0.0
        self._is_due = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(delay_s, self._begin)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if self._screen is not None:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            if self._screen is not None and self._is_due:
                self._screen.clear()
                _shown.release()
            self._screen = None

    def show(self, event: Event) -> None:
        """Takes ``event`` as what the run is doing now."""
        self._n_tokens += isinstance(event, TokenGenerated)
        with self._lock:
            self._text = self._described(event) or self._text
            if self._is_due and time.monotonic() - self._drawn_s > REDRAW_S:
                self._draw()

    def _begin(self) -> None:
        with self._lock:
            self._is_due = self._screen is not None and _shown.acquire(blocking=False)
            if self._is_due:
                self._draw()

    def _draw(self) -> None:
        self._drawn_s = time.monotonic()
        if self._screen is not None:
            self._screen.draw(f"interpd: {self._text}")

    def _described(self, event: Event) -> str:
        match event:
            case Queued():
                before = f"{event.position} before it, " if event.position else ""
                return f"queued: {before}{event.reason}"
            case Started():
                return "running"
            case Progress():
                share = f" {event.done:g}" + (f" of {event.total:g}" if event.total else "")
                return f"running{share} {event.message}".rstrip()
            case TokenGenerated():
                return f"{self._n_tokens} tokens"
            case Result():
                return f"receiving {event.name!r}"
            case _:
                return ""
