"""How factors fade, against loops over places, senses and tokens."""

import pytest
import torch
from backpack_tests.tiny import tiny_backpack
from backpack_tests.topics import oracle

import interpd_backpack.worker
import interpd_client
from interpd.graph.ir import Prompt
from interpd.sdk import CallerError
from interpd_backpack.edits import Topic
from interpd_backpack.worker.topics.annealing import anneal, annealed, said

IDS = (0, 5, 9, 5, 17, 20)


@pytest.fixture(scope="module")
def model():
    return tiny_backpack(torch.float64)[0]


@pytest.fixture(scope="module")
def table(model):
    scores = torch.randn(model.config.vocab_size, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return oracle.factors_of(scores, oracle.FACTORS[3])


def ports(model, ids):
    senses = torch.stack([oracle.sense_of(model, token) for token in ids])
    return senses[None], model.lm_head.weight[list(ids)][None]


@pytest.mark.parametrize("formula", ["code", "paper"])
def test_factors_at_every_query_position_are_those_of_the_text_up_to_it(model, table, formula):
    senses, rows = ports(model, IDS)
    found = annealed(table[list(IDS)][None], said(senses, rows, len(IDS)), 3.3, formula)[0]
    for place in range(len(IDS)):
        wanted = oracle.annealed_at_the_end(model, IDS[: place + 1], table, 3.3, formula)
        torch.testing.assert_close(found[:, place, : place + 1], wanted.T, rtol=0, atol=1e-10)


def test_a_decode_step_gives_the_last_row_of_the_whole(model, table):
    senses, rows = ports(model, IDS)
    weights = torch.rand(1, 4, len(IDS), len(IDS), dtype=torch.float64).softmax(-1)
    whole = anneal(weights, senses, rows, table[list(IDS)][None], strongest=3.3)
    step = anneal(weights[:, :, -1:], senses, rows, table[list(IDS)][None], strongest=3.3)
    torch.testing.assert_close(step[:, :, 0], whole[:, :, -1], rtol=0, atol=1e-12)


def test_a_factor_of_one_leaves_weights_alone_to_the_bit(model):
    senses, rows = ports(model, IDS)
    weights = torch.rand(1, 4, len(IDS), len(IDS), dtype=torch.float64)
    ones = torch.ones(1, len(IDS), 4, dtype=torch.float64)
    assert torch.equal(anneal(weights, senses, rows, ones, strongest=1.0), weights)


def test_scaled_weights_are_scaled_senses(model, table):
    # the published code scales the senses; at the end of a text that is the same as scaling their weights there
    scaled = oracle.annealed_at_the_end(model, IDS, table, 3.3)
    senses, rows = ports(model, IDS)
    with torch.no_grad():
        weights = model(torch.tensor([IDS])).contextualization
        found = anneal(weights[:, :, -1:], senses, rows, table[list(IDS)][None], strongest=3.3)
        logits = model.lm_head(torch.einsum("bliq,bqld->bid", found, senses))[0, 0]
        torch.testing.assert_close(logits, oracle.next_logits(model, IDS, scaled), rtol=0, atol=1e-10)


def test_what_cannot_be_is_refused(model):
    senses, rows = ports(model, IDS)
    ones = torch.ones(1, len(IDS), 4, dtype=torch.float64)
    with pytest.raises(CallerError, match="7 query positions of a text of 6"):
        said(senses, rows, 7)
    with pytest.raises(CallerError, match=r"largest factor is 0\.0"):
        annealed(ones, said(senses, rows, 1), 0.0, "code")


@pytest.mark.slow
@pytest.mark.parametrize("strength", [2, 3])
def test_generations_that_fade_are_the_published_loop_with_a_whole_pass_for_each_token(strength):
    made, bag = tiny_backpack(torch.float64), ("music", "film")
    with interpd_client.local(made, plugins={"backpack": interpd_backpack.worker}) as client:
        model = client.model("backpack")
        tokens = [model.tokenize(Prompt(text=f" {word}", add_special_tokens=False)).ids[0] for word in bag]
        edit = model.backpack.edit(Topic(bag, strength, anneal=True), name="fading")
        stays = model.backpack.edit(Topic(bag, strength), name="stays")
        found = model.backpack.generate("The dog sat", [None, edit, stays], max_new_tokens=10, ignore_eos=True)
    bare, tokenizer = tiny_backpack(torch.float64)
    skipped = {0, 1, 2, 3, *range(len(tokenizer), bare.config.vocab_size)}
    table = oracle.factors_of(oracle.scores_of(bare, tokens, skipped), oracle.FACTORS[strength])
    ids, strongest = tokenizer("The dog sat").input_ids, max(oracle.FACTORS[strength])
    assert list(found["fading"].token_ids) == oracle.controlled(bare, ids, 10, table, strongest)
    assert list(found["stays"].token_ids) == oracle.controlled(bare, ids, 10, table, None)
    assert len({one.token_ids for one in found.continuations[0]}) == 3
