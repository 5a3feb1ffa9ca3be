"""Tables that name a module which exists, but not the one they mean: the site is absent, with the reason."""

from dataclasses import replace

import pytest
import torch

from interpd.config import ModelSpec
from interpd.engine.families import table_of
from interpd.engine.resident import Loaded, make_resident
from interpd.testing.tiny_models import tiny_model


class Registry:
    """A plugin registry with one table."""

    def __init__(self, table):
        self.table = table

    def sites_for_model(self, model_config):
        return self.table


def failures(architecture, *, dtype=torch.float32, **changes):
    """What fails at layer 1, by name, when the rows of these sites are changed; ``changes``: the fields by site."""
    tiny = tiny_model(architecture)
    model = tiny.model.to(dtype).requires_grad_(False)
    table = table_of(type(model).__name__, model.config)
    of_site = {f"layers.{{i}}.{name.replace('__', '.')}": fields for name, fields in changes.items()}
    rows = tuple(replace(row, **of_site.get(row.name, {})) for row in table.rows)
    resident = make_resident(Loaded(model, None, ModelSpec("tiny"), ""), Registry(replace(table, rows=rows)))
    layer = "layers.1."
    return {
        site.name.removeprefix(layer): site.reason.removeprefix("self-test: ").partition(" (relative error")[0]
        for site in resident.absent_sites
        if site.name.startswith(layer) and site.reason.startswith("self-test")
    }


def module(path):
    return {"path": f"model.layers.{{i}}.{path}"}


def test_keys_and_values_swapped():
    found = failures("llama", attn__k=module("self_attn.v_proj"), attn__v=module("self_attn.k_proj"))
    assert found == {
        "attn.k": "layers.1.attn.k_rot at the first position is not layers.1.attn.k",
        "attn.v": "layers.1.attn.z is not layers.1.attn.pattern times layers.1.attn.v",
        "attn.z": "layers.1.attn.z is not layers.1.attn.pattern times layers.1.attn.v",
    }


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_queries_and_keys_swapped_where_nothing_rotates_them(dtype):
    found = failures("gpt2", dtype=dtype, attn__q={"part": 1}, attn__k={"part": 0})
    reason = "layers.1.attn.scores is not in proportion to the products of layers.1.attn.q and layers.1.attn.k"
    assert found == {"attn.q": reason, "attn.k": reason}


@pytest.mark.slow
def test_queries_and_keys_swapped_where_only_the_pattern_can_be_seen():
    paths = [{"path": f"transformer.h.{{i}}.attn.attention.{name}_proj"} for name in "kq"]
    found = failures("gpt_neo", attn__q=paths[0], attn__k=paths[1])
    reason = "layers.1.attn.pattern is not in proportion to the products of layers.1.attn.q and layers.1.attn.k"
    assert found == {"attn.q": reason, "attn.k": reason}


def test_heads_in_another_order():
    """The fused projection of GPT-NeoX read as that of GPT-2: thirds instead of heads."""
    thirds = {"view": "fused", "parts": (("head", "d_head"),) * 3}
    found = failures("gpt_neox", attn__q=thirds, attn__k=thirds, attn__v=thirds)
    assert found.keys() == {"attn.q", "attn.k", "attn.v", "attn.z"}
    assert found["attn.q"] == "layers.1.attn.q_rot at the first position is not layers.1.attn.q"


@pytest.mark.slow
def test_queries_before_their_norm():
    found = failures("qwen3", attn__q={"path": "model.layers.{i}.self_attn.q_proj", "view": "heads"})
    assert found == {"attn.q": "layers.1.attn.q_rot at the first position is not layers.1.attn.q"}


def test_gate_and_up_swapped():
    found = failures("phi3", mlp__gate={"part": 1}, mlp__up={"part": 0})
    reason = "layers.1.mlp.post is not the activated layers.1.mlp.gate times layers.1.mlp.up"
    assert found == dict.fromkeys(("mlp.gate", "mlp.up", "mlp.post"), reason)


@pytest.mark.slow
def test_neurons_before_the_activation_that_are_behind_it():
    found = failures("gpt_neox", mlp__pre={"path": "gpt_neox.layers.{i}.mlp.dense_4h_to_h", "port": "input"})
    assert found == dict.fromkeys(("mlp.pre", "mlp.post"), "layers.1.mlp.post is not the activated layers.1.mlp.pre")


def test_what_attention_gives_out_taken_for_what_it_adds():
    """Gemma 2 norms it before it adds it; the stream before and after it is confirmed otherwise."""
    found = failures("gemma2", attn__out=module("self_attn.o_proj"))
    assert found == {"attn.out": "layers.1.resid_mid is not layers.1.resid_pre + layers.1.attn.out"}


@pytest.mark.slow
def test_what_the_mlp_gives_out_taken_for_what_it_adds():
    found = failures("gemma3", mlp__out=module("mlp"))
    assert found == {
        "mlp.out": "layers.1.resid_post is not layers.1.resid_mid + layers.1.mlp.out",
        "resid_mid": "a write is carried by layers.1.mlp.out, which is absent",
    }


def test_a_parallel_block_taken_for_one_in_which_the_mlp_follows():
    tiny = tiny_model("gpt_neox")
    config = tiny_model("gpt_neox_sequential").model.config
    table = replace(table_of("GPTNeoXForCausalLM", config), when={})
    resident = make_resident(Loaded(tiny.model.requires_grad_(False), None, ModelSpec("tiny"), ""), Registry(table))
    absent = {site.name: site.reason for site in resident.absent_sites}
    assert "layers.1.resid_mid is not layers.1.resid_pre + layers.1.attn.out" in absent["layers.1.resid_mid"]


@pytest.mark.slow
def test_a_stream_that_skips_a_block():
    found = failures("mistral", resid_pre={"path": "model.layers.{i}.self_attn.o_proj", "port": "output"})
    # nothing else tells the two that are added apart
    assert found == {
        "resid_pre": "layers.1.resid_pre is not layers.0.resid_post",
        "attn.out": "layers.1.resid_mid is not layers.1.resid_pre + layers.1.attn.out",
    }


@pytest.mark.slow
def test_a_norm_behind_the_sum_left_out():
    found = failures("opt_post_norm", resid_mid={"sum_through": ""}, resid_post={"sum_through": ""})
    assert found["resid_mid"] == "layers.1.resid_mid is not layers.1.resid_pre + layers.1.attn.out"


@pytest.mark.slow
def test_a_module_that_the_table_names_and_the_model_has_not():
    tiny = tiny_model("phi3")
    table = table_of("Phi3ForCausalLM", tiny.model.config)
    table = replace(table, activation="model.layers.{i}.mlp.act_fn", attention="model.layers.{i}.attention")
    resident = make_resident(Loaded(tiny.model.requires_grad_(False), None, ModelSpec("tiny"), ""), Registry(table))
    absent = {site.name: site.reason for site in resident.absent_sites}
    assert absent["layers.0.mlp.gate"].endswith("the model has no module 'model.layers.0.mlp.act_fn'")
    assert "names 'model.layers.0.attention' as attention" in absent["layers.0.attn.pattern"]
