"""A tiny Backpack in float64, in the engine and bare."""

import pytest
import torch
from backpack_tests.edits import bare
from backpack_tests.tiny import tiny_backpack

import interpd_client
from interpd_backpack import worker
from interpd_backpack.client import Backpack


@pytest.fixture(scope="session")
def plain():
    """The model by itself: what the engine's copy is compared with."""
    model, tokenizer = tiny_backpack(torch.float64)
    return bare.Bare(model, tokenizer)


@pytest.fixture(scope="session")
def served():
    """The same weights in the engine."""
    with interpd_client.local(tiny_backpack(torch.float64), plugins={"backpack": worker}) as client:
        yield client


@pytest.fixture
def model(served):
    (status,) = served.models()
    return served.model(status.name)


@pytest.fixture
def part(model):
    return Backpack(model)
