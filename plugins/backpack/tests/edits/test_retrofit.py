"""Edits of senses beside another model, whose gate and scale are not 1, against the bare model edited by hand."""

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

import interpd_client
from interpd.errors import CallerError
from interpd_backpack import worker
from interpd_backpack.edits import MaskWeights, ProjectOut, Remove, ReplaceAssociation, Scale
from interpd_backpack.model import retrofit

pytestmark = pytest.mark.slow

TEXT = "The nurse said that the doctor was happy"
EXACT = {"rtol": 0, "atol": 1e-10}
GATE, SCALE = 0.6, 0.7


def gated(gate):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = GPT2Config(n_embd=24, n_layer=2, n_head=2, n_positions=32, vocab_size=94, bos_token_id=0)
        model = retrofit(GPT2LMHeadModel(config).double(), num_senses=4, sense_output_scale=SCALE)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.constant_(model.backpack.gate, gate)
    return model.eval().requires_grad_(False), tiny_tokenizer()


@pytest.fixture(scope="module")
def bare():
    return gated(GATE)


@pytest.fixture(scope="module")
def model():
    with interpd_client.local(gated(GATE), name="gated", plugins={"backpack": worker}) as client:
        yield client.model("gated")


def token(bare, word):
    return bare[1].convert_tokens_to_ids(f"Ġ{word}")


def by_hand(bare, change):
    """Logits ``[pos V]`` with the senses of nurse ``[sense d_model]`` changed."""
    net, tokenizer = bare
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    here = int((ids[0] == token(bare, "nurse")).nonzero())

    def changed(_module, _arguments, output):
        output = output.clone()
        output[0, :, here] = change(output[0, :, here])
        return output

    handle = net.backpack.sense_network.register_forward_hook(changed)
    try:
        return net(ids, use_cache=False).logits[0].numpy()
    finally:
        handle.remove()


def edited(bare, name):
    """(an operation, what it does to the senses of nurse)."""
    rows = bare[0].lm_head.weight
    old, new = rows[token(bare, "she")], rows[token(bare, "he")]
    way = (old - new) / (old - new).norm()
    factors = torch.tensor([1, 1, 0.25, 1]).double()[:, None]
    replacement = new * (old @ old) / (new @ new) - old
    return {
        "scale": (Scale("nurse", 2, 0.25), lambda senses: senses * factors),
        "remove": (Remove("nurse", "all"), torch.zeros_like),
        "project": (ProjectOut("nurse", ("she", "he")), lambda senses: senses - (senses @ way)[:, None] * way),
        "replace": (
            ReplaceAssociation("nurse", "she", "he"),
            lambda senses: senses + (senses @ old / (old @ old))[:, None] * replacement,
        ),
    }[name]


@pytest.mark.parametrize("name", ["scale", "remove", "project", "replace"])
def test_edits_and_their_effects_are_those_of_the_gated_sum(bare, model, name):
    operation, change = edited(bare, name)
    edit = model.backpack.edit(operation)
    expected = by_hand(bare, change)
    with model.trace(TEXT) as t:
        model.backpack.with_edit(t, edit)
        t.save(logits=t.logits[0])
    np.testing.assert_allclose(t.result["logits"], expected, **EXACT)
    found = model.backpack.effects(TEXT, edit, targets=("he", "she"), position=3)
    ids = [token(bare, "he"), token(bare, "she")]
    np.testing.assert_allclose(found.logits_after[0, 0], expected[3, ids], **EXACT)
    assert np.abs(found.logits_after[0, 0] - found.logits_before[0]).max() > 1e-3


def test_what_a_sense_speaks_against_is_reweighted_with_gate_and_scale(bare, model):
    net, tokenizer = bare
    edit = model.backpack.edit(MaskWeights("nurse", (1, 3), 2.5, negative_only=0.1))
    with model.trace(TEXT) as t:
        model.backpack.with_edit(t, edit)
        t.save(logits=t.logits[0])
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    here = int((ids[0] == token(bare, "nurse")).nonzero())
    senses = net.backpack.sense_network(net.get_input_embeddings()(ids))[0, :, here].numpy()
    out = net(ids, use_cache=False)
    expected = out.logits[0].numpy()
    for sense in (1, 3):
        says = net.lm_head.weight.numpy() @ senses[sense]
        low = 2.5 * says < np.quantile(2.5 * says, 0.1)
        given = out.contextualization[0, sense, :, here, None].numpy()
        expected = expected + GATE * SCALE * given * np.where(low, 1.5 * says, 0)
    np.testing.assert_allclose(t.result["logits"], expected, **EXACT)
    found = model.backpack.effects(TEXT, edit, targets="he")
    np.testing.assert_allclose(found.logits_after[0, 0, 0], expected[-1, token(bare, "he")], **EXACT)


def test_a_finetuned_edit_in_force_has_the_losses_that_are_told(bare, model):
    example = {"prefix": "The nurse said that", "suffix": " he"}
    texts = ["The dog ran and sat", "The cat ate fish"]
    found = model.backpack.finetune(
        [example], "country", background=texts, n_epochs=2, radius=0.1, learning_rate=0.05, background_weight=1.0
    )
    with model.trace(example["prefix"]) as t:
        model.backpack.with_edit(t, found.edit)
        t.save(logits=t.logits[0, -1])
    after = torch.tensor(t.result["logits"]).log_softmax(-1)[token(bare, "he")]
    np.testing.assert_allclose(found.metrics.log_after[0, 0], after, **EXACT)
    assert found.metrics.log_after[0, 0] > found.metrics.log_before[0, 0] + 1e-3


def test_a_gate_of_zero_leaves_no_senses_and_says_why():
    with interpd_client.local(gated(0.0), name="shut", plugins={"backpack": worker}) as client:
        shut = client.model("shut")
        with pytest.raises(AttributeError, match="'senses': self-test: a write does not change the logits"):
            shut.trace(TEXT).senses  # noqa: B018
        with pytest.raises(CallerError, match="their gate is 0"):
            shut.backpack.senses("nurse")
