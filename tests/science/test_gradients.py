"""Gradients of a graph against autograd by hand and against finite differences through writes."""

import numpy as np
import pytest
import torch

from interpd.errors import CallerError, InterpdError
from interpd.graph.ir import Ref
from interpd.graph.types import TensorData
from interpd.testing.bench import ask, call, read, write

PROMPT = "The cat sat"
SITES = ("embed", "layers.0.resid_post", "layers.1.resid_mid", "layers.1.attn.q", "layers.2.attn.v", "layers.0.mlp.out")


def logit_of(index=5):
    """Nodes that end in a scalar; they follow one read."""
    return [read("logits", positions=(-1,)), call("tensor.getitem", Ref(1), (0, 0, index))]


def gradient(site, prompt=PROMPT, **params):
    nodes = [read(site, **params), *logit_of(), call("site.grad", Ref(2), Ref(0))]
    return ask(nodes, {"value": 0, "target": 2, "gradient": 3}, prompt)


def target_with(bench, site, value):
    nodes = [write(TensorData.from_numpy(value), site), read("logits", positions=(-1,))]
    nodes.append(call("tensor.getitem", Ref(1), (0, 0, 5)))
    return float(bench.run(ask(nodes, {"target": 2}, PROMPT))["target"])


@pytest.mark.parametrize("site", SITES)
def test_a_gradient_is_the_derivative_by_what_a_write_there_would_change(exact_bench, site):
    result = exact_bench.run(gradient(site))
    direction = np.random.default_rng(0).standard_normal(result["value"].shape)
    # norms and rotary embeddings of Llama compute in float32 whatever the model's dtype
    step, tolerance = (1e-6, 1e-6) if exact_bench.model.config.model_type == "gpt2" else (1e-4, 1e-2)
    forward = target_with(exact_bench, site, result["value"] + step * direction)
    backward = target_with(exact_bench, site, result["value"] - step * direction)
    assert np.sum(result["gradient"] * direction) == pytest.approx(
        (forward - backward) / (2 * step), rel=tolerance, abs=tolerance
    )


def by_hand(bench, prompt, layer=0):
    """d logit 5 / d output of a block, with a hook and autograd."""
    blocks = bench.model.transformer.h if bench.model.config.model_type == "gpt2" else bench.model.model.layers
    leaf = []

    def start(module, args, output):
        leaf.append(output.detach().requires_grad_())
        return leaf[0]

    handle = blocks[layer].register_forward_hook(start)
    logits = bench.model(bench.ids(prompt)).logits
    handle.remove()
    return torch.autograd.grad(logits[0, -1, 5], leaf)[0]


def test_a_gradient_equals_autograd_by_hand(bench):
    expected = by_hand(bench, PROMPT)
    assert np.allclose(bench.run(gradient("layers.0.resid_post"))["gradient"], expected, atol=1e-6)


def test_positions_of_the_read_are_positions_of_the_gradient(bench):
    expected = by_hand(bench, PROMPT)
    result = bench.run(gradient("layers.0.resid_post", positions=(-1, 1)))
    assert np.allclose(result["gradient"], expected[:, [-1, 1]], atol=1e-6)


def test_gradients_that_share_a_pass_equal_those_taken_alone(bench):
    prompts = (PROMPT, "Lisbon is the capital", "Once upon a time")
    requests = [gradient(site, prompt) for prompt in prompts for site in SITES]
    together = bench.run_all(*requests)
    assert max(result.done.cost.shared_with[0] for result in together) >= 6
    for request, shared in zip(requests, together, strict=True):
        alone = bench.run(request)["gradient"]
        assert np.abs(shared["gradient"] - alone).max() <= 1e-5 * np.abs(alone).max()


def test_several_targets_and_several_values_of_one_request(bench):
    nodes = [
        read("layers.0.resid_post"),
        read("layers.1.resid_post"),
        read("logits", positions=(-1,)),
        call("tensor.getitem", Ref(2), (0, 0, 5)),
        call("tensor.getitem", Ref(2), (0, 0, 7)),
        *(call("site.grad", Ref(target), Ref(wrt)) for target in (3, 4) for wrt in (0, 1)),
        call("torch.sub", Ref(5), Ref(7)),
        call("torch.sub", Ref(3), Ref(4)),
        call("site.grad", Ref(10), Ref(0)),
    ]
    result = bench.run(ask(nodes, {"difference": 9, "of_difference": 11, "late": 6, "other": 8}, PROMPT))
    assert np.allclose(result["difference"], result["of_difference"], atol=1e-5)
    assert np.allclose(result["late"], by_hand(bench, PROMPT, layer=1), atol=1e-6)


def test_a_gradient_is_taken_under_the_writes_of_its_graph(bench):
    site, zero = "layers.1.resid_post", TensorData.from_numpy(np.zeros((1, 1, 24), np.float32))
    nodes = [read("layers.0.resid_post"), write(zero, site), read("logits"), call("torch.sum", Ref(2))]
    nodes.append(call("site.grad", Ref(3), Ref(0)))
    assert not bench.run(ask(nodes, {"gradient": 4}, PROMPT))["gradient"].any()


def test_a_read_after_a_write_at_the_same_site_has_the_gradient_of_what_was_written(bench):
    site = "layers.1.resid_post"
    nodes = [
        read(site),
        call("torch.mul", Ref(0), 2.0),
        write(Ref(1), site),
        read(site),
        read("logits"),
        call("torch.sum", Ref(4)),
        call("site.grad", Ref(5), Ref(3)),
        call("site.grad", Ref(5), Ref(0)),
    ]
    result = bench.run(ask(nodes, {"of_written": 6, "of_read": 7}, PROMPT))
    assert np.allclose(result["of_read"], 2 * result["of_written"], rtol=1e-5)


def test_patched_values_carry_gradients_from_prompt_to_prompt(bench):
    site = "layers.0.resid_post"
    nodes = [
        read(site),
        read(site, invoke=1),
        call("tensor.getitem", Ref(0), (0, -1)),
        call("tensor.setitem", Ref(1), (0, -1), Ref(2)),
        write(Ref(3), site, invoke=1),
        read("logits", invoke=1),
        call("torch.sum", Ref(5)),
        call("site.grad", Ref(6), Ref(0)),
    ]
    result = bench.run(ask(nodes, {"gradient": 7}, PROMPT, "Once upon a time"))
    assert not result["gradient"][0, :-1].any()
    assert result["gradient"][0, -1].any()


def test_gradients_flow_from_a_later_pass_into_an_earlier_one(bench):
    nodes = [
        read("layers.2.resid_post"),
        write(Ref(0), "layers.0.resid_post", invoke=1),
        read("logits", invoke=1),
        call("torch.sum", Ref(2)),
        call("site.grad", Ref(3), Ref(0)),
    ]
    result = bench.run(ask(nodes, {"gradient": 4}, PROMPT, PROMPT))
    assert result.done.cost.n_passes == 2
    assert result["gradient"].any()


def test_what_follows_a_gradient_is_computed_from_it(bench):
    nodes = [*gradient("layers.0.resid_post").graph.nodes, call("torch.mul", Ref(0), Ref(3))]
    result = bench.run(ask(nodes, {"value": 0, "gradient": 3, "product": 4}, PROMPT))
    assert np.array_equal(result["product"], result["value"] * result["gradient"])


@pytest.mark.parametrize(
    ("wrt", "invoke"), [("layers.2.resid_post", 0), ("layers.0.resid_post", 1)], ids=["later", "another prompt"]
)
def test_a_target_that_does_not_reach_the_value_is_an_error_that_names_both(bench, wrt, invoke):
    nodes = [
        read("layers.1.resid_post"),
        call("torch.sum", Ref(0)),
        read(wrt, invoke=invoke),
        call("site.grad", Ref(1), Ref(2)),
    ]
    error = bench.run(ask(nodes, {"gradient": 3}, PROMPT, PROMPT)).error
    assert isinstance(error, CallerError)
    assert "nodes[1]" in str(error)
    assert "nodes[2]" in str(error)


def test_a_target_that_cannot_be_differentiated_leaves_the_neighbours_gradients_alone(bench):
    nodes = [*gradient(SITES[1]).graph.nodes[:2], call("tensor.getitem", Ref(1), (0, 0, 5))]
    nodes += [call("tensor.detach", Ref(2)), call("site.grad", Ref(3), Ref(0))]
    bad, good = bench.run_all(ask(nodes, {"gradient": 4}, PROMPT), gradient(SITES[1]))
    assert isinstance(bad.error, InterpdError)
    assert np.allclose(good["gradient"], by_hand(bench, PROMPT), atol=1e-6)


def sum_by(target, *wrt, before=()):
    """A request for the gradients of the sum of one read by others."""
    nodes = [*before, *map(read, wrt), read(target)]
    last = len(nodes) - 1
    nodes.append(call("torch.sum", Ref(last)))
    first = len(before)
    nodes += [call("site.grad", Ref(last + 1), Ref(first + i)) for i in range(len(wrt))]
    return ask(nodes, {site: last + 2 + i for i, site in enumerate(wrt)} | {"target": last}, PROMPT)


def test_sites_of_one_place_are_differentiated_by_whatever_the_order_of_their_reads(gpt2):
    site, raw = "layers.0.resid_post", "transformer.h.0.output"
    nodes = [read(site), read(raw), read(site), call("torch.sum", Ref(2))]
    nodes += [call("site.grad", Ref(3), Ref(i)) for i in range(3)]
    result = gpt2.run(ask(nodes, {"first": 4, "raw": 5, "again": 6}, PROMPT))
    assert all((result[name] == 1).all() for name in ("first", "raw", "again"))


def test_the_branch_has_a_gradient_at_every_place_of_it(gpt2):
    places = ("layers.1.resid_mid", "layers.1.mlp.out", "transformer.h.1.mlp.dropout.output")
    result = gpt2.run(sum_by("layers.1.resid_post", *places))
    assert all((result[place] == 1).all() for place in places[1:])


def test_asking_for_a_gradient_changes_no_value(gpt2):
    zeros = TensorData.from_numpy(np.zeros((1, 1, 24), np.float32))
    request = sum_by("logits", "layers.1.resid_mid", before=[write(zeros, "transformer.h.1.ln_2.input")])
    without = ask(request.graph.nodes[:3], {"middle": 1, "logits": 2}, PROMPT)
    assert np.allclose(gpt2.run(request)["target"], gpt2.run(without)["logits"], atol=1e-5)


def test_a_value_that_the_target_is_not_made_of_has_a_zero_gradient_alone_and_in_company(bench):
    keys_by_queries = sum_by("layers.1.attn.k", "layers.1.attn.q")
    alone = bench.run(keys_by_queries)
    shared, _ = bench.run_all(keys_by_queries, sum_by("layers.1.attn.k", "embed"))
    assert shared.done.cost.shared_with == (2,)
    assert not alone["layers.1.attn.q"].any()
    assert not shared["layers.1.attn.q"].any()


def test_a_stranger_may_go_on_to_the_sum_where_a_request_ended_between_the_branches(bench):
    ends_early = sum_by("layers.1.resid_mid", "layers.1.resid_mid")
    results = bench.run_all(ends_early, sum_by("layers.1.resid_post", "layers.1.resid_post"))
    assert [result.done.cost.shared_with for result in results] == [(2,), (2,)]
    assert (results[0]["layers.1.resid_mid"] == 1).all()
