import pytest

from interpd.testing.bench import Bench

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
