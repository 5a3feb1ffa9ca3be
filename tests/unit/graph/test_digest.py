import json
from dataclasses import replace

from interpd.graph.digest import blob_digest, canonical_bytes, graph_digest
from interpd.graph.ir import Blob, Dots, Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.types import TensorData

ONE = TensorData("float32", (1,), b"\0\0\x80?")
PROMPTS = (Prompt(text="hello"),)
GRAPH = Graph(
    (
        Node("site.read", (), {"site": "logits", "positions": (-1,)}, steps=Steps(0, 1), label="last"),
        Node("tensor.getitem", (Ref(0), (Slice(), -1, Dots(), None))),
        Node("torch.mul", (Ref(1), ONE)),
    ),
    {"x": Ref(2)},
)


def test_labels_and_the_order_of_params_do_not_count():
    first, *rest = GRAPH.nodes
    renamed = replace(first, label="", params={"positions": (-1,), "site": "logits"})
    assert graph_digest(Graph((renamed, *rest), GRAPH.outputs), PROMPTS, None) == graph_digest(GRAPH, PROMPTS, None)


def test_everything_else_counts():
    base = graph_digest(GRAPH, PROMPTS, None)
    first, second, third = GRAPH.nodes
    changed = [
        (Graph((first, second, replace(third, inputs=(Ref(1), 1))), GRAPH.outputs), PROMPTS, None),
        (Graph((first, second, replace(third, inputs=(Ref(1), 1.0))), GRAPH.outputs), PROMPTS, None),
        (Graph((first, second, replace(third, inputs=(Ref(1), True))), GRAPH.outputs), PROMPTS, None),
        (Graph((replace(first, steps=None), second, third), GRAPH.outputs), PROMPTS, None),
        (Graph(GRAPH.nodes, {"y": Ref(2)}), PROMPTS, None),
        (GRAPH, (Prompt(text="hello", add_special_tokens=False),), None),
        (GRAPH, (Prompt(token_ids=(1, 2)),), None),
        (GRAPH, (Prompt(messages=(("user", "hello"),)),), None),
        (GRAPH, (Prompt(messages=(("user", "hello"),), add_generation_prompt=True),), None),
        (GRAPH, (Prompt(messages=(("user", "hello"),), add_generation_prompt=False),), None),
        (GRAPH, (Prompt(messages=(("user", "hello"),), continue_final_message=True),), None),
        (GRAPH, PROMPTS, Generation(3)),
    ]
    assert len({base, *(graph_digest(*item) for item in changed)}) == len(changed) + 1


def test_an_inline_tensor_counts_as_the_blob_that_it_could_be():
    blob = Blob(blob_digest(ONE), "float32", (1,))
    uploaded = Graph((*GRAPH.nodes[:2], replace(GRAPH.nodes[2], inputs=(Ref(1), blob))), GRAPH.outputs)
    assert graph_digest(uploaded, PROMPTS, None) == graph_digest(GRAPH, PROMPTS, None)


def test_a_blob_digest_covers_dtype_and_shape():
    same_bytes = TensorData("int32", (1,), ONE.data), TensorData("float32", (1, 1), ONE.data)
    assert len({blob_digest(tensor) for tensor in (ONE, *same_bytes)}) == 3


def test_infinities_and_nan_have_canonical_bytes():
    numbers = (float("inf"), float("nan"), -0.0)
    graph = Graph((Node("torch.zeros", (), {"size": 1, "x": numbers}),), {})
    assert json.loads(canonical_bytes(graph, (), None))["nodes"][0]["params"]["x"] == [
        *({"float": "inf"}, {"float": "nan"}, {"float": "-0x0.0p+0"})
    ]
