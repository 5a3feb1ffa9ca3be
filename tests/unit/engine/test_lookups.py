"""Modules that take token ids: embeddings, and what a site table declares."""

import pytest
import torch
from side_reader import reader_bench

from interpd.engine.blame import Misuse
from interpd.engine.session import EngineSession
from interpd.errors import OpFailed
from interpd.graph.ir import Ref
from interpd.graph.types import TensorData
from interpd.testing.bench import ask, call, read

PROMPT = "The cat"


@pytest.fixture(scope="module")
def bench():
    return reader_bench()


@pytest.fixture
def session(bench):
    return EngineSession(bench.engine._access, lambda request: {})


def looked_up(module, *ids):
    source = [call("tokens.ids")] if not ids else []
    value = Ref(0) if not ids else TensorData.from_numpy(torch.tensor(ids).numpy())
    return ask([*source, call("module.call", value, module=module)], {"x": len(source)}, PROMPT)


@pytest.mark.parametrize("module", ["transformer.wte", "by_id"])
def test_ids_become_vectors(bench, module):
    expected = bench.model.get_submodule(module)(bench.ids(PROMPT))
    assert torch.equal(torch.tensor(bench.run(looked_up(module))["x"]), expected)
    assert bench.run(looked_up(module, 3, 1))["x"].shape == (2, expected.shape[-1])


def test_the_manifest_says_how_many_ids_and_what_comes_of_them(bench):
    modules = bench.engine.describe().modules
    assert (modules["by_id"].n_ids, modules["by_id"].appends) == (321, (("d_model", 24),))
    assert modules["transformer.wpe"].n_ids == 64
    assert modules["lm_head"].n_ids is None


def test_ids_that_it_does_not_know_are_refused_before_they_index_anything(bench, session):
    failed = bench.run(looked_up("by_id", 3, 321)).error
    assert "'by_id' knows the token ids 0..320, got 321" in failed.message
    with pytest.raises(Misuse, match=r"0\.\.320, got -1"):
        session.call("by_id", torch.tensor([-1]))


def test_activations_are_refused_where_ids_are_wanted(bench, session):
    request = ask([read("embed"), call("module.call", Ref(0), module="by_id")], {"x": 1}, PROMPT)
    assert "wants token ids, int64, for module 'by_id' (ById), got float64" in bench.run(request).error.message
    with pytest.raises(Misuse, match="takes token ids, int64, got float32"):
        session.call("transformer.wte", torch.zeros(3))


def test_methods_call_them_too(bench, session):
    ids = torch.tensor([[3], [5]])
    assert torch.equal(session.call("by_id", ids), bench.model.by_id(ids))


def test_a_weight_can_be_read_without_a_copy(bench, session):
    weight = session.parameter("lm_head.weight", copy=False)
    assert weight.data_ptr() == bench.model.lm_head.weight.data_ptr()
    assert not weight.requires_grad
    assert session.parameter("lm_head.weight").data_ptr() != weight.data_ptr()


def test_writing_to_it_is_noticed(bench, session):
    access = bench.engine._access
    with (
        pytest.raises(OpFailed, match=r"changed the model's weights in place: 'transformer.wte.weight'"),
        access.weights.watched("run", "method 'm@1'"),
    ):
        session.parameter("transformer.wte.weight", copy=False).add_(0)
    access.weights._blame = None
