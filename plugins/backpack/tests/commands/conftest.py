"""The command line on a tiny Backpack that is loaded once."""

import json
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from backpack_tests.tiny import tiny_backpack

import interpd_client
from interpd_backpack import worker
from interpd_backpack.commands import COMMANDS

# the package has a function of the module's name
command_line = sys.modules["interpd.cli.main"]


@pytest.fixture(scope="package")
def model():
    """A tiny random Backpack."""
    with interpd_client.local(tiny_backpack(), plugins={"backpack": worker}, name="tiny", progress=False) as client:
        yield client.model("tiny")


@pytest.fixture(scope="package")
def parser():
    """The parser of the command line, which takes longer to make than most commands here take."""
    return command_line.make_parser(["backpack"])


@pytest.fixture
def line(capsys, parser, monkeypatch):
    """The command line ``interpd backpack``: what a command said, and its exit code."""
    monkeypatch.setattr(command_line, "make_parser", lambda argv: parser)

    def line(*argv):
        try:
            code = command_line.main(["backpack", *(str(one) for one in argv)])
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return line


@pytest.fixture
def ask(line, model, monkeypatch):
    """The command line on the model; it must work and say nothing else. With ``--json`` the document."""

    @contextmanager
    def opened(args, **_):
        yield model

    for command in COMMANDS:
        if hasattr(command, "opened"):
            monkeypatch.setattr(command, "opened", opened)

    def ask(*argv, code=0):
        found = line(*argv)
        assert found.code == code, found.err
        return json.loads(found.out) if "--json" in argv else found.out

    return ask


@pytest.fixture
def written(tmp_path):
    """Writes a file and gives its path."""

    def written(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return written


@pytest.fixture
def records(written):
    """Writes a file of JSON Lines and gives its path."""
    return lambda name, rows: written(name, "".join(json.dumps(row) + "\n" for row in rows))
