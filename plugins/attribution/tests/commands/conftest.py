"""The command line on tiny models that are loaded once."""

from contextlib import contextmanager

import pytest
from attribution_golden import tiny

import interpd_client
from interpd.cli import main
from interpd_attribution import worker
from interpd_attribution.commands import attribute, attribute_dataset

TEXT = "the cat sat"
CONTINUATION = " on the mat"
SHORT = ("--max-new-tokens", "3")


def served(name):
    plugins = {"attribution": worker}
    with interpd_client.local((tiny.model(name), tiny.tokenizer(name)), plugins=plugins, name=name) as client:
        yield client.model(name)


@pytest.fixture(scope="package")
def gpt2():
    """A decoder-only model."""
    yield from served("tiny-gpt2")


@pytest.fixture(scope="package")
def t5():
    """An encoder-decoder model."""
    yield from served("tiny-t5")


class Line:
    """The command line, on a model that is there already."""

    def __init__(self, capsys):
        self._capsys = capsys

    def __call__(self, *argv):
        """The exit code, standard output and standard error of a command."""
        code = main([str(word) for word in argv])
        out, err = self._capsys.readouterr()
        return code, out, err


@pytest.fixture
def line(capsys):
    """The command line as it is."""
    return Line(capsys)


def on(model, monkeypatch, capsys):
    @contextmanager
    def opened(args):
        yield model

    for command in (attribute, attribute_dataset):
        monkeypatch.setattr(command, "opened", opened)
    return Line(capsys)


@pytest.fixture
def line_gpt2(gpt2, monkeypatch, capsys):
    """The command line on the decoder-only model."""
    return on(gpt2, monkeypatch, capsys)


@pytest.fixture
def line_t5(t5, monkeypatch, capsys):
    """The command line on the encoder-decoder model."""
    return on(t5, monkeypatch, capsys)
