"""Every block of the README runs, in order, on the bundled models."""

import re
import tempfile
from pathlib import Path

import pytest

import interpd_client

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language):
    found = re.finditer(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return [(TEXT[: block.start(1)].count("\n"), block.group(1)) for block in found]


@pytest.fixture
def in_force(monkeypatch, tmp_path):
    """Blocks run in a folder of their own; models that they load into the process are let go of at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    clients = []
    local = interpd_client.local

    def kept(*models, **options):
        clients.append(local(*models, **options))
        return clients[-1]

    monkeypatch.setattr(interpd_client, "local", kept)
    yield {}
    for client in clients:
        client.close()


@pytest.mark.slow
def test_the_readme_runs(in_force, capsys):
    for first_line, code in blocks("python"):
        exec(compile("\n" * first_line + code, str(README), "exec"), in_force)
        if first_line == blocks("python")[0][0]:
            printed = [line for line in capsys.readouterr().out.split("\n") if "─" not in line]
            assert " ".join(printed).split() == blocks("text")[0][1].split()
