"""The eager attention: bit for bit what transformers computes, with every intermediate in reach."""

import pytest
import torch

from interpd.config import ModelSpec
from interpd.engine.hooks import run_with_edits
from interpd.engine.probe import forward_inputs, probe_ids
from interpd.engine.resident import Loaded, make_resident
from interpd.errors import FeatureUnsupported
from interpd.testing.tiny_models import tiny_gpt2, tiny_model

WITH_TAPS = ("gpt2", "llama", "mistral", "qwen2")
WITH_ROTARY = WITH_TAPS[1:]


def read(resident, inputs, *names):
    seen = {}

    def reader(name):
        return lambda value: seen.setdefault(name, value)

    logits = run_with_edits(resident.model, inputs, resident.bindings, {name: reader(name) for name in names})
    return logits, seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", WITH_TAPS)
@torch.no_grad()
def test_logits_and_patterns_are_those_of_transformers_bit_for_bit(architecture, dtype):
    tiny = tiny_model(architecture)
    model = tiny.model.to(dtype).requires_grad_(False)
    model.set_attn_implementation("eager")
    inputs = forward_inputs(model, probe_ids(model, 2, 7))
    # a padded row
    inputs["attention_mask"][1, :3] = 0
    expected = model(**inputs, output_attentions=True)
    model.set_attn_implementation("sdpa")
    resident = make_resident(Loaded(model, tiny.tokenizer, ModelSpec("tiny"), ""))
    resident.set_attention(True)
    logits, seen = read(resident, inputs, "layers.0.attn.pattern", "layers.2.attn.pattern")
    # what is padding sees no key there, and all of them here
    assert torch.equal(logits[0], expected.logits[0])
    assert torch.equal(logits[1, 3:], expected.logits[1, 3:])
    for name, pattern in zip(seen, (expected.attentions[0], expected.attentions[2]), strict=True):
        assert torch.equal(seen[name][0], pattern[0])
        assert torch.equal(seen[name][1, :, 3:], pattern[1, :, 3:])


@pytest.mark.parametrize("architecture", WITH_ROTARY)
@torch.no_grad()
def test_scores_are_scaled_products_of_rotated_queries_and_shared_keys(residents, architecture):
    resident = residents(architecture)
    resident.set_attention(True)
    names = [f"layers.1.attn.{name}" for name in ("q_rot", "k_rot", "scores")]
    _, seen = read(resident, forward_inputs(resident.model, probe_ids(resident.model, 1, 5)), *names)
    q, k, scores = (seen[name] for name in names)
    keys = k.repeat_interleave(2, dim=2)
    expected = torch.einsum("bqhd,bkhd->bhqk", q, keys) / q.shape[-1] ** 0.5
    assert torch.allclose(scores, expected, atol=1e-5)


@torch.no_grad()
def test_rotation_leaves_the_first_position_alone_and_turns_the_others(residents):
    resident = residents("llama")
    resident.set_attention(True)
    names = ("layers.0.attn.q", "layers.0.attn.q_rot")
    _, seen = read(resident, forward_inputs(resident.model, probe_ids(resident.model, 1, 4)), *names)
    before, after = (seen[name] for name in names)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1:], after[:, 1:])


@pytest.mark.parametrize(("architecture", "sliding"), [("mistral", (0, 1, 2)), ("qwen2", (1, 2)), ("llama", ())])
@torch.no_grad()
def test_a_sliding_window_shows_in_the_pattern_of_its_layers_only(residents, architecture, sliding):
    resident = residents(architecture)
    resident.set_attention(True)
    names = [f"layers.{layer}.attn.pattern" for layer in range(3)]
    _, seen = read(resident, forward_inputs(resident.model, probe_ids(resident.model, 1, 8)), *names)
    # the window is 3: the last query sees keys 5, 6 and 7
    blind = [layer for layer, name in enumerate(names) if bool((seen[name][0, :, 7, :5] == 0).all())]
    assert blind == list(sliding)


@pytest.mark.parametrize("architecture", WITH_TAPS)
@torch.no_grad()
def test_decoding_with_a_cache_gives_the_logits_of_one_long_pass(residents, architecture):
    resident = residents(architecture)
    model, ids = resident.model, probe_ids(resident.model, 2, 8)
    expected = model(**forward_inputs(model, ids)).logits[:, -1]
    # the switch may fall between two steps of one cache
    for modes in ((True, True, True), (False, True, False), (True, False, True)):
        cache = None
        for eager, part in zip(modes, (ids[:, :5], ids[:, 5:7], ids[:, 7:]), strict=True):
            resident.set_attention(eager)
            out = model(input_ids=part, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
        assert torch.allclose(out.logits[:, -1], expected, atol=1e-4)


@torch.no_grad()
def test_switching_back_gives_the_very_logits_of_the_model(residents):
    resident = residents("llama")
    inputs = forward_inputs(resident.model, probe_ids(resident.model, 2, 5))
    before = resident.model(**inputs).logits
    resident.set_attention(True)
    resident.model(**inputs)
    resident.set_attention(False)
    assert torch.equal(resident.model(**inputs).logits, before)


@pytest.mark.slow
@pytest.mark.parametrize("padding", [slice(4, None), slice(0, 4)])
@torch.no_grad()
def test_padding_spoils_nothing_where_the_own_attention_of_a_model_is_eager(padding):
    """In double precision, with a window of 3: transformers' mask would make NaN of queries that see nothing."""
    tiny = tiny_model("gemma2")
    model = tiny.model.to(torch.float64).requires_grad_(False)
    model.set_attn_implementation("eager")
    ids = probe_ids(model, 2, 8)
    mask = torch.ones_like(ids)
    mask[1, padding] = 0
    alone = model(input_ids=ids[1:, mask[1] == 1]).logits
    resident = make_resident(Loaded(model, tiny.tokenizer, ModelSpec("tiny"), ""))
    padded = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
    assert torch.allclose(padded[1:, mask[1] == 1], alone, atol=1e-6)
    resident.attention.give_back()
    assert model.config._attn_implementation == "eager"
    assert torch.equal(model(input_ids=ids[1:, mask[1] == 1]).logits, alone)


@torch.no_grad()
def test_replacing_the_pattern_replaces_what_attention_mixes(residents):
    resident = residents("gpt2")
    resident.set_attention(True)
    inputs = forward_inputs(resident.model, probe_ids(resident.model, 1, 4))
    seen = {}
    edits = {
        # every query looks at the first key only
        "layers.1.attn.pattern": lambda value: torch.zeros_like(value).index_fill(3, torch.tensor(0), 1.0),
        "layers.1.attn.v": lambda value: seen.setdefault("v", value),
        "layers.1.attn.z": lambda value: seen.setdefault("z", value),
    }
    run_with_edits(resident.model, inputs, resident.bindings, edits)
    assert torch.allclose(seen["z"], seen["v"][:, :1].expand_as(seen["z"]))


@pytest.mark.parametrize("option", ["reorder_and_upcast_attn", "add_cross_attention"])
def test_options_that_it_would_not_reproduce_are_refused(option):
    tiny = tiny_gpt2()
    setattr(tiny.model.config, option, True)
    resident = make_resident(Loaded(tiny.model, tiny.tokenizer, ModelSpec("tiny"), ""))
    absent = {site.name: site.reason for site in resident.absent_sites}
    assert "layers.0.attn.scores" not in resident.bindings
    assert option in absent["layers.0.attn.scores"]
    with pytest.raises(FeatureUnsupported, match=option):
        resident.set_attention(True)
