"""The table of senses serves exactly when it may."""

import copy
import warnings

import pytest
import torch
from backpack_tests.tiny import tiny_backpack
from peft import LoraConfig, inject_adapter_in_model

EXACT = {"rtol": 0, "atol": 1e-13}


@pytest.fixture
def model():
    return tiny_backpack(torch.float64)[0]


@pytest.fixture
def ids():
    return torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(1))


def computed(model, ids):
    """The senses by the network itself."""
    return model.backpack.sense_network(model.get_input_embeddings()(ids)).transpose(1, 2)


@torch.no_grad()
def test_a_text_has_the_same_logits_with_and_without_the_table(model, ids):
    fast = model(ids).logits
    model.backpack.sense_table.known = lambda *_, **__: None
    torch.testing.assert_close(model(ids).logits, fast, **EXACT)


@torch.no_grad()
def test_senses_are_kept_per_token_and_found_in_any_shape(model, ids):
    table = model.backpack.sense_table
    torch.testing.assert_close(table(ids), computed(model, ids), **EXACT)
    assert table.n_known == len(ids.unique())
    torch.testing.assert_close(table(ids[0, 0]), computed(model, ids)[0, 0], **EXACT)
    assert table(ids[:, :, None]).shape == (2, 9, 1, 4, 24)


def test_the_whole_vocabulary_is_filled_in_chunks(model, ids, monkeypatch):
    monkeypatch.setattr("interpd_backpack.model.table.CHUNK", 40)
    table, told = model.backpack.sense_table, []
    table(ids)
    table.fill(lambda done, total: told.append((done, total)))
    n = model.config.vocab_size
    assert told == [(40, n), (80, n), (n, n)]
    everything = torch.arange(n)
    torch.testing.assert_close(table(everything), computed(model, everything[None])[0], **EXACT)
    assert table.n_known == n


def test_a_table_that_is_full_begins_anew(model, ids):
    table = model.backpack.sense_table
    table.max_bytes = 20 * 4 * 24 * 8
    for row in torch.arange(60).split(15):
        torch.testing.assert_close(table(row), computed(model, row[None])[0], **EXACT)
        assert table.n_known == 15


@pytest.mark.parametrize("path", ["gpt2_model.wte", "sense_network.ln", "sense_network.final_mlp.c_proj"])
@torch.no_grad()
def test_weights_that_are_written_to_make_it_begin_anew(model, ids, path):
    before = model(ids).logits
    model.backpack.get_submodule(path).weight[3:].mul_(1.5)
    after = model(ids).logits
    assert not torch.allclose(after, before)
    torch.testing.assert_close(model.backpack.sense_table(ids), computed(model, ids), **EXACT)


@torch.no_grad()
def test_it_follows_the_model_to_another_dtype(model, ids):
    model(ids)
    assert model.backpack.sense_table(ids).dtype == torch.float64
    model.float()
    assert model.backpack.sense_table(ids).dtype == torch.float32
    assert model(ids).logits.dtype == torch.float32


def test_training_and_gradients_do_without_it(model, ids):
    table = model.backpack.sense_table
    model.requires_grad_(True)
    model(ids).logits.sum().backward()
    assert model.backpack.sense_network.final_mlp.c_proj.weight.grad.any()
    assert table(ids).requires_grad
    assert table(ids).shape == (2, 9, 4, 24)
    with torch.no_grad():
        model.train()(ids)
    assert table.n_known == 0


def test_gradients_reach_embeddings_on_both_ways(model, ids):
    embeds = model.get_input_embeddings()(ids).requires_grad_()
    handle = model.get_input_embeddings().register_forward_hook(lambda *_: embeds)
    try:
        found = torch.autograd.grad(model(ids).logits[0, -1, 7], embeds)[0]
    finally:
        handle.remove()
    direct = torch.autograd.grad(model(inputs_embeds=embeds).logits[0, -1, 7], embeds)[0]
    torch.testing.assert_close(found, direct, **EXACT)


@pytest.mark.parametrize("how", ["replaced", "in place"])
@torch.no_grad()
def test_embeddings_that_were_written_to_reach_the_senses(model, ids, how):
    def write(_, args, output):
        if how == "replaced":
            output = output.clone()
        output[1, 3] *= 2
        return output

    before = model(ids).logits
    embeds = model.get_input_embeddings()(ids)
    embeds[1, 3] *= 2
    handle = model.get_input_embeddings().register_forward_hook(write)
    try:
        found = model(ids).logits
    finally:
        handle.remove()
    torch.testing.assert_close(found, model(inputs_embeds=embeds).logits, **EXACT)
    assert torch.equal(found[0], before[0])
    assert torch.equal(model(ids).logits, before)


@torch.no_grad()
def test_a_copy_has_a_table_of_its_own(model, ids):
    model(ids)
    other = copy.deepcopy(model)
    other.backpack.sense_network.ln.weight.mul_(2)
    assert not torch.allclose(other(ids).logits, model(ids).logits)
    torch.testing.assert_close(other.backpack.sense_table(ids), computed(other, ids), **EXACT)


def test_what_was_looked_up_in_inference_mode_serves_out_of_it(model, ids):
    with torch.inference_mode():
        first = model(ids).logits
    with torch.no_grad():
        assert torch.equal(model(ids).logits, first)
        model.backpack.sense_table(torch.arange(90))
    senses = model.backpack.sense_table(ids)
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad((senses * factor).sum(), factor)[0] == senses.sum()


@torch.no_grad()
def test_adapters_of_embeddings_and_senses_are_in_the_table(model, ids):
    adapted = copy.deepcopy(model)
    config = LoraConfig(target_modules=["wte", "final_mlp.c_proj"], r=2, init_lora_weights=False, fan_in_fan_out=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inject_adapter_in_model(config, adapted)
    adapted.double().eval()
    fast = adapted(ids).logits
    assert not torch.allclose(fast, model(ids).logits)
    adapted.backpack.sense_table.known = lambda *_, **__: None
    torch.testing.assert_close(adapted(ids).logits, fast, **EXACT)


@torch.no_grad()
def test_lookups_are_not_heard_at_the_parts_of_the_network(model, ids):
    heard = []
    for name, part in model.backpack.sense_network.named_modules():
        part.register_forward_hook(lambda *_, name=name: heard.append(name))
    model(ids)
    assert heard == [""]
