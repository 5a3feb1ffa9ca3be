"""Encoder-decoder models at rest: their stacks, their sites, what their decoders are given."""

import pytest
import torch

from interpd.engine.target_side import TargetSide, target_side
from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd.graph.ir import Prompt
from interpd.testing.tiny_models import PAD_ID, tiny_model, tiny_tokenizer

WITH_TABLE = (
    "t5",
    "bart",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("marian", "pegasus", "t5_gated", "mbart")),
)
STREAM = ("resid_pre", "resid_mid", "resid_post")
ATTENTION = ("q", "k", "v", "scores", "pattern", "z", "out")


def expected_sites(architecture):
    mlp = ("gate", "up", "post", "out") if architecture == "t5_gated" else ("pre", "post", "out")
    own = [*STREAM, *(f"attn.{name}" for name in ATTENTION), *(f"mlp.{name}" for name in mlp)]
    decoder = [*own, "resid_cross", *(f"cross_attn.{name}" for name in ATTENTION)]
    names = {"encoder.embed", "decoder.embed", "logits"}
    names |= {f"encoder.layers.{layer}.{name}" for layer in range(2) for name in own}
    names |= {f"decoder.layers.{layer}.{name}" for layer in range(3) for name in decoder}
    if architecture not in ("bart", "marian"):
        names |= {"encoder.ln_final", "decoder.ln_final"}
    return names


@pytest.mark.parametrize("architecture", WITH_TABLE)
def test_every_site_of_both_stacks_passes_the_self_test(residents, architecture):
    sites = residents(architecture).sites.values()
    assert {site.name for site in sites if site.canonical} == expected_sites(architecture)


def test_the_axes_of_a_site_say_whose_positions_it_counts(residents):
    sites = residents("bart").sites
    axes = {name: " ".join(dim.name for dim in sites[name].type.dims) for name in sites}
    assert axes["encoder.layers.0.resid_mid"] == "batch src_pos d_model"
    assert axes["encoder.layers.0.attn.pattern"] == "batch head src_pos src_pos"
    assert axes["decoder.layers.0.attn.pattern"] == "batch head query_pos key_pos"
    assert axes["decoder.layers.0.cross_attn.pattern"] == "batch head query_pos src_pos"
    assert axes["decoder.layers.0.cross_attn.k"] == "batch src_pos kv_head d_head"
    assert axes["model.encoder.layers.1.fc1.output"] == "batch src_pos "


def test_each_side_has_its_own_sizes(residents):
    resident = residents("marian")
    sizes = {name: {dim.name: dim.size for dim in site.type.dims} for name, site in resident.sites.items()}
    assert sizes["encoder.layers.0.attn.q"]["head"] == 4
    assert sizes["decoder.layers.0.attn.q"]["head"] == 3
    assert sizes["encoder.layers.0.mlp.pre"]["d_mlp"] == 44
    assert sizes["decoder.layers.0.mlp.pre"]["d_mlp"] == 40
    assert resident.info.sizes == {"d_model": 24, "d_vocab": 330, "head": 3, "kv_head": 3, "d_head": 8, "d_mlp": 40}


@pytest.mark.slow
def test_layers_count_through_both_stacks(residents):
    resident = residents("pegasus")
    layers = {name: site.layer for name, site in resident.sites.items()}
    names = ("encoder.embed", "encoder.layers.1.resid_post", "encoder.ln_final", "decoder.embed")
    assert [layers[name] for name in names] == [-1, 1, 1, 1]
    assert [layers[f"decoder.layers.{i}.resid_pre"] for i in range(3)] == [2, 3, 4]
    assert (layers["logits"], resident.info.n_layers, resident.info.n_encoder_layers) == (5, 5, 2)


def test_what_runs_once_in_a_generation_is_marked(residents):
    sites = residents("t5").sites
    once = {name for name, site in sites.items() if site.prefill_only and site.canonical}
    assert once == {name for name in sites if name.startswith("encoder.") and sites[name].canonical} | {
        f"decoder.layers.{layer}.cross_attn.{name}" for layer in range(3) for name in "kv"
    }
    assert sites["encoder.block.0.output"].prefill_only
    assert not sites["decoder.block.0.output"].prefill_only


def test_a_model_behind_whose_blocks_no_norm_stands_says_so(residents):
    absent = {site.name: site.reason for site in residents("bart").absent_sites}
    assert absent["decoder.ln_final"] == "the last block ends in a norm, there is none behind it: take its resid_post"
    assert absent["encoder.layers.1.mlp.gate"] == "the MLP is not gated: take mlp.pre"


def test_an_architecture_without_a_table_offers_both_embeddings_and_raw_paths(residents):
    resident = residents("blenderbot")
    assert [site.name for site in resident.sites.values() if site.canonical] == [
        "encoder.embed",
        "decoder.embed",
        "logits",
    ]
    assert resident.sites["model.decoder.layers.2.output"].layer == 4
    assert resident.sites["model.encoder.layers.1.output"].prefill_only
    assert resident.info.n_encoder_layers == 2


def test_a_site_that_means_another_module_fails_the_self_test(residents):
    from dataclasses import replace

    from interpd.engine.families.bart import PEGASUS
    from interpd.engine.selftest import failing_sites

    resident = residents("pegasus")
    bindings = {name: binding for name, binding in resident.bindings.items() if binding.site.canonical}
    name = "decoder.layers.1.resid_cross"
    wrong = replace(bindings[name], location=bindings["decoder.layers.1.resid_mid"].location)
    failures = failing_sites(resident.model, resident.attention, {**bindings, name: wrong}, PEGASUS)
    assert "is not decoder.layers.1.resid_pre + decoder.layers.1.attn.out" in failures[name]


def test_a_table_of_one_stack_is_refused_for_a_model_of_two():
    from dataclasses import replace

    from interpd.engine.families.bart import BART
    from interpd.engine.stacks import stacks_of

    with pytest.raises(FeatureUnsupported, match="the site table 'bart' has no table of the encoder"):
        stacks_of(tiny_model("bart").model, replace(BART, encoder=None))


def test_eager_attention_adds_the_bias_by_position(residents):
    resident = residents("t5")
    model, ids = resident.model, torch.tensor([[5, 6, 7, 8]])
    own = model(input_ids=ids, decoder_input_ids=ids).logits
    resident.set_attention(True)
    assert torch.allclose(model(input_ids=ids, decoder_input_ids=ids).logits, own, atol=1e-4)


# What the decoder is given


def test_a_target_begins_with_the_start_token_and_has_no_end(residents):
    tokens = residents("t5").tokenize(Prompt(text="The cat", target_text="sat on"))
    eos = residents("t5").tokenizer.eos_token_id
    assert tokens.ids[-1] == eos
    assert tokens.target.ids[0] == PAD_ID
    assert eos not in tokens.target.ids
    assert tokens.target.text == "sat on"
    assert [tokens.target.text[start:end] for start, end in tokens.target.offsets[1:]] == list(
        tokens.target.strings[1:]
    )


def test_without_a_target_there_is_the_start_token_alone(residents):
    assert residents("bart").tokenize(Prompt(text="The cat")).target.ids == (1,)


def test_ids_of_a_target_are_taken_as_they_are(residents):
    assert residents("t5").tokenize(Prompt(text="a", target_ids=(1, 5, 1))).target.ids == (PAD_ID, 1, 5, 1)


def test_ids_are_those_of_their_side(residents):
    marian = residents("marian")
    assert marian.tokenize(Prompt(token_ids=(320,), target_ids=(329,))).lengths.total == 3
    with pytest.raises(InvalidRequest, match="token id 321 at position 0 is outside the vocabulary of 321"):
        marian.tokenize(Prompt(token_ids=(321,)))
    with pytest.raises(InvalidRequest, match=r"token id 330 at position 1 of the target is outside .* of 330"):
        marian.tokenize(Prompt(token_ids=(1,), target_ids=(330,)))


def test_a_target_may_not_be_longer_than_the_model_has_positions(residents):
    with pytest.raises(InvalidRequest, match="the target has 65 tokens, model 'bart' takes at most 64"):
        residents("bart").tokenize(Prompt(text="a", target_ids=(5,) * 64))


def test_a_decoder_only_model_refuses_a_target(residents):
    with pytest.raises(InvalidRequest, match="model 'gpt2' is no encoder-decoder model: its prompts have no target"):
        residents("gpt2").tokenize(Prompt(text="a", target_text="b"))


def side(tokenizer, ends=frozenset({1})):
    return TargetSide(9, tokenizer, ends, 400)


@pytest.mark.parametrize("text", ["cat", "", "cat</s>"])
def test_only_the_end_that_the_tokenizer_adds_is_taken_off(text):
    both = tiny_tokenizer(with_bos=True, with_eos=True)
    written = tuple(both(text, add_special_tokens=False)["input_ids"])
    assert side(both).tokens(Prompt(text="a", target_text=text)).ids == (9, 0, *written)
    plain = Prompt(text="a", target_text=text, add_special_tokens=False)
    assert side(both).tokens(plain).ids == (9, *written)


def test_a_target_of_text_needs_a_tokenizer():
    with pytest.raises(InvalidRequest, match="no files: give the target as target_ids"):
        TargetSide(9, None, frozenset(), 400, "no files").tokens(Prompt(text="a", target_text="b"))


def test_a_model_that_does_not_say_how_its_decoder_begins_is_refused():
    tiny = tiny_model("t5")
    for config in (tiny.model.config, tiny.model.generation_config):
        config.decoder_start_token_id = config.bos_token_id = None
    with pytest.raises(FeatureUnsupported, match="set 'decoder_start_token_id' in config"):
        target_side(tiny.model, tiny.tokenizer)
