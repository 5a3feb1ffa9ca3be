"""Benches on tiny models; makes the families written out in plain torch importable."""

import importlib.util
import sys
from pathlib import Path

import pytest

from interpd.graph.ir import Ref, Slice
from interpd.testing.bench import Bench, call, read


def _load(name):
    # import mode importlib gives test modules no package to import from
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_load("written_out")
_load("two_stacks_written_out")

ARCHITECTURES = ("gpt2", "llama")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def bench(request):
    return Bench.tiny(request.param)


@pytest.fixture(scope="session", params=ARCHITECTURES)
def exact_bench(request):
    import torch

    return Bench.tiny(request.param, dtype=torch.float64)


@pytest.fixture(scope="session")
def gpt2():
    return Bench.tiny("gpt2")


@pytest.fixture
def own_log_probability():
    """Nodes of a graph, the last of which is the log-probability of a prompt's own tokens, all but the first."""
    return [
        read("logits"),
        call("torch.log_softmax", Ref(0), dim=-1),
        call("tensor.getitem", Ref(1), (Slice(), Slice(None, -1))),
        call("tokens.ids"),
        call("tensor.getitem", Ref(3), (Slice(), Slice(1, None), None)),
        call("torch.take_along_dim", Ref(2), Ref(4), dim=-1),
        call("torch.sum", Ref(5)),
    ]
