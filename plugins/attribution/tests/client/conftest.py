"""Tiny models whose client has ``model.attribute``."""

import importlib.util
import sys
from pathlib import Path

import pytest

# the worlds of the workers' tests; import mode importlib gives test modules no package to import from
_spec = importlib.util.spec_from_file_location(
    "attribution_worlds", Path(__file__).parents[1] / "worker" / "conftest.py"
)
_worlds = importlib.util.module_from_spec(_spec)
sys.modules["attribution_worlds"] = _worlds
_spec.loader.exec_module(_worlds)


@pytest.fixture(scope="package")
def gpt2():
    """A decoder-only model."""
    yield from _worlds.make_world("gpt2")


@pytest.fixture(scope="package")
def llama():
    """One whose tokenizer adds a beginning."""
    yield from _worlds.make_world("llama")


@pytest.fixture(scope="package")
def t5():
    """An encoder-decoder model."""
    yield from _worlds.make_world("t5")
