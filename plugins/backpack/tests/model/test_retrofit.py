"""Senses beside a finished language model."""

import pytest
import torch

from interpd.testing.tiny_models import tiny_model
from interpd_backpack.model import RetrofitConfig, RetrofitForCausalLM, retrofit

MORE = [pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "mistral")]
CLOSE = {"rtol": 0, "atol": 1e-10}


@pytest.fixture(scope="module", autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def retrofitted(architecture):
    backbone = tiny_model(architecture).model.double()
    model = retrofit(backbone, num_senses=5)
    generator = torch.Generator().manual_seed(3)
    for weight in model.backpack.parameters():
        weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return model, backbone


@pytest.fixture
def ids():
    return torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(1))


def test_a_gate_of_zero_leaves_the_backbone_as_it_is_and_training_too(ids):
    model, backbone = retrofitted("llama")
    model.backpack.gate.zero_()
    torch.testing.assert_close(model(ids).logits, backbone(ids).logits, **CLOSE)
    assert {name.split(".")[0] for name, weight in model.named_parameters() if weight.requires_grad} == {"backpack"}
    model.train()
    assert (model.backpack.training, model.backbone.training) == (True, False)


@pytest.mark.parametrize("architecture", ["llama", *MORE])
def test_the_gated_sum_of_senses_is_added_before_the_head(architecture, ids):
    model, backbone = retrofitted(architecture)
    output = model(ids, use_cache=False)
    base = backbone.base_model(ids).last_hidden_state
    senses = model.backpack.sense_network(backbone.get_input_embeddings()(ids))
    mixed = torch.einsum("blij,bljd->bid", output.contextualization, senses)
    expected = backbone.get_output_embeddings()(base + model.backpack.gate * mixed)
    torch.testing.assert_close(output.logits, expected, **CLOSE)

    begun = model(ids[:, :5], use_cache=True)
    rest = model(ids[:, 5:], past_key_values=begun.past_key_values)
    torch.testing.assert_close(torch.cat([begun.logits, rest.logits], 1), output.logits, **CLOSE)


@pytest.mark.parametrize("architecture", ["llama", MORE[0]])
@pytest.mark.filterwarnings("ignore")
def test_it_is_saved_and_loaded_and_generates(architecture, ids, tmp_path):
    model, _ = retrofitted(architecture)
    model.save_pretrained(tmp_path)
    again, report = RetrofitForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, output_loading_info=True)
    assert not report["missing_keys"] | report["unexpected_keys"]
    torch.testing.assert_close(again(ids).logits, model(ids).logits, **CLOSE)
    assert again.config.get_text_config().model_type == architecture

    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    found = again.generate(ids, attention_mask=mask, max_new_tokens=3, do_sample=False, eos_token_id=None)
    alone = again.generate(ids[:1, 4:], max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert found[0, -3:].tolist() == alone[0, -3:].tolist()


def test_backbones_whose_logits_are_more_than_that_are_refused():
    with pytest.raises(ValueError, match="changes its logits"):
        retrofit(tiny_model("gemma2").model, num_senses=5)
    with pytest.raises(ValueError, match="embeds in 14 dimensions and computes in 24"):
        retrofit(tiny_model("opt_post_norm").model, num_senses=5)
    with pytest.raises(ValueError, match="text_config is missing"):
        RetrofitForCausalLM(RetrofitConfig())
