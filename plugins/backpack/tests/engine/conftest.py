"""A tiny Backpack in double precision, in an engine that is stepped by hand."""

import pytest
import torch
from backpack_tests.tiny import tiny_backpack

import interpd_backpack.worker
import interpd_client
from interpd.testing.bench import Bench
from interpd.testing.in_process import InProcessModel
from interpd.testing.tiny_models import TinyModel

PLUGINS = {"backpack": interpd_backpack.worker}


@pytest.fixture(scope="session")
def bench():
    """The engine and the model."""
    torch.set_num_threads(1)
    model, tokenizer = tiny_backpack(torch.float64)
    with InProcessModel(PLUGINS, TinyModel(model, tokenizer, None)) as in_process:
        yield Bench(in_process.engine, model)


@pytest.fixture(scope="session")
def model():
    """The same as a client has it, with interpd's attributions."""
    attribution = pytest.importorskip("interpd_attribution.worker")
    with interpd_client.local(tiny_backpack(torch.float64), plugins={**PLUGINS, "attribution": attribution}) as client:
        yield client.model("backpack")
