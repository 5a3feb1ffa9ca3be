"""Gradients of passes that are recorded in parts: the same numbers, and no more held than a part needs."""

import numpy as np
import pytest
import torch

from interpd_attribution.worker import memory
from interpd_attribution.worker.passes import Model


@pytest.fixture
def in_parts(monkeypatch):
    """Makes passes be recorded layer by layer, whatever their size."""

    def turn_on():
        monkeypatch.setattr(memory, "MANY_COLUMNS", 1)
        monkeypatch.setattr(memory, "CPU_RECORDED_BYTES", 1)

    return turn_on


@pytest.fixture
def recorded(monkeypatch):
    """The bytes that each pass with gradients has kept for the way back."""
    found, run = [], Model.run

    def counted(self, *args, grad=False, **options):
        kept = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            values = run(self, *args, grad=grad, **options)
        if grad:
            found.append(sum(kept.values()))
        return values

    monkeypatch.setattr(Model, "run", counted)
    return found


CASES = (
    ("saliency", {}),
    ("saliency_vectors", {"target": "entropy", "start": 3, "absolute": False}),
    ("integrated_gradients", {"n_steps": 3, "span": True, "baseline": "zeros"}),
    ("saliency", {"target": "contrast_prob_diff", "contrast_ids": (5, 40, 77, 1, 2, 3, 4, 5), "start": 3}),
    ("layer_gradient_x_activation", {"sites": ("embed", "layers.{i}.resid_post", "layers.{i}.mlp.out")}),
)


@pytest.mark.parametrize(("op", "constants"), CASES)
def test_parts_give_the_numbers_of_the_whole(gpt2, in_parts, op, constants):
    whole = gpt2.trace(op, **constants).scores
    in_parts()
    np.testing.assert_allclose(gpt2.trace(op, **constants).scores, whole, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("op", "constants"), CASES[:3])
@pytest.mark.parametrize("architecture", ["llama", "t5", "bart"])
def test_parts_give_the_numbers_of_the_whole_for_other_models(request, in_parts, architecture, op, constants):
    world = request.getfixturevalue(architecture)
    whole = world.trace(op, **constants).scores
    in_parts()
    np.testing.assert_allclose(world.trace(op, **constants).scores, whole, rtol=1e-5, atol=1e-9)


def test_no_part_records_more_than_a_layer_does(gpt2, in_parts, recorded):
    gpt2.trace("saliency")
    (whole,) = recorded
    recorded.clear()
    in_parts()
    gpt2.trace("saliency")
    # three layers and the logits
    assert len(recorded) == 4
    assert max(recorded) < 0.6 * whole
    assert max(recorded[1:]) < 1.1 * min(recorded[1:])


def test_what_the_graph_leads_past_a_layer_is_recorded_with_it(gpt2, in_parts, recorded):
    def run():
        with gpt2.prompt() as t:
            early = t.layers[0].mlp.out[0] * 2
            t.layers[1].resid_post[0] += early
            t.layers[2].mlp.out[0] *= 0.5
            t.save(out=t.op("attribution.saliency"))
        return t.result["out"].scores

    whole = run()
    recorded.clear()
    in_parts()
    np.testing.assert_allclose(run(), whole, rtol=1e-6, atol=1e-9)
    # behind layer 1 and behind layer 2
    assert len(recorded) == 3


def test_a_value_of_the_graph_is_attributed_in_parts_up_to_where_it_is_read(gpt2, in_parts, recorded):
    def run():
        with gpt2.prompt() as t:
            t.save(out=t.op("attribution.saliency", t.layers[2].mlp.out[0, -1, 3]))
        return t.result["out"].scores

    whole = run()
    recorded.clear()
    in_parts()
    np.testing.assert_allclose(run(), whole, rtol=1e-6, atol=1e-9)
    assert len(recorded) == 3
