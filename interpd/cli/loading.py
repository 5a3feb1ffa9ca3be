"""How far the loading of a model is, on a terminal, while a command waits for it."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from interpd.errors import InterpdError

if TYPE_CHECKING:
    from interpd_client import Client

LOOK_S = 1.0
"""Time between two questions."""


@contextmanager
def progress_shown(client: "Client", *, always: bool = False) -> Iterator[None]:
    """Writes to standard error what models that load are doing, each time that it changes, while the block lasts.

    ``always``: also where standard error is no terminal.
    """
    if not (always or sys.stderr.isatty()):
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(client, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LOOK_S)


def _show(client: "Client", ended: threading.Event) -> None:
    shown = ""
    while not ended.wait(LOOK_S):
        try:
            lines = [f"{model.name}: {model.detail}" for model in client.models() if model.state == "loading"]
        except InterpdError:
            # the command itself says what is wrong
            return
        text = "; ".join(lines)
        if text != shown:
            sys.stderr.write(f"{text}\n" if text else "")
            sys.stderr.flush()
            shown = text
