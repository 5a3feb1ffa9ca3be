"""Fixtures of the Backpack plugin's tests."""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# import mode importlib gives test modules no package to import from: ``from backpack_tests.tiny import tiny_backpack``
_package = importlib.machinery.ModuleSpec("backpack_tests", None, is_package=True)
_package.submodule_search_locations = [str(HERE)]
sys.modules.setdefault("backpack_tests", importlib.util.module_from_spec(_package))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the golden numbers, which is not part of this repository."""
    folder = Path(os.environ.get("INTERPD_SHARED", HERE.parents[3] / "shared"))
    if not (folder / "oracles").is_dir():
        reason = f"no golden numbers at {folder}; set INTERPD_SHARED"
        if os.environ.get("INTERPD_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
