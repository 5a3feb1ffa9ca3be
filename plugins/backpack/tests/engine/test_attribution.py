"""Gradients of a Backpack go by both of its sides, and attributions of interpd's own methods stand on them."""

import numpy as np
import pytest
import torch

from interpd.graph.ir import Ref
from interpd.testing.bench import ask, call, read

PROMPT = "The nurse said that she"
WANTED = {"target": "logit", "reduce": "sum"}


def by_hand(bench, prompt, column, *, beside=True):
    """The gradient of the last logit of a token by the embeddings; ``beside``: also by way of the senses."""
    backpack = bench.model.backpack
    embeds = backpack.gpt2_model.wte(bench.ids(prompt)).detach().requires_grad_()
    with torch.enable_grad():
        weights = backpack.sense_weight_net(backpack.gpt2_model(inputs_embeds=embeds).last_hidden_state)
        senses = backpack.sense_network(embeds if beside else embeds.detach())
        mixed = torch.einsum("blij,bljd->bid", weights, senses)
        (gradient,) = torch.autograd.grad(bench.model.lm_head(mixed)[0, -1, column], embeds)
    return gradient.numpy()


def test_the_gradient_by_the_embeddings_goes_both_ways(bench):
    nodes = [
        read("embed"),
        read("logits", positions=(-1,)),
        call("tensor.getitem", Ref(1), (0, 0, 30)),
        call("site.grad", Ref(2), Ref(0)),
    ]
    gradient = bench.run(ask(nodes, {"gradient": 3}, PROMPT))["gradient"]
    whole = by_hand(bench, PROMPT, 30)
    assert np.abs(gradient - whole).max() <= 1e-10 * np.abs(whole).max()
    assert np.abs(by_hand(bench, PROMPT, 30, beside=False) - whole).max() > 1e-2 * np.abs(whole).max()


def test_an_attribution_in_a_trace_sees_the_edits_of_the_trace(model):
    """Three times the senses are three times the logit, and three times its parts."""
    plain = model.attribute(PROMPT, " is", method="input_x_gradient", **WANTED)
    with model.trace(PROMPT + " is") as t:
        t.senses *= 3.0
        found = model.attribute.node(t, attr_pos_start=6, method="input_x_gradient", **WANTED)
        t.save(scores=found.scores)
    assert np.nanmax(np.abs(t.result["scores"] - 3 * plain.scores)) <= 1e-5 * np.nanmax(np.abs(plain.scores))


def test_a_number_of_the_senses_can_be_attributed(model, bench):
    """One number that the graph makes of what the sense side gives: its gradient by hand, position by position."""
    out = model.attribute(PROMPT, target=lambda t: t.sense_mix[0, -1, 5], method="input_x_gradient", reduce="sum")
    backpack = bench.model.backpack
    embeds = backpack.gpt2_model.wte(bench.ids(PROMPT)).detach().requires_grad_()
    with torch.enable_grad():
        weights = backpack.sense_weight_net(backpack.gpt2_model(inputs_embeds=embeds).last_hidden_state)
        mixed = torch.einsum("blij,bljd->bid", weights, backpack.sense_network(embeds))
        (gradient,) = torch.autograd.grad(mixed[0, -1, 5], embeds)
    expected = (gradient * embeds).sum(-1)[0].detach().numpy()
    assert np.abs(out.scores.ravel()[: len(expected)] - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_integrated_gradients_are_complete(model):
    asked = {"method": "integrated_gradients", "baseline": "mean", "n_steps": 600, "convergence_delta": True, **WANTED}
    out = model.attribute(PROMPT, " is", **asked)
    change = np.nansum(out.scores) - out.step_scores["deltas"][0]
    assert abs(out.step_scores["deltas"][0]) <= 2e-3 * abs(change)
    assert out.info["warnings"] == []
