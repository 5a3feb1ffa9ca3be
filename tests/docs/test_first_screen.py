"""The README's first screen: the daemon is started as it says, and its example runs against it."""

import shlex

import pytest
from docs_pages import ROOT, blocks

from interpd.testing.daemon_process import DaemonProcess

pytestmark = pytest.mark.ray


def serve_arguments():
    """What the README types to start a daemon, but on any free port."""
    lines = [line for block in blocks("README.md", "sh") for line in block.code.splitlines() if "interpd serve" in line]
    words = shlex.split(lines[0])
    words[words.index("--port") + 1] = "0"
    return ["interpd", *words[1:]]


def test_the_first_screen_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    with DaemonProcess(*serve_arguments()) as daemon:
        for block in blocks("README.md"):
            code = block.code.replace("localhost:7700", daemon.address)
            exec(compile("\n" * block.line + code, "README.md", "exec"), {})
        shown = [block.code for block in blocks("README.md", "text")]
        assert capsys.readouterr().out.strip() == shown[-1].strip()
    assert daemon.stop() == 0
