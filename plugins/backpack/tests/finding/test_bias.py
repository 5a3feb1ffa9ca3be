"""Bias and its reduction against the bare model, run again for every factor with its senses scaled by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_backpack
from transformers import GPT2Config, GPT2LMHeadModel

import interpd_client
from interpd.errors import CallerError
from interpd_backpack import worker
from interpd_backpack.client import Backpack
from interpd_backpack.edits import Edit, MaskWeights, Scale
from interpd_backpack.finding.bias import optimal_scale, rank_bias
from interpd_backpack.model import retrofit

WORDS = ("nurse", "doctor")
PROMPTS = ("The {} said that", "a {} and the {} was happy . The", "the {} ran")
TOLERANCE = {"rtol": 1e-9}


def logits_again(bare, ids, tokens, sense, factor):
    """The bare model's last logits with a sense of some tokens scaled."""
    model, _ = bare

    def scaled(_module, _arguments, output):
        output = output.clone()
        output[0, sense, torch.isin(ids, torch.tensor(tokens))] *= factor
        return output

    handle = model.backpack.sense_network.register_forward_hook(scaled)
    try:
        with torch.no_grad():
            return model(ids[None]).logits[0, -1]
    finally:
        handle.remove()


def bias_again(bare, word, sense, factor, sides=((" he",), (" she",)), prompts=PROMPTS):
    tokenizer = bare[1]
    tokens = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    ratios = []
    for prompt in prompts:
        ids = torch.tensor(tokenizer(prompt.replace("{}", word))["input_ids"])
        p = logits_again(bare, ids, tokens, sense, factor).softmax(-1)
        first, second = (sum(p[tokenizer.convert_tokens_to_ids(f"Ġ{one.strip()}")] for one in side) for side in sides)
        ratios.append(max(float(first / second), float(second / first)))
    return np.mean(ratios)


def test_a_ranking_is_what_running_the_model_again_with_each_sense_removed_gives(model, bare):
    found = rank_bias(model, WORDS, PROMPTS)
    wanted = [[bias_again(bare, word, sense, 0.0) for sense in range(4)] for word in WORDS]
    np.testing.assert_allclose(found.after, wanted, **TOLERANCE)
    np.testing.assert_allclose(found.base, [bias_again(bare, word, 0, 1.0) for word in WORDS], **TOLERANCE)
    first = found.ranking[0]
    row = WORDS.index(first.word)
    assert first.reduction == pytest.approx((found.base[row] - wanted[row][first.sense]) / (found.base[row] - 1))
    assert [one.reduction for one in found.ranking] == sorted((one.reduction for one in found.ranking), reverse=True)
    assert found.best_sense == int(np.mean(wanted, 0).argmin())


def test_a_sweep_of_factors_needs_no_further_pass_and_is_what_each_would_give(model, bare):
    found = rank_bias(model, WORDS, PROMPTS)
    factors = [-1.0, 0.0, 0.3, 1.0, 2.5]
    wanted = [bias_again(bare, "doctor", 2, factor) for factor in factors]
    np.testing.assert_allclose(found.curve("doctor", 2, factors), wanted, **TOLERANCE)


@pytest.mark.slow
def test_sides_of_several_words_add_their_probabilities(model, bare):
    found = rank_bias(model, WORDS, PROMPTS, (("he", "his"), ("she", "her")), factor=0.5)
    sides = ((" he", " his"), (" she", " her"))
    wanted = [[bias_again(bare, word, sense, 0.5, sides) for sense in range(4)] for word in WORDS]
    np.testing.assert_allclose(found.after, wanted, **TOLERANCE)
    best = optimal_scale(model, WORDS, PROMPTS, (("he", "his"), ("she", "her")), sense=1, bounds=(-2.0, 2.0))
    assert not best.is_exact


def test_the_model_with_the_found_factor_has_the_bias_that_is_told_and_no_other_factor_a_lower_one(model, bare):
    best = optimal_scale(model, WORDS, PROMPTS, sense=3, penalty=0.5, test_prompts=["The {} was"])
    for row, word in enumerate(WORDS):
        factor = float(best.factors[row])
        assert best.after[row] == pytest.approx(bias_again(bare, word, 3, factor, prompts=["The {} was"]), rel=1e-9)
        assert best.removed[row] == pytest.approx(bias_again(bare, word, 3, 0.0, prompts=["The {} was"]), rel=1e-9)
        here = bias_again(bare, word, 3, factor) + 0.5 * abs(factor - 1)
        for other in (factor - 0.01, factor + 0.01, 0.0, 1.0, -3.0, 4.0):
            assert here < bias_again(bare, word, 3, other) + 0.5 * abs(other - 1)
    assert best.is_exact


def test_the_edit_holds_the_factors(model):
    best = optimal_scale(model, WORDS, PROMPTS, sense=2, penalty=0.0)
    edit = best.edit
    assert isinstance(edit, Edit)
    assert all(isinstance(one, Scale) and one.senses == (2,) for one in edit.operations)
    assert [one.factor for one in edit.operations] == best.factors.tolist()
    assert [one.tokens[0].text for one in edit.operations] == list(WORDS)
    assert "no penalty" in best.to_html()


def test_words_that_stay_as_they_are_are_not_in_the_edit_and_the_penalty_that_leaves_them_is_told(model, capsys):
    best = optimal_scale(model, WORDS, PROMPTS, sense=2, penalty=1e6)
    assert best.factors.tolist() == [1.0, 1.0]
    best.show()
    shown = " ".join(capsys.readouterr().out.split())
    assert "penalty 1e+06 |1 - factor|" in shown
    assert "every factor is 1" in shown
    assert "penalty=0" in best.to_html()
    with pytest.raises(CallerError, match=r"there is no edit: every factor is 1.*penalty=0"):
        _ = best.edit
    one = replace(best, factors=np.array([1.0, 0.5]))
    assert [operation.tokens[0].text for operation in one.edit.operations] == ["doctor"]
    assert "factor 1, so not in the edit: nurse" in one.to_html()


def test_an_edit_that_is_in_force_is_in_the_numbers(model):
    found = optimal_scale(model, WORDS, PROMPTS, sense=2, penalty=0.2)
    again = rank_bias(model, WORDS, PROMPTS, under=found.edit)
    np.testing.assert_allclose(again.base, found.after, **TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "operations", [[MaskWeights(positions=(1,), senses=2, factor=0.1)], [Scale("all", 1, 0.4), Scale("nurse", 2, 3)]]
)
def test_edits_of_places_and_of_all_words_are_in_the_numbers(model, bare, operations):
    edit = Backpack(model).edit(*operations, on_conflict="allow")
    found = rank_bias(model, ["nurse"], PROMPTS[:1], under=edit, factor=0.3)
    for sense in range(4):
        with model.trace(PROMPTS[0].format("nurse")) as t:
            Backpack(model).with_edit(t, edit + Backpack(model).edit(Scale("nurse", sense, 0.3)))
            t.save(logits=t.logits[0, -1])
        he, she = (bare[1].convert_tokens_to_ids(f"Ġ{word}") for word in ("he", "she"))
        ratio = np.exp(abs(t.result["logits"][he] - t.result["logits"][she]))
        np.testing.assert_allclose(found.after[0, sense], ratio, **TOLERANCE)


@pytest.mark.parametrize("site", ["logits", "sense_mix", "an edit"])
def test_what_is_written_behind_the_senses_is_refused(model, site):
    def scaled(t):
        setattr(t, site, getattr(t, site) * 2)

    under = scaled
    if site == "an edit":
        under = Backpack(model).edit(MaskWeights("nurse", 1, 9.0, negative_only=0.3))
    with pytest.raises(CallerError, match="behind the senses"):
        rank_bias(model, WORDS, PROMPTS, under=under)


@pytest.mark.slow
def test_senses_beside_another_model_and_scaled_sums_are_ranked_too(bare):
    tokenizer = bare[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        beside = GPT2Config(
            n_embd=24, n_layer=2, n_head=2, n_positions=32, vocab_size=94, bos_token_id=0, eos_token_id=1
        )
        gated = retrofit(GPT2LMHeadModel(beside).double(), num_senses=4)
        for parameter in gated.backpack.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    shared = tiny_backpack(torch.float64, sense_output_scale=0.3)[0]
    for one in (gated.eval().requires_grad_(False), shared):
        with interpd_client.local((one, tokenizer), name="other", plugins={"backpack": worker}) as client:
            found = rank_bias(client.model("other"), WORDS, PROMPTS)
        wanted = [[bias_again((one, tokenizer), word, sense, 0.0) for sense in range(4)] for word in WORDS]
        np.testing.assert_allclose(found.after, wanted, **TOLERANCE)
        assert np.ptp(found.after) > 1e-3


@pytest.mark.slow
def test_the_pieces_of_a_word_are_scaled_together_when_that_is_asked_for(model, bare):
    with pytest.raises(CallerError, match="is 2 tokens"):
        rank_bias(model, ["nurses"], PROMPTS)
    found = rank_bias(model, ["nurses"], PROMPTS, pieces="each")
    assert found.after[0, 1] == pytest.approx(bias_again(bare, "nurses", 1, 0.0), rel=1e-9)


def test_results_can_be_looked_at(model, capsys):
    ranking = rank_bias(model, WORDS, PROMPTS)
    scales = optimal_scale(model, WORDS, PROMPTS)
    for one in (ranking, scales):
        one.show()
        assert "nurse" in capsys.readouterr().out
        assert "<svg" in one.to_html()
        assert '"pair"' in one.to_json()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": ["The nurse said"]}, "no place for the word"),
        ({"prompts": ["{} said"]}, "does not have 'nurse' as its token"),
        ({"pair": ("he", "he")}, "no token in common"),
        ({"words": []}, "one word and one prompt"),
        ({"pieces": "mean"}, "changed token by token"),
    ],
)
def test_what_cannot_be_is_refused(model, arguments, message):
    with pytest.raises(CallerError, match=message):
        rank_bias(**{"model": model, "words": ["nurse"], "prompts": PROMPTS, **arguments})


def test_a_sense_that_there_is_not_is_refused(model):
    with pytest.raises(CallerError, match="there is no sense 4"):
        optimal_scale(model, WORDS, PROMPTS, sense=4)
