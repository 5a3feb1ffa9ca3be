"""The checker never fails on what a stranger may send, and finishes in time."""

import gc
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.check import check
from interpd.graph.explain import explain
from interpd.graph.ir import Blob, Dots, Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.run import RunRequest
from interpd.graph.schema import Manifest, ModelInfo, ModuleSchema, SiteSchema
from interpd.graph.types import Dim, TensorData, TensorType

RESID = TensorType("float32", (Dim("batch", 1), Dim("pos"), Dim("d_model", 4)))
SITES = {f"layers.{i}.resid_post": SiteSchema(f"layers.{i}.resid_post", RESID, i, i) for i in range(3)}
INFO = ModelInfo("m", "m", "0", "M", "", 0, 3, {"d_model": 4, "d_vocab": 9}, 32, "float32", "cpu")
MODULES = {"ln": ModuleSchema("ln", "LayerNorm", 4, 4, "d_model")}
MANIFEST = Manifest(INFO, SITES, (), MODULES, {"w": RESID}, dict(BUILTIN_OPS), {}, {}, ())

constants = st.one_of(
    *(st.none(), st.booleans(), st.integers(-3, 9), st.integers(), st.floats(), st.text(max_size=3)),
    *(
        st.sampled_from(["float32", "bool", *SITES, "ln", "w", "ij->ji"]),
        st.builds(Slice, st.integers(-3, 3)),
        st.just(Dots()),
    ),
    *(st.just(TensorData("bool", (2,), b"\1\0")), st.just(Blob("0" * 64, "float16", (2, 4)))),
    st.builds(Ref, st.integers(-1, 7), st.integers(-1, 2)),
)
args = st.recursive(constants, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
steps = st.one_of(st.none(), st.builds(Steps, st.integers(-1, 3), st.one_of(st.none(), st.integers(0, 4))))


@st.composite
def nodes(draw):
    op = draw(st.sampled_from([*BUILTIN_OPS, "site.read", "site.write", "site.grad", "no.such"]))
    schema = BUILTIN_OPS.get(op)
    params = {p.name: draw(args) for p in schema.params if p.required or draw(st.booleans())} if schema else {}
    if "site" in params and draw(st.integers(0, 4)):
        params["site"] = draw(st.sampled_from(list(SITES)))
    n_inputs = len(schema.inputs) if schema else 1
    inputs = tuple(draw(st.one_of(st.builds(Ref, st.integers(0, 6)), args)) for _ in range(n_inputs))
    return Node(op, inputs, params, draw(st.sampled_from([1, 1, 1, 2])), draw(st.integers(-1, 2)), draw(steps))


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(nodes(), max_size=8), st.booleans(), st.sampled_from([None, 0, 1, 5]))
def test_any_request_gets_a_report(some, generates, n_tokens):
    graph = Graph(tuple(some), {"x": Ref(len(some) - 1)})
    generation = Generation(3) if generates else None
    request = RunRequest("r", "m", (Prompt(text="a"), Prompt(text="b")), graph, generation)
    report = check(request, MANIFEST, [n_tokens] * 2)
    assert (report.estimate is None) <= bool(report.violations)
    assert explain(request, report)


def test_ten_thousand_nodes_are_checked_in_time():
    chain = [Node("site.read", (), {"site": "layers.0.resid_post"})]
    chain += [
        Node("torch.add", (Ref(i), 1.0)) if i % 2 else Node("torch.softmax", (Ref(i),), {"dim": -1})
        for i in range(9_999)
    ]
    request = RunRequest("r", "m", (Prompt(text="a"),), Graph(tuple(chain), {"x": Ref(9_999)}))
    # a collection would go through what all other tests have left
    gc.disable()
    try:
        begin = time.process_time()
        assert check(request, MANIFEST, [7]).violations == ()
        took = time.process_time() - begin
    finally:
        gc.enable()
    # about 0.1 s of processor time; the bound leaves room for slow machines
    assert took < 1.0
