"""Plans against their definition: every value exists before it is used, and no plan uses a pass too many."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.order import READ, WRITE, plan_order
from interpd.graph.run import RunRequest
from interpd.graph.schema import Manifest, ModelInfo, SiteSchema
from interpd.graph.types import TensorType

N_SITES, N_PROMPTS = 4, 3
INFO = ModelInfo("m", "m", "0", "M", "", 0, N_SITES, {}, 0, "float32", "cpu")
SITES = {f"s{i}": SiteSchema(f"s{i}", TensorType("float32"), i, i) for i in range(N_SITES)}
MANIFEST = Manifest(INFO, SITES, (), {}, {}, {}, {}, {}, ())


@st.composite
def graphs(draw):
    nodes = [Node(READ, (), {"site": "s0"})]
    for _ in range(draw(st.integers(1, 9))):
        site, invoke = f"s{draw(st.integers(0, N_SITES - 1))}", draw(st.integers(0, N_PROMPTS - 1))
        values = [i for i, node in enumerate(nodes) if node.op != WRITE]
        source = Ref(draw(st.sampled_from(values)))
        kind = draw(st.sampled_from((READ, WRITE, "torch.add")))
        inputs = {READ: (), WRITE: (source,), "torch.add": (source, Ref(draw(st.sampled_from(values))))}[kind]
        nodes.append(Node(kind, inputs, {} if kind == "torch.add" else {"site": site}, invoke=invoke))
    return RunRequest("r", "m", (Prompt(text="x"),) * N_PROMPTS, Graph(tuple(nodes), {}))


def _reads(nodes, index):
    """The reads that a value comes from."""
    if nodes[index].op == READ:
        return {index}
    return set().union(*(_reads(nodes, ref.node) for ref in nodes[index].inputs))


def _feasible(request, passes):
    nodes = request.graph.nodes
    for node in nodes:
        if node.op != WRITE:
            continue
        for source in _reads(nodes, node.inputs[0].node):
            made = (passes[nodes[source].invoke], nodes[source].params["site"])
            if made > (passes[node.invoke], node.params["site"]):
                return False
    return True


@pytest.mark.slow
@settings(max_examples=400, deadline=None, derandomize=True)
@given(graphs())
def test_a_plan_is_the_shortest_that_gives_every_write_its_value(request):
    plan = plan_order(request, MANIFEST)
    options = [p for p in itertools.product(range(N_PROMPTS), repeat=N_PROMPTS) if _feasible(request, p)]
    assert bool(plan.conflicts) == (not options)
    if options:
        chosen = tuple(invoke.pass_index for invoke in plan.invokes)
        assert chosen in options
        assert plan.n_passes == min(max(option) for option in options) + 1


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True)
@given(graphs())
def test_nodes_of_a_pass_come_after_what_they_use(request):
    plan = plan_order(request, MANIFEST)
    if plan.conflicts:
        return
    line = sorted(range(len(plan.nodes)), key=lambda i: (plan.nodes[i].pass_index, plan.nodes[i].order, i))
    assert sorted(line) == list(range(len(request.graph.nodes)))
    assert {node.pass_index for node in plan.nodes} <= set(range(plan.n_passes))
    for index, node in enumerate(request.graph.nodes):
        assert all(line.index(ref.node) < line.index(index) for ref in node.inputs)
