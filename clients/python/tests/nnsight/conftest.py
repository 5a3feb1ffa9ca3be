"""One model twice: with its weights in nnsight here, and behind a client. Blocks run on both and give the same."""

import warnings
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("nnsight") else ["test_*.py"]


@pytest.fixture(scope="module", autouse=True)
def as_users_have_it():
    """nnsight as in a user's process, where the engine has not imported it first: ``.save`` and ``.backward``."""
    import nnsight
    import torch
    from nnsight import _c
    from nnsight.intervention.backward import _backward

    plain = torch.Tensor.backward
    torch.Tensor.backward = _backward
    _c.mount(nnsight.save, "save")
    yield
    _c.unmount("save")
    torch.Tensor.backward = plain


class Bench:
    """A tiny random model of an architecture, local and served."""

    def __init__(self, architecture):
        from nnsight.modeling.transformers import TransformersModel

        import interpd_client as interpd
        from interpd.testing.tiny_models import tiny_model
        from interpd_client.nnsight import Backend

        tiny, served = tiny_model(architecture), tiny_model(architecture)
        self.client = interpd.local((served.model, served.tokenizer), name="facts", progress=False)
        self.tokenizer = tiny.tokenizer
        self.model = TransformersModel(tiny.model, tokenizer=tiny.tokenizer, task="text-generation")
        self.backend = Backend(self.client, "facts")

    def twice(self, block):
        """Runs a block locally and through the service; their results are equal."""
        import torch

        torch.manual_seed(0)
        local = block(self.model, None)
        torch.manual_seed(0)
        remote = block(self.model, self.backend)
        assert_same(local, remote)
        return remote

    @property
    def run(self):
        """The last run."""
        return self.backend.result.run_id


def assert_same(one, other, at="result"):
    """Equal numbers, shapes, dtypes and structure."""
    import torch

    if isinstance(one, torch.Tensor):
        assert type(other) in (torch.Tensor, torch.nn.Parameter), f"{at}: {other!r}"
        assert (one.shape, one.dtype) == (other.shape, other.dtype), at
        one, other = one.detach(), other.detach()
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5, msg=lambda text: f"{at}: {text}")
    elif isinstance(one, dict):
        assert list(one) == list(other), at
        for key in one:
            assert_same(one[key], other[key], f"{at}[{key!r}]")
    elif isinstance(one, (list, tuple)):
        assert type(one) is type(other), at
        assert len(one) == len(other), f"{at}: {len(one)} and {len(other)} items"
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{at}[{number}]")
    else:
        assert one == other, f"{at}: {one!r} and {other!r}"


def bench_of(architecture):
    with warnings.catch_warnings():
        # nnsight's own words about names that it calls deprecated
        warnings.simplefilter("ignore")
        return Bench(architecture)


@pytest.fixture(scope="module")
def gpt2():
    bench = bench_of("gpt2")
    yield bench
    bench.client.close()


@pytest.fixture(scope="module")
def llama():
    bench = bench_of("llama")
    yield bench
    bench.client.close()


@pytest.fixture(scope="module")
def opt():
    bench = bench_of("opt")
    yield bench
    bench.client.close()


@pytest.fixture
def twice(gpt2):
    return gpt2.twice
