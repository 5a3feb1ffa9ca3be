"""Which values a method may have computed anew in its passes, and why not others."""

from dataclasses import replace

import pytest

from interpd.graph.check import check
from interpd.graph.ir import Generation, Node, Ref
from interpd.graph.schema import OpSchema, PortSchema
from interpd.graph.types import TensorType

NUMBER = TensorType("float")
OUT = (PortSchema("out", NUMBER),)
TARGET = PortSchema("target", NUMBER, recomputed=True)
TARGETS = replace(TARGET, variadic=True)
SITE = "layers.0.resid_post"


@pytest.fixture
def manifest(manifest):
    methods = [
        OpSchema("probe.slope", 1, "a method", inputs=(TARGET,), outputs=OUT, plugin="probe", is_method=True),
        OpSchema("probe.slopes", 1, "a method", inputs=(TARGETS,), outputs=OUT, plugin="probe", is_method=True),
        OpSchema("probe.find", 1, "a method", inputs=(), outputs=OUT, plugin="probe", is_method=True),
    ]
    return replace(manifest, ops={**manifest.ops, **{schema.name: schema for schema in methods}})


def total(source):
    return Node("torch.sum", (Ref(source),))


def both(one, other):
    return Node("torch.add", (Ref(one), Ref(other)))


def slope(source, invoke=0):
    return Node("probe.slope", (Ref(source),), invoke=invoke)


def put(value, invoke=0, site=SITE):
    return Node("site.write", (Ref(value),), {"site": site}, invoke=invoke)


def problems(manifest, request):
    return [(one.path, one.message) for one in check(request, manifest, [7] * len(request.prompts)).violations]


def test_values_of_the_prompt_and_of_others_that_stay_as_they_are_can_be_recomputed(manifest, ask, read):
    own = ask(read(), total(0), Node("tokens.ids"), total(2), both(1, 3), slope(4), outputs={"x": 5})
    assert problems(manifest, own) == []
    beside = ask(read(), total(0), read(invoke=1), total(2), both(1, 3), slope(4), outputs={"x": 5}, prompts=2)
    assert problems(manifest, beside) == []
    found_there = ask(read(), total(0), Node("probe.find", invoke=1), both(1, 2), slope(3), outputs={"x": 4}, prompts=2)
    assert problems(manifest, found_there) == []
    weight = ask(Node("param.read", params={"name": "wte.weight"}), total(0), slope(1), outputs={"x": 2})
    assert problems(manifest, weight) == []


def test_the_value_of_another_prompt_is_refused(manifest, ask, read):
    ((path, message),) = problems(manifest, ask(read(), total(0), slope(1, invoke=1), outputs={"x": 2}, prompts=2))
    assert path == "graph.nodes[2].inputs[0]"
    assert message == (
        "port 'target' is recomputed in each pass of prompt 1, but nodes[1] is a value of prompt 0: "
        "give the method the invoke of the value"
    )


def test_what_comes_from_another_method_of_the_prompt_is_refused(manifest, ask, read):
    for first in (Node("probe.find"), slope(1)):
        request = ask(read(), total(0), first, both(1, 2), slope(3), outputs={"x": 4})
        ((path, message),) = problems(manifest, request)
        assert path == "graph.nodes[4].inputs[0]"
        assert f"nodes[3] comes from the method {first.op} nodes[2], which a pass does not run again" in message


def test_what_comes_from_a_gradient_is_refused(manifest, ask, read):
    gradient = Node("site.grad", (Ref(1), Ref(0)))
    ((path, message),) = problems(manifest, ask(read(), total(0), gradient, total(2), slope(3), outputs={"x": 4}))
    assert path == "graph.nodes[4].inputs[0]"
    assert "nodes[3] comes from the gradient nodes[2], which a pass does not run again" in message


def test_what_comes_back_through_another_prompt_is_refused(manifest, ask, read):
    nodes = [read(), put(0, invoke=1), read("logits", invoke=1), total(2)]
    ((path, message),) = problems(manifest, ask(*nodes, slope(3), outputs={"x": 4}, prompts=2))
    assert path == "graph.nodes[4].inputs[0]"
    assert "nodes[3] comes through prompt 1 (nodes[2]), which a pass of another prompt does not run" in message
    # and so is what the prompt itself makes of it
    nodes = [read("embed"), put(0, invoke=1), read(invoke=1), put(2), read("logits"), total(4)]
    ((path, message),) = problems(manifest, ask(*nodes, slope(5), outputs={"x": 6}, prompts=2))
    assert "nodes[5] comes through prompt 1 (nodes[2])" in message


def test_each_of_several_values_is_looked_at(manifest, ask, read):
    several = Node("probe.slopes", ((Ref(1), Ref(2)),))
    ((path, message),) = problems(manifest, ask(read(), total(0), Node("probe.find"), several, outputs={"x": 3}))
    assert path == "graph.nodes[3].inputs[0]"
    assert "port 'target' is recomputed in each pass, but nodes[2] comes from the method probe.find" in message


def test_nothing_is_recomputed_in_a_generation(manifest, ask, read):
    request = replace(ask(read(), total(0), slope(1), outputs={"x": 2}), generation=Generation(3))
    assert [path for path, _ in problems(manifest, request)] == ["graph.nodes[2].op"]
