"""Whether a target can depend on a value, told from the graph."""

import numpy as np
import pytest

from interpd.engine.gradients import reaches
from interpd.graph.ir import Ref
from interpd.testing.bench import Bench, ask, call, read, write


@pytest.fixture(scope="module")
def bench():
    return Bench.tiny("gpt2")


def program(bench, nodes, *outputs):
    return bench.engine._run_of(ask(nodes, dict(outputs), "The cat", "The cat")).program


def test_through_values(bench):
    nodes = [read("layers.0.resid_post"), call("torch.sum", Ref(0))]
    assert reaches(program(bench, nodes, ("sum", 1)), 1, 0)


def test_through_the_model(bench):
    nodes = [read("layers.0.resid_post"), read("logits"), call("torch.sum", Ref(1))]
    assert reaches(program(bench, nodes, ("h", 0), ("sum", 2)), 2, 0)


def test_a_rounded_quotient_is_a_constant_beside_other_ways(bench):
    quotient = call("torch.floor_divide", Ref(1), 0.5)
    plain = [read("embed"), read("logits"), call("torch.sum", Ref(1)), call("site.grad", Ref(2), Ref(0))]
    with_it = [*plain[:2], quotient, call("torch.add", Ref(1), Ref(2)), call("torch.sum", Ref(3))]
    with_it += [call("site.grad", Ref(4), Ref(0))]
    expected = bench.run(ask(plain, {"g": 3}, "The cat"))["g"]
    assert np.array_equal(bench.run(ask(with_it, {"g": 5}, "The cat"))["g"], expected)
    assert not reaches(program(bench, [*plain[:2], quotient], ("q", 2), ("e", 0)), 2, 0)


def test_not_backwards_through_the_model(bench):
    nodes = [read("layers.1.resid_post"), read("layers.0.resid_post"), call("torch.sum", Ref(1))]
    assert not reaches(program(bench, nodes, ("h", 0), ("sum", 2)), 2, 0)


def test_not_from_prompt_to_prompt_without_a_write(bench):
    nodes = [read("layers.0.resid_post", invoke=1), read("logits"), call("torch.sum", Ref(1))]
    assert not reaches(program(bench, nodes, ("h", 0), ("sum", 2)), 2, 0)


def test_from_prompt_to_prompt_through_a_write(bench):
    site = "layers.0.resid_post"
    nodes = [read(site, invoke=1), write(Ref(0), site), read("logits"), call("torch.sum", Ref(2))]
    assert reaches(program(bench, nodes, ("sum", 3)), 3, 0)


@pytest.mark.parametrize("op", ["tensor.detach", "torch.isnan"])
def test_not_through_what_has_no_gradient(bench, op):
    nodes = [read("layers.0.resid_post"), call(op, Ref(0)), call("torch.sum", Ref(1))]
    assert not reaches(program(bench, nodes, ("sum", 2)), 2, 0)
