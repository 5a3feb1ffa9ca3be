"""Canonical sites against transformers' own outputs and against the weights; raw paths against plain hooks."""

import pytest
import torch

from interpd.engine.hooks import run_with_edits
from interpd.engine.probe import forward_inputs, probe_ids

TABLED = ("gpt2", "llama", "mistral", "qwen2")


def read(resident, inputs, *names, **edits):
    seen = {}

    def reader(name):
        return lambda value: seen.setdefault(name, value)

    found = {name: reader(name) for name in names}
    logits = run_with_edits(resident.model, inputs, resident.bindings, {**edits, **found})
    return logits, seen


@pytest.fixture(params=TABLED)
def resident(request, residents):
    return residents(request.param)


@pytest.fixture
def inputs(resident):
    return forward_inputs(resident.model, probe_ids(resident.model, 2, 5))


@torch.no_grad()
def test_the_residual_stream_is_the_hidden_states_of_transformers(resident, inputs):
    hidden = resident.model(**inputs, output_hidden_states=True).hidden_states
    pre = [f"layers.{layer}.resid_pre" for layer in range(3)]
    _, seen = read(resident, inputs, *pre, "layers.0.resid_post", "layers.1.resid_post", "ln_final")
    for layer, name in enumerate(pre):
        assert torch.equal(seen[name], hidden[layer])
    assert torch.equal(seen["layers.1.resid_post"], hidden[2])
    assert torch.equal(seen["ln_final"], hidden[3])


@torch.no_grad()
def test_a_block_adds_its_two_branches_to_the_stream(resident, inputs):
    names = [f"layers.1.{part}" for part in ("resid_pre", "attn.out", "resid_mid", "mlp.out", "resid_post")]
    _, seen = read(resident, inputs, *names)
    pre, attn, mid, mlp, post = (seen[name] for name in names)
    assert torch.equal(mid, pre + attn)
    assert torch.equal(post, mid + mlp)


@torch.no_grad()
def test_embed_has_no_positions(resident, inputs):
    _, seen = read(resident, inputs, "embed")
    assert torch.equal(seen["embed"], resident.model.get_input_embeddings().weight[inputs["input_ids"]])


@torch.no_grad()
def test_logits_are_what_the_model_returns(resident, inputs):
    logits, seen = read(resident, inputs, "logits")
    assert torch.equal(seen["logits"], logits)


def test_every_tabled_site_is_there_in_every_layer(resident):
    parts = {"resid_pre", "resid_mid", "resid_post", "mlp.post", "mlp.out"}
    parts |= {f"attn.{name}" for name in ("q", "k", "v", "scores", "pattern", "z", "out")}
    parts |= {"mlp.pre"} if resident.info.family == "gpt2" else {"mlp.gate", "mlp.up", "attn.q_rot", "attn.k_rot"}
    canonical = {name for name, site in resident.sites.items() if site.canonical}
    assert canonical == {f"layers.{i}.{part}" for i in range(3) for part in parts} | {"embed", "ln_final", "logits"}


@torch.no_grad()
def test_gpt2_queries_keys_and_values_are_thirds_of_the_fused_projection(residents):
    resident = residents("gpt2")
    inputs = forward_inputs(resident.model, probe_ids(resident.model, 2, 5))
    _, seen = read(resident, inputs, *(f"layers.2.attn.{name}" for name in "qkv"), "transformer.h.2.ln_1.output")
    attention = resident.model.transformer.h[2].attn
    fused = seen["transformer.h.2.ln_1.output"] @ attention.c_attn.weight + attention.c_attn.bias
    for part, name in enumerate("qkv"):
        by_hand = fused[..., part * 24 : (part + 1) * 24].reshape(2, 5, 4, 6)
        assert torch.allclose(seen[f"layers.2.attn.{name}"], by_hand, atol=1e-5)


@torch.no_grad()
def test_llama_queries_and_keys_are_their_projections_by_head(residents):
    resident = residents("llama")
    inputs = forward_inputs(resident.model, probe_ids(resident.model, 2, 5))
    norm = "model.layers.2.input_layernorm.output"
    _, seen = read(resident, inputs, "layers.2.attn.q", "layers.2.attn.k", norm)
    attention = resident.model.model.layers[2].self_attn
    assert torch.equal(seen["layers.2.attn.q"], attention.q_proj(seen[norm]).reshape(2, 5, 4, 10))
    assert torch.equal(seen["layers.2.attn.k"], attention.k_proj(seen[norm]).reshape(2, 5, 2, 10))


@torch.no_grad()
def test_heads_of_z_add_up_to_what_attention_adds(resident, inputs):
    _, seen = read(resident, inputs, "layers.0.attn.z", "layers.0.attn.out")
    location = resident.bindings["layers.0.attn.out"].location
    projection = resident.module(location.path)
    whole = seen["layers.0.attn.z"]
    nothing = projection(torch.zeros_like(whole.flatten(2)))
    by_head = sum(projection((whole * (torch.arange(4) == head)[:, None]).flatten(2)) - nothing for head in range(4))
    assert torch.allclose(by_head + nothing, seen["layers.0.attn.out"], atol=1e-4)


@torch.no_grad()
def test_mlp_neurons_are_the_activated_gate_times_up(residents):
    resident = residents("llama")
    inputs = forward_inputs(resident.model, probe_ids(resident.model, 1, 5))
    names = [f"layers.1.mlp.{name}" for name in ("gate", "up", "post")]
    _, seen = read(resident, inputs, *names)
    gate, up, post = (seen[name] for name in names)
    assert torch.equal(torch.nn.functional.silu(gate) * up, post)


def test_merging_what_was_viewed_gives_back_every_bit(resident):
    for binding in resident.bindings.values():
        if binding.view is None or not binding.site.canonical:
            continue
        full = torch.randn(_full_shape(resident, binding))
        assert torch.equal(binding.merge(full, binding.view(full)), full)


def _full_shape(resident, binding):
    sizes = resident.info.sizes
    if "rot" in binding.site.name:
        return (2, sizes["kv_head" if "k_rot" in binding.site.name else "head"], 5, sizes["d_head"])
    if resident.info.family == "gpt2" and binding.location.path.endswith("c_attn"):
        return (2, 5, 3 * sizes["d_model"])
    return (2, 5, binding.site.type.dims[2].size * sizes["d_head"])


def test_views_and_merges_let_gradients_through(resident):
    for name in ("layers.0.attn.q", "layers.0.attn.z"):
        binding = resident.bindings[name]
        full = torch.randn(_full_shape(resident, binding), requires_grad=True)
        value = binding.view(full)
        binding.merge(full, value * 2).sum().backward()
        assert full.grad is not None
        assert full.grad.abs().min() >= 1


@torch.no_grad()
def test_a_write_at_resid_mid_reaches_the_stream_where_the_raw_path_does_not(resident, inputs):
    mid = resident.bindings["layers.1.resid_mid"].location
    raw = f"{mid.path}.input"
    post = "layers.1.resid_post"
    for site, reaches in (("layers.1.resid_mid", True), (raw, False)):
        _, seen = read(resident, inputs, "layers.1.mlp.out", post, **{site: lambda value: torch.zeros_like(value)})
        assert torch.equal(seen[post], seen["layers.1.mlp.out"]) is reaches


def test_orders_follow_the_forward_pass(resident):
    parts = ("resid_pre", "attn.q", "attn.scores", "attn.pattern", "attn.z", "attn.out", "resid_mid", "mlp.post")
    names = ["embed", *(f"layers.{i}.{part}" for i in range(3) for part in parts), "ln_final", "logits"]
    orders = [resident.sites[name].order for name in names]
    assert orders == sorted(set(orders))
    assert all(binding.site.order == binding.location.order for binding in resident.bindings.values())


def test_layers_count_from_before_the_first_to_after_the_last(resident):
    layers = {name: resident.sites[name].layer for name in ("embed", "layers.2.attn.q", "ln_final", "logits")}
    assert layers == {"embed": -1, "layers.2.attn.q": 2, "ln_final": 3, "logits": 3}


def test_types_name_their_axes_and_leave_positions_open(residents):
    types = {name: str(site.type) for name, site in residents("llama").sites.items()}
    assert types["layers.0.resid_mid"] == "float32[batch=1 pos=? d_model=24]"
    assert types["layers.0.attn.q"] == "float32[batch=1 pos=? head=4 d_head=10]"
    assert types["layers.0.attn.v"] == "float32[batch=1 pos=? kv_head=2 d_head=10]"
    assert types["layers.0.attn.k_rot"] == "float32[batch=1 key_pos=? kv_head=2 d_head=10]"
    assert types["layers.0.attn.pattern"] == "float32[batch=1 head=4 query_pos=? key_pos=?]"
    assert types["layers.0.mlp.post"] == "float32[batch=1 pos=? d_mlp=44]"
    assert types["model.layers.0.self_attn.output"] == "float32[batch=1 pos=? d_model=24]"


@pytest.mark.parametrize(
    ("architecture", "site"), [("gpt2", "transformer.wpe.output"), ("llama", "model.rotary_emb.output.1")]
)
def test_what_all_rows_have_in_common_shares_no_pass(residents, architecture, site):
    sites = residents(architecture).sites
    assert not sites[site].shares_pass
    assert [name for name, schema in sites.items() if not schema.shares_pass and schema.canonical] == []


def test_an_architecture_without_a_table_has_embed_logits_and_raw_paths(residents):
    resident = residents("granite")
    assert [name for name, site in resident.sites.items() if site.canonical] == ["embed", "logits"]
    assert resident.sites["model.layers.1.mlp.act_fn.output"].layer == 1
    assert resident.info.family == ""


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["granite", "cohere", "gemma2"])
def test_logits_are_those_behind_what_the_model_does_to_its_head(residents, architecture):
    resident = residents(architecture)
    inputs = forward_inputs(resident.model, probe_ids(resident.model, 2, 5))
    logits, seen = read(resident, inputs, "logits", "lm_head.output")
    assert torch.equal(seen["logits"], logits)
    assert not torch.allclose(logits, seen["lm_head.output"])


def test_taps_are_no_raw_paths(resident):
    assert [name for name, site in resident.sites.items() if not site.canonical and "interpd_taps" in name] == []
