"""Resident tiny models, made once, and a module of the tests made importable."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

# import mode importlib gives test modules no package to import from
_spec = importlib.util.spec_from_file_location("side_reader", Path(__file__).with_name("side_reader.py"))
sys.modules["side_reader"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["side_reader"])


@cache
def _resident(architecture):
    from interpd.config import ModelSpec
    from interpd.engine.resident import Loaded, make_resident
    from interpd.testing.tiny_models import tiny_model

    tiny = tiny_model(architecture)
    model = tiny.model.requires_grad_(False)
    return make_resident(Loaded(model, tiny.tokenizer, ModelSpec(f"tiny/{architecture}"), "sha256:tiny"))


@pytest.fixture
def residents():
    """Makes (once) the resident tiny model of an architecture; gives it back with its own attention."""
    made = set()

    def resident(architecture):
        made.add(architecture)
        return _resident(architecture)

    yield resident
    for architecture in made:
        _resident(architecture).attention.set(False)
