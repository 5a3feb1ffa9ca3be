"""The driver, and a contract test for each semi-public hook of nnsight that it uses."""

import gc
import os
import subprocess
import sys
import weakref
from contextlib import suppress

import pytest
import torch

from interpd.engine.binding import Location
from interpd.engine.nnsight_driver import Driver, LeftOut, Visit, visits_of
from interpd.errors import FeatureUnsupported
from interpd.testing.tiny_models import tiny_gpt2

BLOCK = "transformer.h.1"


@pytest.fixture(scope="module")
def model():
    return tiny_gpt2().model.requires_grad_(False)


@pytest.fixture(scope="module")
def driver(model):
    return Driver(model)


@pytest.fixture
def inputs():
    return {"input_ids": torch.arange(5)[None]}


def visit(path, port="output", item=None, order=0):
    return Visit(path, port, order, (item,))


def leave(place, tensors):
    return {}


def test_a_pass_without_visits_is_the_model_itself(driver, model, inputs):
    assert torch.equal(driver.run(inputs).logits, model(**inputs).logits)


def test_a_visit_sees_what_the_module_returned(driver, model, inputs):
    seen = {}
    driver.run(inputs, [visit(BLOCK)], lambda place, tensors: seen.update(tensors) or {})
    expected = model(**inputs, output_hidden_states=True).hidden_states[2]
    assert torch.equal(seen[None], expected)


def test_a_tensor_that_is_returned_replaces_the_one_that_was_seen(driver, inputs):
    seen = []

    def double(place, tensors):
        seen.append(tensors[place.items[0]].clone())
        return {None: tensors[None] * 2} if place.port == "output" else {}

    following = visit("transformer.h.2", "input", 0, order=1)
    driver.run(inputs, [visit(BLOCK), following], double)
    assert torch.equal(seen[1], seen[0] * 2)


def test_one_visit_may_be_read_and_replaced_twice(driver, inputs):
    seen = []

    def add_one(place, tensors):
        seen.append(tensors[None].clone())
        return {None: tensors[None] + 1}

    driver.run(inputs, [visit(BLOCK), visit(BLOCK)], add_one)
    assert torch.equal(seen[1], seen[0] + 1)


def test_an_item_of_a_tuple_is_replaced_alone(driver, model, inputs):
    def zero(place, tensors):
        return {0: torch.zeros_like(tensors[0])}

    seen = {}

    def look(place, tensors):
        if place.path.endswith("attn"):
            return zero(place, tensors)
        seen.update(tensors)
        return {}

    places = [visit("transformer.h.0.attn", item=0), visit("transformer.h.0.ln_2", "input", 0, order=1)]
    driver.run(inputs, places, look)
    embedded = model.transformer.wte(inputs["input_ids"]) + model.transformer.wpe(torch.arange(5))
    assert torch.equal(seen[0], embedded)


def test_a_keyword_argument_is_replaced(driver, model, inputs):
    def zeros(place, tensors):
        return {"input_ids": torch.zeros_like(tensors["input_ids"])}

    logits = driver.run(inputs, [visit("", "input", "input_ids")], zeros).logits
    assert torch.equal(logits, model(input_ids=torch.zeros(1, 5, dtype=torch.int64)).logits)


def test_stop_ends_the_pass_after_the_last_visit(driver, model, inputs):
    ran = []
    handle = model.transformer.h[2].register_forward_pre_hook(lambda *_: ran.append(1))
    assert driver.run(inputs, [visit(BLOCK)], leave, stop=True) is None
    handle.remove()
    assert not ran


def test_passes_follow_one_another_after_a_stop(driver, inputs):
    for _ in range(3):
        driver.run(inputs, [visit("transformer.h.0")], leave, stop=True)
    assert driver.run(inputs, [visit(BLOCK)], leave).logits.shape == (1, 5, 321)


def test_visits_out_of_order_are_an_error_and_harm_no_later_pass(driver, inputs):
    with pytest.raises(FeatureUnsupported, match=r"transformer\.h\.0\.output"):
        driver.run(inputs, [visit(BLOCK), visit("transformer.h.0")], leave)
    assert driver.run(inputs, [visit(BLOCK)], leave) is not None


def test_what_a_visit_raises_comes_out_and_harms_no_later_pass(driver, inputs):
    def fail(place, tensors):
        raise ZeroDivisionError("in a visit")

    with pytest.raises(ZeroDivisionError):
        driver.run(inputs, [visit(BLOCK)], fail)
    assert driver.run(inputs, [visit(BLOCK)], leave) is not None


def test_an_error_of_torch_inside_a_visit_is_an_ordinary_exception(driver, inputs):
    def mismatch(place, tensors):
        return {None: tensors[None] @ torch.ones(3, 3)}

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        driver.run(inputs, [visit(BLOCK)], mismatch)


@pytest.mark.parametrize("grad", [False, True])
def test_grad_mode_holds_in_the_pass_and_in_its_visits_and_no_longer(driver, inputs, grad):
    modes = []
    with torch.no_grad():
        driver.run(
            inputs, [visit(BLOCK)], lambda place, tensors: modes.append(torch.is_grad_enabled()) or {}, grad=grad
        )
        assert modes == [grad]
        assert not torch.is_grad_enabled()


def test_gradients_flow_through_a_tensor_that_was_put_in_place(driver, inputs):
    leaf = []

    def start(place, tensors):
        leaf.append(tensors[None].detach().requires_grad_())
        return {None: leaf[0].clone()}

    logits = driver.run(inputs, [visit(BLOCK)], start, grad=True).logits
    (gradient,) = torch.autograd.grad(logits.sum(), leaf)
    assert gradient.abs().sum() > 0


def test_modules_called_in_a_visit_reach_no_visitor(driver, model, inputs):
    calls = []

    def call_the_block_itself(place, tensors):
        calls.append(place)
        with driver.stood_down():
            model.transformer.h[2].mlp(tensors[None])
        return {}

    driver.run(inputs, [visit(BLOCK), visit("transformer.h.2.mlp", order=1)], call_the_block_itself)
    assert len(calls) == 2


def test_visits_are_in_forward_order_with_the_items_of_one_place_together():
    places = [Location("b", "output", 1, 5), Location("a", "output", None, 2), Location("b", "output", 0, 5)]
    assert visits_of(places) == (Visit("a", "output", 2, (None,)), Visit("b", "output", 5, (1, 0)))


def test_a_module_that_two_paths_share_is_visited_under_both(inputs):
    model = tiny_gpt2(seed=1).model
    model.alias = model.transformer.h[1]
    seen = []
    Driver(model).run(inputs, [visit("alias")], lambda place, tensors: seen.append(place.path) or {})
    assert seen == ["alias"]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_pass_that_was_ended_stays_alive(driver, inputs, fails):
    held = []

    def look(place, tensors):
        held.append(weakref.ref(tensors[None]))
        if fails:
            raise ZeroDivisionError
        return {}

    gc.disable()
    try:
        with suppress(ZeroDivisionError):
            driver.run(inputs, [visit(BLOCK)], look, stop=True)
        assert held[0]() is None
    finally:
        gc.enable()


@pytest.mark.slow
def test_the_import_leaves_objects_and_tensors_and_the_environment_as_they_were():
    code = (
        "import os, torch; before = torch.Tensor.backward\n"
        "import interpd.engine.nnsight_driver\n"
        "assert not hasattr(object(), 'save'); assert torch.Tensor.backward is before\n"
        "assert 'NNSIGHT_CONFIG' not in os.environ"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NNSIGHT_CONFIG"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_blocks_that_are_left_out_give_on_what_the_first_was_given(driver, model, inputs):
    seen = {}
    first, last = "transformer.h.0", "transformer.h.1"
    begin = Location(first, "input", 0, order=1)
    places = [visit(last, order=3), visit("transformer.h.2", "input", 0, order=4)]
    driver.run(
        inputs,
        places,
        lambda place, tensors: seen.update({str(place): tensors[place.items[0]]}) or {},
        left_out=LeftOut(begin, (first, last)),
    )
    expected = model(**inputs, output_hidden_states=True).hidden_states[0]
    assert torch.equal(seen["transformer.h.1.output"], expected)
    assert torch.equal(seen["transformer.h.2.input"], expected)
