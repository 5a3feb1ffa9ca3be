"""Passes of methods that begin between two blocks."""

from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.errors import OpFailed
from interpd.graph.ir import Ref
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import Begin, hookimpl, method
from interpd.testing.bench import Bench, ask, call, read, write

PROMPT = "The cat sat"
Stream = Float[Tensor, "batch pos d_model"]
BLOCKS = tuple(f"layers.{layer}.resid_post" for layer in range(3))


@method("cuts.known")
def known(ctx) -> Float[Tensor, " site"]:
    """Which of the blocks passes may begin behind."""
    return torch.tensor([float(site in ctx.session.cuts()) for site in BLOCKS])


@method("cuts.rest")
def rest(ctx, *, site: str, factor: float = 1.0, other: str = "") -> Stream:
    """The logits of a pass that begins at a site, with what is there otherwise, times a factor."""
    stream = ctx.session.forward(ctx.input_ids, reads=[site])[site]
    edits = {site: Begin(stream * factor)} | ({other: Begin(stream)} if other else {})
    return ctx.session.forward(ctx.input_ids, reads=["logits"], edits=edits)["logits"]


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def bench(request):
    plugin = ModuleType("cuts_plugin")

    def interpd_register_methods():
        return [known, rest]

    plugin.interpd_register_methods = hookimpl(interpd_register_methods)
    registry = load_registry(["cuts"], candidates=[built_in(), candidate_of(plugin, "cuts")])
    return Bench.tiny(request.param, registry=registry)


def plain(bench):
    return bench.model(bench.ids(PROMPT)).logits.detach().numpy()


@pytest.mark.parametrize("site", BLOCKS)
def test_a_pass_that_begins_with_what_was_there_ends_as_the_whole_one(bench, site):
    np.testing.assert_array_equal(bench.run(ask([call("cuts.rest", site=site)], {"x": 0}, PROMPT))["x"], plain(bench))


def test_it_begins_with_what_it_is_given(bench):
    found = bench.run(ask([call("cuts.rest", site=BLOCKS[1], factor=3.0)], {"x": 0}, PROMPT))["x"]
    assert np.abs(found - plain(bench)).max() > 1e-3


def test_blocks_before_the_beginning_are_not_computed(bench):
    names = [name for name, _ in bench.model.named_modules() if name.endswith((".attn", ".self_attn"))]
    ran = []
    hooks = [
        bench.model.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name)) for name in names
    ]
    bench.run(ask([call("cuts.rest", site=BLOCKS[1])], {"x": 0}, PROMPT))
    for hook in hooks:
        hook.remove()
    # first the pass that finds the stream, which ends there; then that which begins there
    assert ran == [names[0], names[1], names[2]]


def test_writes_before_the_beginning_are_in_the_stream_and_those_behind_it_in_force(bench):
    # factors: a write that came twice or not at all would be seen
    nodes = [read(BLOCKS[0]), call("torch.mul", Ref(0), 3.0), write(Ref(1), BLOCKS[0])]
    nodes += [read(BLOCKS[2]), call("torch.mul", Ref(3), 0.5), write(Ref(4), BLOCKS[2])]
    whole = bench.run(ask([*nodes, read("logits")], {"x": 6}, PROMPT))["x"]
    found = bench.run(ask([*nodes, call("cuts.rest", site=BLOCKS[1])], {"x": 6}, PROMPT))["x"]
    np.testing.assert_array_equal(found, whole)


def test_a_pass_cannot_begin_where_the_graph_leads_something_past(bench):
    nodes = [read("layers.0.mlp.out"), write(Ref(0), "layers.1.mlp.out")]
    assert bench.run(ask([*nodes, call("cuts.known")], {"x": 2}, PROMPT))["x"].tolist() == [0.0, 1.0, 1.0]
    error = bench.run(ask([*nodes, call("cuts.rest", site=BLOCKS[0])], {"x": 2}, PROMPT)).error
    assert type(error) is OpFailed
    assert f"a pass cannot begin at {BLOCKS[0]!r}; it can at one of cuts(values): {BLOCKS[1]}" in str(error)


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"site": "layers.0.mlp.out"}, "a pass cannot begin at 'layers.0.mlp.out'"),
        ({"site": BLOCKS[0], "other": BLOCKS[1]}, "a pass begins at one site, got"),
    ],
)
def test_a_pass_begins_at_one_site_between_blocks(bench, constants, message):
    error = bench.run(ask([call("cuts.rest", **constants)], {"x": 0}, PROMPT)).error
    assert type(error) is OpFailed
    assert message in str(error)
