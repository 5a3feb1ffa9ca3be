"""The parity matrix is what the code says, is complete, and names tests that exist."""

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest

from interpd_attribution.inseq_words import METHODS

HERE = Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location("attribution_parity", HERE / "parity.py")
parity = importlib.util.module_from_spec(_spec)
sys.modules["attribution_parity"] = parity
_spec.loader.exec_module(parity)


@cache
def named_in(file):
    """The names of the tests of a file."""
    tree = ast.parse((HERE / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"}


def test_the_page_is_what_the_code_says():
    assert parity.PAGE.read_text() == parity.page(), "run python plugins/attribution/tests/parity.py"


def test_each_cell_names_a_test_that_exists_or_says_why_there_is_none():
    for cell in parity.cells():
        if not cell.test:
            assert cell.note, cell
            continue
        file, _, name = cell.test.partition("::")
        assert name in named_in(file), cell


def test_no_cell_is_there_twice():
    told = [(cell.item, cell.what) for cell in parity.cells()]
    assert len(told) == len(set(told))


def test_every_method_has_a_cell():
    known = {one.id for one in METHODS.values()} | set(parity.BEYOND)
    assert parity.ours() == known


@pytest.mark.parametrize("item", [f"P-{n:02d}" for n in range(1, 16)] + [f"B-{n:02d}" for n in (*range(1, 10), 11, 12)])
def test_every_item_of_the_list_has_cells(item):
    assert any(cell.item == item for cell in parity.cells())
