from interpd.graph.check import check
from interpd.graph.explain import explain
from interpd.graph.ir import Generation, Node, Ref, Slice, Steps


def test_a_graph_reads_as_a_schedule(manifest, ask, read, write):
    last = Node("tensor.getitem", (Ref(0), (Slice(), -1)))
    nodes = [read("layers.1.resid_post", 0, label="h"), last, write(1, "layers.0.resid_pre", 1), read("logits", 1)]
    nodes.append(Node("torch.zeros", (), {"size": (2,)}))
    request = ask(*nodes, outputs={"l": 3, "z": 4}, prompts=2)
    assert explain(request, check(request, manifest, [3, 4])) == EXPECTED


EXPECTED = """\
before any pass:
  %4 = torch.zeros(size=(2)) -> float32[2]
in pass 0:
  %0 (h) = site.read(site='layers.1.resid_post') of prompt 0 -> float32[batch=1 pos=3 d_model=8]
  %1 = tensor.getitem(%0, (:, -1)) -> float32[batch=1 d_model=8]
in pass 1:
  %2 = site.write(%1, site='layers.0.resid_pre') of prompt 1
  %3 = site.read(site='logits') of prompt 1 -> float32[batch=1 pos=4 d_vocab=50]
returns 'l': float32[batch=1 pos=4 d_vocab=50]
returns 'z': float32[2]
costs 2 passes of 2 layers, 7 tokens, 808 bytes returned"""


def test_a_bad_graph_shows_its_problems_first(manifest, ask, read):
    request = ask(read("nowhere"), Node("torch.exp", (Ref(0),)), outputs={"x": 1})
    assert explain(request, check(request, manifest)).splitlines() == [
        "problem: graph.nodes[0].params.site: site 'nowhere' does not exist [UNKNOWN_SITE]",
        "  %0 = site.read(site='nowhere') -> ?",
        "  %1 = torch.exp(%0) -> ?",
    ]


def test_steps_are_shown(manifest, ask, read):
    request = ask(read("logits", steps=Steps(1, 3), positions=(-1,)), outputs={"x": 0}, generation=Generation(4))
    text = explain(request, check(request, manifest))
    assert "in generation 0:\n  %0 = site.read(site='logits', positions=(-1)) at steps 1..2 ->" in text
