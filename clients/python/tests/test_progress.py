"""The progress line, on a screen that remembers."""

import sys
from types import SimpleNamespace

import pytest

from interpd.graph.run import Progress, Queued, Result, Started, TokenGenerated
from interpd.graph.types import TensorData
from interpd_client.progress import Notebook, ProgressLine, Terminal, find_screen


class Remembering:
    def __init__(self):
        self.lines = []

    def draw(self, text):
        self.lines.append(text)

    def clear(self):
        self.lines.append("")


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Queued("r", 2, "waiting for a worker"), "queued: 2 before it, waiting for a worker"),
        (Queued("r", 0, "model is loading"), "queued: model is loading"),
        (Started("r", ()), "running"),
        (Progress("r", 3, 10, "training"), "running 3 of 10 training"),
        (Progress("r", 3, 0), "running 3"),
        (TokenGenerated("r", 0, 0, 1, "x"), "1 tokens"),
        (Result("r", "hidden", TensorData("bool", (0,), b"")), "receiving 'hidden'"),
    ],
)
def test_each_event_has_its_words(event, text):
    screen = Remembering()
    with ProgressLine(screen=screen, delay_s=60.0) as line:
        line.show(event)
        line._begin()
    assert screen.lines == [f"interpd: {text}", ""]


def test_short_runs_show_nothing():
    screen = Remembering()
    with ProgressLine(screen=screen, delay_s=60.0) as line:
        line.show(Started("r", ()))
    assert screen.lines == []


def test_long_runs_are_redrawn_at_most_ten_times_a_second():
    screen = Remembering()
    with ProgressLine(screen=screen, delay_s=60.0) as line:
        line._begin()
        for done in range(100):
            line.show(Progress("r", done, 100))
    assert len(screen.lines) < 10


def test_of_several_runs_one_is_shown():
    first, second, third = Remembering(), Remembering(), Remembering()
    with ProgressLine(screen=first, delay_s=60.0) as one:
        one._begin()
        with ProgressLine(screen=second, delay_s=60.0) as other:
            other._begin()
            other.show(Started("r", ()))
    with ProgressLine(screen=third, delay_s=60.0) as later:
        later._begin()
    assert (len(first.lines), len(second.lines), len(third.lines)) == (2, 0, 2)


def test_nobody_looks_at_a_file():
    assert find_screen(None) is None
    assert find_screen(False) is None
    assert isinstance(find_screen(True), Terminal)


def test_a_terminal_line_is_written_over(capsys):
    terminal = Terminal()
    terminal.draw("running")
    terminal.clear()
    assert capsys.readouterr().err == "\r\x1b[2Krunning\r\x1b[2K"


def test_a_notebook_updates_one_output(monkeypatch):
    shown = []
    handle = SimpleNamespace(update=lambda data, raw: shown.append(("update", data["text/plain"])))

    def display(data, raw, display_id):
        shown.append(("display", data["text/plain"]))
        return handle

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    screen = find_screen(None)
    assert isinstance(screen, Notebook)
    screen.draw("queued")
    screen.draw("running")
    assert shown == [("display", "queued"), ("update", "running")]
