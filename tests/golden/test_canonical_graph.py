"""The canonical bytes of one graph that has every kind of argument: a change of them changes every stored digest."""

from pathlib import Path

from interpd.graph.digest import canonical_bytes, graph_digest
from interpd.graph.ir import Blob, Dots, Generation, Graph, Node, Prompt, Ref, Slice, Steps
from interpd.graph.types import TensorData

GOLDEN = Path(__file__).with_name("canonical_graph.json")

PROMPTS = (
    Prompt(text='Ünïcode "quoted"', add_special_tokens=False),
    Prompt(messages=(("system", "be brief"), ("user", "hi"))),
    Prompt(token_ids=(1, 2, 3)),
)
GENERATION = Generation(4, do_sample=True, temperature=0.7, top_k=5, top_p=0.9, seed=11, stop_strings=("\n",))
GRAPH = Graph(
    (
        Node("site.read", (), {"site": "layers.3.resid_post", "positions": (0, -1)}, steps=Steps(0, 1), label="h"),
        Node("tensor.getitem", (Ref(0), (Slice(1, None, 2), -1, Dots(), None, (0, 2), Ref(0))), {}),
        Node("torch.topk", (Ref(1),), {"k": 5, "largest": True}),
        Node("torch.add", (Ref(2, 1), TensorData("float32", (1,), b"\0\0\x80?"))),
        Node("torch.mul", (Ref(3), 0.1)),
        Node("site.write", (Blob("ab" * 32, "bfloat16", (2, 8)),), {"site": "logits"}, invoke=2, steps=Steps(1)),
        Node("sae.encode", (Ref(0),), {"sae": "layer_3"}, version=2, invoke=1),
    ),
    {"second": Ref(6), "first": Ref(2, 1)},
)


def test_canonical_bytes_do_not_change():
    assert canonical_bytes(GRAPH, PROMPTS, GENERATION) == GOLDEN.read_bytes().rstrip(b"\n")


def test_the_digest_is_that_of_the_canonical_bytes():
    digest = graph_digest(GRAPH, PROMPTS, GENERATION)
    assert digest == "a4224dc581002d32d2fc754583615d7eaf311bff68a58abc64fc963a7af12d2d"
