"""The demonstration: what it shows, and that it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"

pytestmark = pytest.mark.ray


@pytest.fixture
def started():
    """A running demonstration in a session of its own, which the end of the test clears away."""
    # tests that were started in the background ignore interrupts, and so would what they start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    demo = subprocess.Popen([sys.executable, str(DEMO)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    yield demo
    if demo.poll() is None:
        os.killpg(demo.pid, signal.SIGKILL)
    demo.stdout.close()
    demo.wait()


def family(demo):
    return psutil.Process(demo.pid).children(recursive=True)


def still_alive(processes):
    return psutil.wait_procs(processes, timeout=20)[1]


def test_it_shows_the_five_things(started):
    shown, _ = started.communicate(timeout=180)
    assert started.returncode == 0
    for number in range(1, 6):
        assert f"\n{number}. " in shown
    assert "answer: Mirefield" in shown
    assert re.search(r"unsteered: .* Mirefield", shown)
    assert re.search(r"steered: .* Glimmer", shown)
    # who arrives too late for the first pass on a busy machine runs in the next one, perhaps alone
    assert int(re.search(r"(\d) of 8 requests shared a forward pass", shown).group(1)) >= 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupt_ends_everything_that_it_started(started, number):
    while not any("raylet" in " ".join(p.cmdline()) for p in family(started) if p.is_running()):
        time.sleep(0.2)
    processes = family(started)
    started.send_signal(number)
    started.communicate(timeout=60)
    assert started.returncode in (130, 143)
    assert still_alive(processes) == []
