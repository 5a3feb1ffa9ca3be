"""Topic scores and bands against loops."""

import numpy as np
import pytest
import torch
from backpack_tests.tiny import N_PADDING, tiny_backpack
from backpack_tests.topics import oracle

import interpd_backpack.worker
import interpd_client
from interpd_backpack.worker.topics.scoring import banded


@pytest.mark.parametrize("strength", [0, 1, 2, 3])
def test_bands_have_the_factors_of_the_published_code(strength):
    scores = torch.randn(101, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(strength))
    scores[:20] = 0.0  # what is skipped is a tie
    factors = oracle.FACTORS[strength]
    assert torch.equal(banded(scores, (0.95, 0.8, 0.6), factors), oracle.factors_of(scores, factors))


def test_scores_at_a_quantile_keep_the_factor_one():
    scores = torch.arange(21, dtype=torch.float64)[:, None]
    found = banded(scores, (0.95, 0.8, 0.6), (5.0, 4.0, 3.0, 2.0)).flatten().tolist()
    assert found == [2.0] * 12 + [1.0] + [3.0] * 3 + [1.0] + [4.0] * 2 + [1.0, 5.0]
    assert torch.equal(banded(scores, (0.95, 0.8, 0.6), (5, 4, 3, 2)), oracle.factors_of(scores, (5, 4, 3, 2)))


@pytest.fixture(scope="module")
def here():
    with interpd_client.local(tiny_backpack(torch.float64), plugins={"backpack": interpd_backpack.worker}) as client:
        yield client


def asked(here, method, **constants):
    t = here.model("backpack").trace("The nurse said")
    t.save(out=t.op(method, **constants))
    return t.run()["out"]


@pytest.mark.parametrize("formula", ["code", "paper"])
def test_scores_are_those_of_a_loop_over_the_vocabulary(here, formula):
    model, _ = tiny_backpack(torch.float64)
    bag, n_tokens = (9, 30, 12), model.config.vocab_size - N_PADDING
    skipped = {0, 1, 2, 3, *range(n_tokens, n_tokens + N_PADDING)}
    wanted = oracle.scores_of(model, bag, skipped, formula).numpy()
    factors = oracle.factors_of(torch.tensor(wanted), oracle.FACTORS[3]).numpy()
    constants = {"bag": bag, "formula": formula, "quantiles": (0.95, 0.8, 0.6), "factors": (3.3, 3.3, 3.0, 1.0)}
    asked(here, "backpack.peaks", save_as="peaks")
    for kept in ({}, {"peaks": "peaks"}):
        found = asked(here, "backpack.topic", **constants, **kept)
        assert np.abs(found.scores - wanted).max() < 1e-5
        assert np.abs(found.factors - factors).max() < 1e-5
    assert np.abs(wanted).max() > 0.5


def test_peaks_are_the_largest_logits_of_each_sense(here):
    model, _ = tiny_backpack(torch.float64)
    found = asked(here, "backpack.peaks")
    logits = torch.stack([oracle.sense_of(model, token) for token in range(model.config.vocab_size)])
    logits = logits @ model.lm_head.weight.T
    assert np.abs(found.highest - logits.amax(-1).numpy()).max() < 1e-5
    assert np.abs(found.largest - logits.abs().amax(-1).numpy()).max() < 1e-5


def test_bags_that_are_no_sets_of_tokens_are_refused(here):
    for bag, message in (((), "the bag is empty"), ((9, 9), "a token twice"), ((9000,), "the bag has 9000")):
        with pytest.raises(interpd_client.CallerError, match=message):
            asked(here, "backpack.topic", bag=bag, quantiles=(0.5,), factors=(2.0, 1.0))
    with pytest.raises(interpd_client.CallerError, match="expected falling numbers"):
        asked(here, "backpack.topic", bag=(9,), quantiles=(0.5, 0.6), factors=(2.0, 1.0, 1.0))
