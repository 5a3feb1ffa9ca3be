"""Reads and writes of a graph against the bare Hugging Face model with hooks written by hand."""

import numpy as np
import pytest
import torch

from interpd.graph.ir import Ref, Slice
from interpd.graph.types import TensorData
from interpd.testing.bench import ask, call, read, write

PROMPTS = ("The cat sat", "Lisbon is the capital of Portugal.", "Once upon a time", "a")

LAYER_1 = {"gpt2": "transformer.h.1", "llama": "model.layers.1"}


def block(bench, layer=1):
    path = LAYER_1[bench.model.config.model_type].replace("1", str(layer))
    return bench.model.get_submodule(path)


def with_hook(bench, prompt, change, layer=1):
    """The logits of the bare model while ``change`` is applied to the output of a block."""
    handle = block(bench, layer).register_forward_hook(lambda module, args, output: change(output))
    try:
        return bench.model(bench.ids(prompt)).logits.detach()
    finally:
        handle.remove()


def close(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() <= 1e-5 * np.abs(np.asarray(b)).max()


def test_a_graph_without_writes_gives_the_logits_of_the_model_bit_for_bit(bench):
    result = bench.run(ask([read("logits")], {"logits": 0}, PROMPTS[0]))
    assert np.array_equal(result["logits"], bench.model(bench.ids(PROMPTS[0])).logits.detach())


def test_writing_back_what_was_read_changes_no_bit_of_the_logits(bench):
    sites = [site.name for site in bench.engine.describe().sites.values() if site.canonical and site.writable]
    sites = [name for name in sites if name != "logits" and not name.rpartition(".")[2].startswith(("q_", "k_"))]
    sites = [name for name in sites if not name.endswith(("scores", "pattern"))]
    nodes = []
    for name in sites:
        nodes += [read(name), write(Ref(len(nodes)), name)]
    result = bench.run(ask([*nodes, read("logits")], {"logits": len(nodes)}, PROMPTS[0]))
    assert np.array_equal(result["logits"], bench.model(bench.ids(PROMPTS[0])).logits.detach())


def test_a_write_equals_a_forward_hook_on_the_bare_model(bench):
    vector = torch.linspace(-1, 1, 24)
    nodes = [
        read("layers.1.resid_post"),
        call("torch.add", Ref(0), TensorData.from_numpy(vector.numpy())),
        write(Ref(1), "layers.1.resid_post"),
        read("logits"),
    ]
    result = bench.run(ask(nodes, {"logits": 3}, PROMPTS[0]))
    assert torch.equal(torch.tensor(result["logits"]), with_hook(bench, PROMPTS[0], lambda output: output + vector))


def test_an_indexed_write_equals_a_slice_assignment(bench):
    nodes = [
        read("layers.1.resid_post"),
        call("tensor.setitem", Ref(0), (Slice(), -1), 0.5),
        write(Ref(1), "layers.1.resid_post"),
        read("logits"),
    ]

    def change(output):
        output = output.clone()
        output[:, -1] = 0.5
        return output

    result = bench.run(ask(nodes, {"logits": 3}, PROMPTS[0]))
    assert torch.equal(torch.tensor(result["logits"]), with_hook(bench, PROMPTS[0], change))


def test_a_write_between_the_branches_reaches_both_of_them(bench):
    zeros = TensorData.from_numpy(np.zeros((1, 1, 24), np.float32))
    nodes = [
        write(zeros, "layers.1.resid_mid"),
        read("layers.1.mlp.out"),
        read("layers.1.resid_post"),
    ]
    result = bench.run(ask(nodes, {"branch": 1, "total": 2}, PROMPTS[0]))
    assert np.array_equal(result["branch"], result["total"])


def test_reads_and_writes_at_one_site_act_in_the_order_of_the_list(bench):
    site = "layers.0.resid_post"
    nodes = [
        read(site),
        call("torch.mul", Ref(0), 2.0),
        write(Ref(1), site),
        read(site),
        call("torch.mul", Ref(3), 2.0),
        write(Ref(4), site),
        read(site),
    ]
    result = bench.run(ask(nodes, {"first": 0, "second": 3, "third": 6}, PROMPTS[0]))
    assert np.array_equal(result["second"], 2 * result["first"])
    assert np.array_equal(result["third"], 4 * result["first"])


def test_heads_of_a_fused_projection_are_written_alone(bench):
    zero = TensorData.from_numpy(np.zeros((1,), np.float32))
    nodes = [
        read("layers.1.attn.q"),
        read("layers.1.attn.k"),
        write(zero, "layers.1.attn.v"),
        read("layers.1.attn.q"),
        read("layers.1.attn.k"),
        read("layers.1.attn.z"),
    ]
    result = bench.run(ask(nodes, {"q": 0, "k": 1, "q2": 3, "k2": 4, "z": 5}, PROMPTS[0]))
    assert np.array_equal(result["q"], result["q2"])
    assert np.array_equal(result["k"], result["k2"])
    assert not result["z"].any()


def test_positions_are_those_of_the_prompt_whatever_shares_the_pass(bench):
    requests = [ask([read("layers.1.resid_post", positions=(-1, 0))], {"h": 0}, prompt) for prompt in PROMPTS]
    for request, result in zip(requests, bench.run_all(*requests), strict=True):
        hidden = bench.model(bench.ids(request.prompts[0].text), output_hidden_states=True).hidden_states[2]
        assert close(result["h"], hidden[:, [-1, 0]].detach())


def graphs(prompt):
    """Different graphs that may all share a pass."""
    site = "layers.1.resid_post"
    return [
        ask([read("logits")], {"out": 0}, prompt),
        ask([read("logits", positions=(-1,)), call("torch.topk", Ref(0), k=3)], {"out": Ref(1, 0)}, prompt),
        ask([read(site), call("torch.mul", Ref(0), 3.0), write(Ref(1), site), read("logits")], {"out": 3}, prompt),
        ask([write(TensorData.from_numpy(np.ones(1, np.float32)), "layers.0.attn.z"), read(site)], {"out": 1}, prompt),
        ask([read("layers.0.mlp.post"), call("torch.mean", Ref(0), dim=(1,))], {"out": 1}, prompt),
    ]


def test_requests_that_share_a_pass_get_the_numbers_they_get_alone(bench):
    requests = [request for prompt in PROMPTS for request in graphs(prompt)]
    together = bench.run_all(*requests)
    assert max(result.done.cost.shared_with[0] for result in together) >= 8
    for request, shared in zip(requests, together, strict=True):
        alone = bench.run(request)
        assert alone.done.cost.shared_with == (1,)
        assert shared["out"].shape == alone["out"].shape
        assert close(shared["out"], alone["out"])


def test_attention_patterns_are_those_of_the_eager_model(bench):
    requests = [ask([read("layers.1.attn.pattern")], {"pattern": 0}, prompt) for prompt in PROMPTS[:3]]
    bench.model.set_attn_implementation("eager")
    try:
        expected = [
            bench.model(bench.ids(request.prompts[0].text), output_attentions=True).attentions[1]
            for request in requests
        ]
    finally:
        bench.model.set_attn_implementation("sdpa")
    for pattern, result in zip(expected, bench.run_all(*requests), strict=True):
        assert close(result["pattern"], pattern.detach())


def test_a_reproducible_run_is_alone_and_gives_the_same_bits(bench):
    request = ask([read("logits")], {"logits": 0}, PROMPTS[0], reproducible=True)
    strangers = [ask([read("logits")], {"logits": 0}, prompt) for prompt in PROMPTS]
    among, *_ = bench.run_all(request, *strangers)
    assert among.done.cost.shared_with == (1,)
    assert np.array_equal(among["logits"], bench.run(request)["logits"])


@pytest.mark.parametrize("site", ["layers.0.resid_post", "embed"])
def test_a_pass_stops_after_the_last_site_that_is_needed(gpt2, site):
    calls = []
    handles = [
        layer.register_forward_hook(lambda *_, index=index: calls.append(index))
        for index, layer in enumerate(gpt2.model.transformer.h)
    ]
    result = gpt2.run(ask([read(site)], {"h": 0}, PROMPTS[0]))
    for handle in handles:
        handle.remove()
    assert result.done.cost.n_layers_run == (1 if "0" in site else 0)
    assert calls == []  # a hook runs when its module returns: not even layer 0 went on after its own output


def test_logits_are_computed_only_where_somebody_reads_them(gpt2):
    shapes = []
    handle = gpt2.model.lm_head.register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape[1]))
    texts = ("The cat sat on", "The cat sat by")
    first, second = (ask([read("logits", positions=(-1,))], {"l": 0}, text) for text in texts)
    gpt2.run_all(first, second)
    gpt2.run(ask([read("logits", positions=(0, -1))], {"l": 0}, texts[0]))
    gpt2.run(ask([read("ln_final")], {"l": 0}, texts[0]))
    handle.remove()
    assert [n for n in shapes if n > 2] == []


def places_in_the_mlp(bench):
    """Raw paths at which the branch passes, with what makes all of it zero there."""
    if bench.model.config.model_type == "gpt2":
        return [f"{LAYER_1['gpt2']}.mlp.{leaf}" for leaf in ("c_proj.output", "dropout.output", "output")]
    return [f"{LAYER_1['llama']}.mlp.{leaf}" for leaf in ("down_proj.output", "output")]


def test_what_is_written_inside_the_mlp_reaches_the_sum_under_a_write_between_the_branches(bench):
    zeros = TensorData.from_numpy(np.zeros((1, 1, 24), np.float32))
    for site in ("layers.1.mlp.out", *places_in_the_mlp(bench)):
        nodes = [
            read("layers.1.resid_mid"),
            call("torch.mul", Ref(0), 2.0),
            write(Ref(1), "layers.1.resid_mid"),
            write(zeros, site),
            read("layers.1.resid_post"),
        ]
        result = bench.run(ask(nodes, {"written": 1, "total": 4}, PROMPTS[0]))
        assert np.array_equal(result["total"], result["written"]), site


def test_a_value_with_leading_dimensions_of_size_one_is_written_as_torch_assigns_it(bench):
    value = TensorData.from_numpy(np.ones((1, 1, 1, 24), np.float32))
    result = bench.run(ask([write(value, "embed"), read("embed")], {"embed": 1}, PROMPTS[0]))
    assert (result["embed"] == 1).all()


def test_integers_that_index_a_table_can_only_be_read(bench):
    path = {"gpt2": "transformer.wte", "llama": "model.embed_tokens"}[bench.model.config.model_type]
    ids = TensorData.from_numpy(np.full((1, 1), 10**6))
    nodes = [write(ids, f"{path}.input"), read("logits")]
    error = bench.run(ask(nodes, {"logits": 1}, PROMPTS[0])).error
    assert "can only be read" in str(error)
    result = bench.run(ask([read(f"{path}.input")], {"ids": 0}, PROMPTS[0]))
    assert np.array_equal(result["ids"], bench.ids(PROMPTS[0]))


@pytest.mark.parametrize("reproducible", [False, True])
def test_prompts_share_no_pass_at_a_site_without_rows(gpt2, reproducible):
    nodes = [read("transformer.wpe.output"), read("transformer.wpe.output", invoke=1)]
    request = ask(nodes, {"a": 0, "b": 1}, PROMPTS[0], PROMPTS[2], reproducible=reproducible)
    assert "give each prompt a request of its own" in str(gpt2.run(request).error)
