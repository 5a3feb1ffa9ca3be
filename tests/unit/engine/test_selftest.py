"""The self-test: a site that is not what it claims is found, with the reason; a good one never is."""

from dataclasses import replace

import pytest
import torch

from interpd.config import ModelSpec
from interpd.engine.attention import AttentionSwitch
from interpd.engine.families.gpt2 import GPT2
from interpd.engine.resident import Loaded, make_resident
from interpd.engine.selftest import failing_sites
from interpd.graph.types import Dim, TensorType
from interpd.testing.tiny_models import tiny_gpt2, tiny_llama

SITE = "layers.1.mlp.out"


def judge(resident, **changes):
    """The verdict on SITE, with its binding changed."""
    bindings = {name: binding for name, binding in resident.bindings.items() if binding.site.canonical}
    bindings[SITE] = replace(bindings[SITE], **changes)
    failures = failing_sites(resident.model, AttentionSwitch(resident.model), bindings, GPT2)
    assert set(failures) <= {SITE, "layers.1.resid_mid"}
    return failures.get(SITE, "")


@pytest.fixture
def resident(residents):
    return residents("gpt2")


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mistral", "qwen2", "gpt_neox"])
def test_all_sites_of_a_sound_model_pass(residents, architecture):
    assert not [site for site in residents(architecture).absent_sites if site.reason.startswith("self-test")]


def test_a_wrong_shape_is_found(resident):
    dims = (Dim("batch", 1), Dim("pos"), Dim("d_mlp", 44))
    site = replace(resident.sites[SITE], type=TensorType("float32", dims))
    assert judge(resident, site=site) == "shape [16, 3, 24], declared [16, 3, 44]"


def test_a_write_that_does_not_put_back_what_was_read_is_found(resident):
    reason = judge(resident, merge=lambda full, value: value * (1 + 1e-6))
    assert reason == "writing back what was read changes the logits"


def test_a_write_that_takes_no_effect_is_found(resident):
    assert judge(resident, merge=lambda full, value: full) == "a write does not change the logits"


def test_a_write_that_reaches_another_row_is_found(resident):
    def merge(full, value):
        # what is written in any row is added to row 0
        return full + (value - full) + (value - full).sum(0) * (torch.arange(len(full)) == 0)[:, None, None]

    bindings = {SITE: replace(resident.bindings[SITE], merge=merge)}
    failures = failing_sites(resident.model, AttentionSwitch(resident.model), bindings, GPT2)
    assert failures == {SITE: "a write in one row changes another row"}


def test_a_branch_that_does_not_make_up_the_sum_is_found(resident):
    elsewhere = resident.bindings["layers.1.attn.out"].location
    bindings = {name: binding for name, binding in resident.bindings.items() if binding.site.canonical}
    bindings[SITE] = replace(bindings[SITE], location=elsewhere)
    failures = failing_sites(resident.model, AttentionSwitch(resident.model), bindings, GPT2)
    assert failures == {
        SITE: "layers.1.resid_post is not layers.1.resid_mid + layers.1.mlp.out",
        "layers.1.resid_mid": "a write is carried by layers.1.mlp.out, which is absent",
    }


def test_logits_that_the_model_changes_after_the_head_are_found():
    tiny = tiny_llama()
    forward = tiny.model.forward

    def capped(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = torch.tanh(out.logits)
        return out

    tiny.model.forward = capped
    resident = make_resident(Loaded(tiny.model, tiny.tokenizer, ModelSpec("tiny"), ""))
    absent = {site.name: site.reason for site in resident.absent_sites}
    assert absent["logits"] == "self-test: the model changes these logits before it returns them"
    assert "layers.0.resid_mid" in resident.sites


def test_eager_attention_that_differs_from_the_models_own_is_not_offered():
    tiny = tiny_llama()
    for layer in tiny.model.model.layers:
        layer.self_attn.scaling = 0.2
        layer.self_attn.register_forward_pre_hook(_rescale_for_own_attention, with_kwargs=True)
    resident = make_resident(Loaded(tiny.model, tiny.tokenizer, ModelSpec("tiny"), ""))
    absent = {site.name: site.reason for site in resident.absent_sites}
    assert "eager attention gives other layers.0.attn.z (relative error " in absent["layers.0.attn.pattern"]
    assert absent["layers.0.attn.pattern"].endswith("than 'sdpa'")
    assert "layers.0.attn.q" in resident.sites


def _rescale_for_own_attention(module, args, kwargs):
    module.scaling = 0.2 if module.config._attn_implementation == "sdpa" else 0.3


def test_the_model_is_left_with_its_own_attention_and_without_hooks():
    tiny = tiny_gpt2()
    make_resident(Loaded(tiny.model, tiny.tokenizer, ModelSpec("tiny"), ""))
    assert tiny.model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.model.modules())
