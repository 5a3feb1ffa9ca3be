"""A value that a method has computed anew for the prompt's own tokens is the value of the graph, whatever the graph is.

A failing seed is reproduced by ``compare(make_bench(architecture), seed)``.
"""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from company import DOUBLE, SINGLE
from jaxtyping import Float
from random_requests import RandomRequest
from torch import Tensor

from interpd.errors import InterpdError
from interpd.graph.check import check
from interpd.graph.ir import Graph, Node, Ref
from interpd.graph.run import Lengths
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import MethodContext, Recomputed, hookimpl, method
from interpd.testing.bench import Bench

EXACT = ("gpt2", "pegasus")
"""The softmax is in the dtype of the model, in eager attention, too."""
MOST = 6
"""Values of one request that are looked at."""


@method("again.values")
def values(
    ctx: MethodContext, target: Recomputed[Float[Tensor, "..."]], *, edits: tuple[str, ...] = ()
) -> Float[Tensor, "..."]:
    """The target in the second of two rows of the prompt; sites are put back as they are."""
    sides = {} if ctx.target_ids is None else {"target_ids": ctx.target_ids.repeat(2, 1)}
    as_it_is = {site: lambda value: value for site in edits}
    return ctx.session.forward(ctx.input_ids.repeat(2, 1), values=[target], edits=as_it_is, **sides)[target][1]


@method("again.slope")
def slope(ctx: MethodContext, target: Recomputed[Float[Tensor, ""]], *, site: str) -> Float[Tensor, "..."]:
    """The gradient of the target by a site."""
    got = ctx.session.forward(ctx.input_ids, reads=[site], values=[target], grad=True, target_ids=ctx.target_ids)
    (found,) = torch.autograd.grad(got[target][0], got[site], allow_unused=True)
    return torch.zeros_like(got[site]) if found is None else found


def make_bench(architecture, **options):
    module = ModuleType("again")
    module.interpd_register_methods = hookimpl(lambda: [values, slope])
    module.interpd_register_methods.__name__ = "interpd_register_methods"
    registry = load_registry(["again"], candidates=[built_in(), candidate_of(module, "again")])
    return Bench.tiny(architecture, dtype=torch.float64, registry=registry, **options)


def with_methods(request, manifest, lengths):
    """The request, and for some of its values a method that has them computed anew; ``None`` when there is none."""
    graph = request.graph
    nodes, outputs = list(graph.nodes), dict(graph.outputs)
    written = [node.params["site"] for node in nodes if node.op == "site.write"]
    for index, node in enumerate(graph.nodes):
        if node.op in ("site.write", "tokens.ids", "torch.gt", "torch.topk") or len(nodes) - len(graph.nodes) == MOST:
            continue
        wrt = node.inputs[1].node if node.op == "site.grad" else None
        is_whole = wrt is not None and "positions" not in graph.nodes[wrt].params
        if is_whole and graph.nodes[wrt].params["site"] not in written:
            site = graph.nodes[wrt].params["site"]
            added = Node("again.slope", (node.inputs[0],), {"site": site}, invoke=graph.nodes[wrt].invoke)
        elif node.op == "site.grad":
            continue
        else:
            # an edit between the branches reaches their sum, which raw writes there do not
            is_plain = all(manifest.sites[site].canonical for site in written)
            edits = ("layers.1.resid_mid",) if is_plain and "layers.1.resid_mid" in manifest.sites else ()
            added = Node("again.values", (Ref(index),), {"edits": edits}, invoke=node.invoke)
        for invoke in range(len(request.prompts)):
            more = {**outputs, f"n{index}": Ref(index), f"again{index}": Ref(len(nodes))}
            tried = replace(request, graph=Graph((*nodes, replace(added, invoke=invoke)), more))
            wanted = added.invoke if added.op == "again.slope" else invoke
            if invoke == wanted and not check(tried, manifest, lengths).violations:
                nodes, outputs = list(tried.graph.nodes), more
                break
    return replace(request, graph=Graph(tuple(nodes), outputs)) if len(nodes) > len(graph.nodes) else None


def request_of(bench, seed):
    """A random request with methods, or ``None``."""
    manifest = bench.engine.describe()
    drawn = RandomRequest(seed, manifest, gradients=seed % 3 == 0, raw=seed % 2 == 0)
    request = drawn.request()
    lengths = list(map(Lengths, drawn.lengths, drawn.sources))
    return None if request is None else with_methods(request, manifest, lengths)


def compare(bench, seed, n=3):
    """How many values of ``n`` random requests were computed anew, together, and are what the graphs give."""
    tolerance = DOUBLE if bench.engine.describe().model.source in EXACT else SINGLE
    requests = [request for i in range(n) if (request := request_of(bench, n * seed + i)) is not None]
    return sum(
        n_equal(request, outcome, tolerance)
        for request, outcome in zip(requests, bench.run_all(*requests), strict=True)
    )


def n_equal(request, outcome, tolerance):
    """How many values computed anew are what the graph gives: all that are asked for, or else it fails."""
    try:
        outcome.done  # noqa: B018, raises for a run that failed
    except InterpdError as error:
        assert "is not rows" in str(error), error  # noqa: PT017
        return 0
    names = [name for name in request.graph.outputs if name.startswith("again")]
    for name in names:
        found, expected = outcome[name], outcome[name.replace("again", "n")]
        scale = max(1.0, np.abs(np.nan_to_num(expected)).max(initial=0))
        assert found.shape == expected.shape, (request, name)
        assert np.allclose(found, expected, atol=tolerance * scale, rtol=tolerance, equal_nan=True), (request, name)
    return len(names)


def test_values_computed_anew_are_those_of_the_graph():
    bench = make_bench("gpt2")
    assert sum(compare(bench, seed) for seed in range(6)) > 24


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "pegasus"])
def test_values_of_any_family_computed_anew_are_those_of_the_graph(architecture):
    bench = make_bench(architecture)
    assert sum(compare(bench, seed) for seed in range(8, 20)) > 48
