"""Senses in the cache: written behind one another in place, and never into what another cache still has."""

from copy import copy

import pytest
import torch
from backpack_tests.tiny import tiny_backpack

EXACT = {"rtol": 0, "atol": 1e-12}
SENSES = 3
"""The layer of the cache behind the tiny model's three."""


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    return tiny_backpack(torch.float64)[0]


@pytest.fixture
def ids():
    return torch.randint(3, 90, (3, 12), generator=torch.Generator().manual_seed(1))


def begun(model, ids):
    """A cache with memory to spare: it has been continued once."""
    past = model(ids[:, :4], use_cache=True).past_key_values
    return model(ids[:, 4:5], past_key_values=past).past_key_values


def ended(model, ids, past, start=5):
    for at in range(start, ids.shape[1]):
        logits = model(ids[:, at : at + 1], past_key_values=past).logits[:, -1]
    return logits


def twin_of(past):
    """A second cache with the same tensors."""
    other = copy(past)
    other.layers = [copy(layer) for layer in past.layers]
    return other


def test_steps_are_written_in_place(model, ids):
    past = begun(model, ids)
    before = past.layers[SENSES].values.data_ptr()
    torch.testing.assert_close(ended(model, ids, past), model(ids).logits[:, -1], **EXACT)
    assert past.layers[SENSES].values.data_ptr() == before


def test_two_caches_that_began_alike_go_on_apart(model, ids):
    past = begun(model, ids)
    other, others = twin_of(past), torch.cat([ids[:, :5], ids[:, 5:].flip(1)], 1)
    for at in range(5, 12):
        logits = model(ids[:, at : at + 1], past_key_values=past).logits[:, -1]
        other_logits = model(others[:, at : at + 1], past_key_values=other).logits[:, -1]
    torch.testing.assert_close(logits, model(ids).logits[:, -1], **EXACT)
    torch.testing.assert_close(other_logits, model(others).logits[:, -1], **EXACT)


def test_columns_that_were_taken_back_are_written_anew(model, ids):
    past = begun(model, ids)
    model(ids[:, :1], past_key_values=past)  # a step that shall not have been
    for layer in past.layers:
        layer.keys, layer.values = layer.keys[..., :5, :], layer.values[..., :5, :]
    torch.testing.assert_close(ended(model, ids, past), model(ids).logits[:, -1], **EXACT)


def test_rows_that_stay_go_on_without_the_others(model, ids):
    past = begun(model, ids)
    past.batch_select_indices(torch.tensor([2, 0]))
    torch.testing.assert_close(ended(model, ids[[2, 0]], past), model(ids[[2, 0]]).logits[:, -1], **EXACT)


def test_more_steps_than_were_foreseen(model, monkeypatch):
    monkeypatch.setattr("interpd_backpack.model.weighting.SLACK", 2)
    ids = torch.randint(3, 90, (1, 30), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(ended(model, ids, begun(model, ids)), model(ids).logits[:, -1], **EXACT)


def test_what_inference_mode_has_begun_goes_on_outside(model, ids):
    with torch.inference_mode():
        past = begun(model, ids)
    torch.testing.assert_close(ended(model, ids, past), model(ids).logits[:, -1], **EXACT)


def test_gradients_go_through_kept_senses(model, ids):
    with torch.enable_grad():
        embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
        past = model(inputs_embeds=embeds[:, :11], use_cache=True).past_key_values
        logits = model(inputs_embeds=embeds[:, 11:], past_key_values=past).logits[:, -1]
        (by_parts,) = torch.autograd.grad(logits.sum(), embeds)
        (at_once,) = torch.autograd.grad(model(inputs_embeds=embeds).logits[:, -1].sum(), embeds)
    torch.testing.assert_close(by_parts, at_once, **EXACT)
