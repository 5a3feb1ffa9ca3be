"""Passes of methods against hooks and against the engine's own reads."""

from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.graph.ir import Ref
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import hookimpl, method
from interpd.testing.bench import Bench, ask, call, read, write

PROMPT = "The cat sat"
Stream = Float[Tensor, "batch pos d_model"]


@method("probe.ablated")
def ablated(ctx) -> Stream:
    """The stream after block 1 whose MLP adds nothing."""
    edits = {"layers.1.mlp.out": torch.zeros_like}
    return ctx.session.forward(ctx.input_ids, reads=["layers.1.resid_post"], edits=edits)["layers.1.resid_post"]


@method("probe.slope")
def slope(ctx) -> Stream:
    """The gradient of the sum of the stream after block 1 by what its MLP adds."""
    values = ctx.session.forward(ctx.input_ids, reads=["layers.1.mlp.out", "layers.1.resid_post"], grad=True)
    return torch.autograd.grad(values["layers.1.resid_post"].sum(), values["layers.1.mlp.out"])[0]


@method("probe.wrong")
def wrong(ctx, *, how: str) -> Stream:
    """A pass that cannot be."""
    n = ctx.input_ids.shape[1]
    ids, lengths = {
        "vocabulary": (ctx.input_ids + 100_000, None),
        "rows": (ctx.input_ids, [n, n]),
        "length": (ctx.input_ids, [n + 1]),
        "positions": (ctx.input_ids.repeat(1, 100), None),
    }[how]
    return ctx.session.forward(ids, reads=["embed"], lengths=lengths)["embed"]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def bench(request):
    module = ModuleType("probe")
    module.interpd_register_methods = hookimpl(lambda: [ablated, slope, wrong])
    module.interpd_register_methods.__name__ = "interpd_register_methods"
    registry = load_registry(["probe"], candidates=[built_in(), candidate_of(module, "probe")])
    return Bench.tiny(request.param, registry=registry)


def under_a_write_between_the_branches(op):
    site = "layers.1.resid_mid"
    return [read(site), call("torch.mul", Ref(0), 2.0), write(Ref(1), site), call(op)]


def test_an_edit_of_the_branch_reaches_the_sum_under_a_write_of_the_graph(bench):
    nodes = under_a_write_between_the_branches("probe.ablated")
    result = bench.run(ask(nodes, {"written": 1, "total": 3}, PROMPT))
    assert np.array_equal(result["total"], result["written"])


def test_a_gradient_by_the_branch_is_taken_under_a_write_of_the_graph(bench):
    nodes = under_a_write_between_the_branches("probe.slope")
    assert (bench.run(ask(nodes, {"slope": 3}, PROMPT))["slope"] == 1).all()


@pytest.mark.parametrize("how", ["vocabulary", "rows", "length", "positions"])
def test_a_pass_that_the_model_cannot_take_is_refused_before_it_runs(bench, how):
    error = bench.run(ask([call("probe.wrong", how=how)], {"out": 0}, PROMPT)).error
    expected = {"vocabulary": "vocabulary of", "rows": "lengths", "length": "lengths", "positions": "at most 64"}[how]
    assert expected in str(error)
