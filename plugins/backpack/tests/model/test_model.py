"""The Backpack: caches, padding, what takes effect, what is refused."""

import itertools

import pytest
import torch
from backpack_tests.model.golden import golden_cases, golden_model
from backpack_tests.tiny import tiny_backpack, tiny_config
from safetensors import safe_open
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from interpd_backpack.model import BackpackForCausalLM
from interpd_backpack.model.mixing import mixed_senses

EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(scope="module", autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    return tiny_backpack(torch.float64)[0]


@pytest.fixture
def ids():
    return torch.randint(3, 90, (3, 9), generator=torch.Generator().manual_seed(1))


def test_decoding_with_a_cache_gives_the_logits_of_the_whole_text(model, ids):
    whole = model(ids, use_cache=False)
    output = model(ids[:, :4], use_cache=True)
    parts = [output.logits]
    for end in (5, 6, 9):
        output = model(ids[:, end - (3 if end == 9 else 1) : end], past_key_values=output.past_key_values)
        parts.append(output.logits)
    assert whole.past_key_values is None
    torch.testing.assert_close(torch.cat(parts, 1), whole.logits, **EXACT)
    assert output.contextualization.shape == (3, 4, 3, 9)
    kept = output.past_key_values.layers[3]
    assert (kept.keys.shape, kept.values.shape) == ((3, 4, 9, 6), (3, 4, 9, 24))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_padded_on_either_side_have_the_logits_that_they_have_alone(ids, side, attention):
    model, _ = tiny_backpack(torch.float64)
    model.set_attn_implementation(attention)
    mask, rows = torch.ones_like(ids), (slice(4, 9) if side == "left" else slice(0, 5))
    mask[1] = 0
    mask[1, rows] = 1
    output = model(ids.masked_fill(mask == 0, 2), attention_mask=mask)
    torch.testing.assert_close(output.logits[1, rows], model(ids[1:2, rows]).logits[0], **EXACT)
    torch.testing.assert_close(output.logits[::2], model(ids[::2]).logits, **EXACT)
    assert not output.contextualization[1, :, rows][:, :, mask[1] == 0].any()
    assert bool(output.logits.isfinite().all())


@pytest.mark.filterwarnings("ignore")
def test_generate_of_transformers_gives_each_row_what_it_gets_alone_by_full_forwards(model, ids):
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    found = model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False, eos_token_id=None)[:, 9:]
    for row, first in enumerate((3, 0, 0)):
        text = ids[row : row + 1, first:]
        for _ in range(5):
            text = torch.cat([text, model(text, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], 1)
        assert text[0, -5:].tolist() == found[row].tolist()


def test_only_the_asked_positions_get_logits(model, ids):
    whole = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, whole[:, -2:], **EXACT)
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([0, 4])).logits, whole[:, [0, 4]], **EXACT)


def test_the_loss_is_that_of_the_next_tokens(model, ids):
    output = model(ids, labels=ids)
    expected = torch.nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(output.loss.double(), expected, rtol=1e-6, atol=1e-6)


def test_other_senses_and_weights_are_what_is_mixed(model, ids):
    generator = torch.Generator().manual_seed(2)
    senses = torch.randn(3, 4, 9, 24, dtype=torch.float64, generator=generator)
    weights = torch.rand(3, 4, 9, 9, dtype=torch.float64, generator=generator)
    expected = torch.einsum("blij,bljd->bid", weights, senses) @ model.lm_head.weight.T
    handles = [
        model.backpack.sense_network.register_forward_hook(lambda *_: senses),
        model.backpack.sense_weight_net.register_forward_hook(lambda *_: weights),
    ]
    try:
        output = model(ids)
    finally:
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(output.logits, expected)
    assert output.contextualization is weights


def test_each_layout_of_senses_is_mixed_alike(ids):
    weights = torch.rand(2, 4, 5, 5, dtype=torch.float64)
    senses = torch.randn(2, 5, 4, 6, dtype=torch.float64).transpose(1, 2)
    expected = (weights @ senses).sum(1)
    torch.testing.assert_close(mixed_senses(weights, senses), expected, **EXACT)
    torch.testing.assert_close(mixed_senses(weights, senses.contiguous()), expected, **EXACT)
    torch.testing.assert_close(mixed_senses(weights[:, :, -1:], senses), expected[:, -1:], **EXACT)


def test_senses_that_an_earlier_step_edited_stay_edited_in_the_cache(model, ids):
    def doubled(_, args, output):
        return output * 2

    def edited(*parts):
        handle = model.backpack.sense_network.register_forward_hook(doubled)
        try:
            past, logits = None, []
            for part in parts:
                output = model(part, past_key_values=past, use_cache=True)
                past, logits = output.past_key_values, [*logits, output.logits]
        finally:
            handle.remove()
        return torch.cat(logits, 1)

    torch.testing.assert_close(edited(ids[:, :5], ids[:, 5:]), edited(ids), **EXACT)
    torch.testing.assert_close(edited(ids), 2 * model(ids).logits, **EXACT)


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_scale_by_layer_counts_in_every_attention(shared, number):
    case = golden_cases(shared)[number]
    ids, expected = torch.tensor(case["input_ids"]), torch.tensor(case["logits"], dtype=torch.float64)
    for attention, scaled in itertools.product(("eager", "sdpa"), (True, False)):
        model = golden_model(case, scale_attn_by_inverse_layer_idx=scaled)
        model.set_attn_implementation(attention)
        worst = float((model(ids).logits - expected).abs().max())
        assert worst < 1e-8 if scaled else worst > 1e-2


def test_the_output_scale_divides_the_sum(model, ids):
    scaled, _ = tiny_backpack(torch.float64, sense_output_scale=0.25)
    torch.testing.assert_close(scaled(ids).logits * 4, model(ids).logits, **EXACT)


def test_more_positions_than_there_are_is_refused(model):
    with pytest.raises(ValueError, match="the model has 32 positions, got a text of 33 tokens"):
        model(torch.zeros(1, 33, dtype=torch.long))
    past = model(torch.zeros(1, 32, dtype=torch.long), use_cache=True).past_key_values
    with pytest.raises(ValueError, match="32 positions, got a text of 33"):
        model(torch.zeros(1, 1, dtype=torch.long), past_key_values=past)


def test_a_mask_of_another_shape_is_refused(model, ids):
    with pytest.raises(ValueError, match=r"attention_mask is \[3, 8\], expected \[batch, pos\] = \[3, 9\]"):
        model(ids, attention_mask=torch.ones(3, 8))


def test_embeddings_may_be_given_instead_of_tokens(model, ids):
    output = model(inputs_embeds=model.get_input_embeddings()(ids))
    torch.testing.assert_close(output.logits, model(ids).logits, **EXACT)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()


def test_it_is_saved_with_each_tied_tensor_once_and_comes_back_as_it_was(tmp_path, ids):
    model, _ = tiny_backpack(torch.float64)
    model.save_pretrained(tmp_path)
    again, report = BackpackForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, output_loading_info=True)
    assert not report["missing_keys"] | report["unexpected_keys"]
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
    torch.testing.assert_close(again.eval()(ids).logits, model(ids).logits, **EXACT)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert {*model.state_dict()} - {*file.keys()} == {"lm_head.weight"}
    assert again.lm_head.weight is again.backpack.gpt2_model.wte.weight


def test_no_plain_gpt2_is_made_of_it(tmp_path):
    model, _ = tiny_backpack()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="backpack"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not isinstance(model, GPT2LMHeadModel)


def test_dropout_is_where_the_published_code_has_it():
    model = BackpackForCausalLM(tiny_config(embd_pdrop=0.1, resid_pdrop=0.2))
    drops = {name: part.p for name, part in model.backpack.named_modules() if isinstance(part, torch.nn.Dropout)}
    ours = {name.removeprefix("sense_network."): p for name, p in drops.items() if name.startswith("sense_network")}
    assert ours == {
        "dropout": 0.1,
        "block.resid_dropout1": 0.2,
        "block.resid_dropout2": 0.2,
        "block.mlp.dropout": 0.2,
        "final_mlp.dropout": 0.2,
    }


def test_what_is_added_to_a_residual_begins_smaller():
    torch.manual_seed(0)
    network = BackpackForCausalLM(tiny_config(n_embd=120, num_senses=4)).backpack.sense_network
    for part, std in ((network.final_mlp.c_fc, 0.02), (network.final_mlp.c_proj, 0.02 / 6**0.5)):
        assert float(part.weight.std()) == pytest.approx(std, rel=0.02)
        assert not part.bias.any()
