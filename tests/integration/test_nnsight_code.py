"""Existing nnsight code against the real daemon, from a process of its own, as its users run it."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nnsight_code.py"

pytestmark = pytest.mark.ray


def test_the_example_gives_the_same_here_and_through_the_daemon(lab):
    pytest.importorskip("nnsight", reason="an optional dependency of the client")
    command = [sys.executable, str(EXAMPLE), lab.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    blocks = [line.partition(":")[0] for line in lines]
    assert blocks[:-1] == ["logit_lens", "patching", "steering", "attribution", "exchange"]
    assert lines[1] == "patching: Glimmer"
    assert lines[-1].endswith("gave the same here")
