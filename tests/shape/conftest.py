"""The parsed source of the product, once for all shape tests."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _source_module():
    # import mode importlib gives test modules no package to import from
    spec = importlib.util.spec_from_file_location("shape_source", Path(__file__).with_name("source.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["shape_source"] = module
    spec.loader.exec_module(module)
    return module


source = _source_module()


@pytest.fixture(scope="session")
def sources():
    return source.product()


@pytest.fixture(scope="session")
def functions(sources):
    return [(item.path, function) for item in sources for function in item.functions()]
