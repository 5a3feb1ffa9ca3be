"""The golden numbers are about the models that the tests build: bare PyTorch agrees with them."""

import numpy as np
import pytest
import torch
from attribution_golden import reading, tiny

ATOL = 1e-6


@pytest.fixture(scope="module")
def models():
    return {name: tiny.model(name).requires_grad_(False) for name in tiny.NAMES}


def embedded(model, golden, source, target):
    """The vectors of what is attributed, and the logits of the last position given them and what precedes it."""
    embed = model.get_input_embeddings()
    side = source if golden.is_encoder_decoder else target
    vectors = embed(torch.tensor([side])).requires_grad_()
    prefix = {"decoder_inputs_embeds": embed(torch.tensor([target]))} if golden.is_encoder_decoder else {}
    return vectors, model(inputs_embeds=vectors, **prefix).logits[0, -1]


def steps(golden):
    ids = golden.sequence("target").ids
    return [(ids[:position], ids[position]) for position in range(golden.start, len(ids))]


@pytest.mark.parametrize("name", reading.TINY)
def test_probabilities_are_those_of_the_model_built_here(models, name):
    golden = reading.golden(f"{name}.scores")
    source = golden.sequence("source").ids
    logits = [(embedded(models[name], golden, source, prefix)[1], wanted) for prefix, wanted in steps(golden)]
    ours = [row.softmax(-1)[wanted].item() for row, wanted in logits]
    np.testing.assert_allclose(ours, golden.case("plain").step_scores["probability"], atol=ATOL)


@pytest.mark.parametrize("name", reading.TINY)
def test_signed_saliency_is_the_gradient(models, name):
    golden = reading.golden(name)
    case = golden.case("saliency+abs=False/probability/raw")
    scores = case.source_scores if golden.is_encoder_decoder else case.target_scores
    for step, (prefix, wanted) in enumerate(steps(golden)):
        vectors, logits = embedded(models[name], golden, golden.sequence("source").ids, prefix)
        (gradient,) = torch.autograd.grad(logits.softmax(-1)[wanted], vectors)
        np.testing.assert_allclose(gradient[0], scores[: vectors.shape[1], step], atol=ATOL)


def test_what_is_not_before_a_step_has_no_score():
    case = reading.golden("tiny-gpt2").case("saliency/logit/sum")
    columns = np.arange(case.start, case.start + case.target_scores.shape[1])
    np.testing.assert_array_equal(np.isnan(case.target_scores), np.arange(len(case.target_scores))[:, None] >= columns)


@pytest.mark.parametrize("name", reading.names())
def test_files_are_whole(name):
    golden = reading.golden(name)
    ids = [case.id for case in golden.cases if not case.raises]
    assert len(ids) == len(set(ids)) > 0
    assert all(array.size for case in golden.cases for array in case.arrays.values())
