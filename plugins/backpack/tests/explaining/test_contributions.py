"""A prediction's parts: they add up to it, and each is what its sense brought."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from backpack_tests.reading.screen import shown, written

import interpd_client
from interpd.errors import CallerError
from interpd_backpack import worker
from interpd_backpack.edits import Scale

PROMPT = "The nurse said that"
CLOSE = {"rtol": 0, "atol": 1e-10}
QUANTITIES = [{}, {"contrast": "he"}, {"quantity": "log_probability"}]


def number(logits, target, other, quantity):
    """A prediction's number, from logits ``[d_vocab]``."""
    if quantity == "difference":
        return float(logits[target] - logits[other])
    return float(logits[target] - (logits.softmax(-1) @ logits if quantity == "log_probability" else 0))


@pytest.mark.parametrize("options", QUANTITIES, ids=str)
@pytest.mark.parametrize("position", [-1, 2])
def test_the_parts_add_up_to_the_models_own_number(backpack, logits, ids, options, position):
    found = backpack.contributions(PROMPT, "she", position=position, **options)
    own = number(logits(PROMPT)[position], ids("she"), ids("he"), found.quantity)
    np.testing.assert_allclose(found.contributions.sum(), own, **CLOSE)
    np.testing.assert_allclose(found.value, own, **CLOSE)
    assert abs(found.residual) < 1e-10
    assert found.base == 0
    assert found.scale == pytest.approx(0.25, rel=1e-12)
    np.testing.assert_allclose(found.contributions, found.scale * found.weights * found.says, **CLOSE)
    np.testing.assert_allclose(found.by_token().sum(), found.by_sense().sum(), **CLOSE)


@pytest.mark.parametrize("options", QUANTITIES[:2], ids=str)
def test_a_part_is_what_goes_when_its_sense_is_taken_out(backpack, logits, ids, options):
    found = backpack.contributions(PROMPT, "she", **options)
    whole = number(logits(PROMPT)[-1], ids("she"), ids("he"), found.quantity)
    for position, sense in ((0, 0), (2, 3), (4, 1)):
        without = logits(PROMPT, position, sense, 0.0)[-1]
        lost = whole - number(without, ids("she"), ids("he"), found.quantity)
        np.testing.assert_allclose(found.contributions[position, sense], lost, **CLOSE)


def test_a_centred_logit_less_the_entropy_is_the_log_probability(backpack, logits, ids):
    found = backpack.contributions(PROMPT, "she", quantity="log_probability")
    logs = logits(PROMPT)[-1].log_softmax(-1)
    np.testing.assert_allclose(found.value - found.entropy, logs[ids("she")], **CLOSE)
    np.testing.assert_allclose(found.log_probability, logs[ids("she")], **CLOSE)
    np.testing.assert_allclose(found.entropy, -(logs.exp() * logs).sum(), **CLOSE)


def test_without_a_target_the_most_likely_token_is_explained(backpack, bare, logits):
    found = backpack.contributions(PROMPT)
    best = int(logits(PROMPT)[-1, :91].argmax())
    assert found.target.ids == (best,)
    assert found.predicted == {best: bare[1].decode(best)}


def test_what_a_trace_writes_is_in_force(backpack, logits, ids):
    def under(t):
        t.senses[:, 3, 2] = t.senses[:, 3, 2] * -2.0

    found = backpack.contributions(PROMPT, "she", contrast="he", under=under)
    edited = logits(PROMPT, 2, 3, -2.0)[-1]
    np.testing.assert_allclose(found.contributions.sum(), edited[ids("she")] - edited[ids("he")], **CLOSE)
    plain = backpack.contributions(PROMPT, "she", contrast="he")
    changed = np.argwhere(np.abs(found.contributions - plain.contributions) > 1e-12)
    assert changed.tolist() == [[2, 3]]
    np.testing.assert_allclose(found.contributions[2, 3], -2 * plain.contributions[2, 3], **CLOSE)
    assert found.info["under"] == {"writes": "under"}


def test_an_edit_is_explained_as_it_acts(backpack, ids, logits):
    edit = backpack.edit(Scale("nurse", 3, -2.0))
    found = backpack.contributions(PROMPT, "she", contrast="he", under=edit)
    edited = logits(PROMPT, 2, 3, -2.0)[-1]
    np.testing.assert_allclose(found.value, edited[ids("she")] - edited[ids("he")], **CLOSE)
    np.testing.assert_allclose(found.contributions.sum(), found.value, **CLOSE)
    assert found.info["under"] == {"edit": edit.name, "digest": edit.digest}


def test_sense_weights_that_a_trace_writes_are_in_force(backpack):
    def under(t):
        t.sense_weights[:, 1, :, 0] = t.sense_weights[:, 1, :, 0] * 0.0

    found = backpack.contributions(PROMPT, "she", under=under)
    assert found.weights[0, 1] == 0
    assert found.contributions[0, 1] == 0
    np.testing.assert_allclose(found.contributions.sum(), found.value, **CLOSE)


def test_writes_behind_the_senses_are_refused(backpack):
    def under(t):
        t.logits[:] = t.logits * 1.5

    with pytest.raises(CallerError, match="the trace writes at 'logits', behind the senses: leave that write out"):
        backpack.contributions(PROMPT, "she", under=under)


def test_the_strongest_parts_come_first(backpack):
    found = backpack.contributions(PROMPT, "she", contrast="he")
    flat = found.contributions.ravel()
    assert [abs(part.contribution) for part in found.top(3)] == sorted(np.abs(flat).tolist())[::-1][:3]
    (most,), (least,) = found.top(1, "most"), found.top(1, "least")
    assert (most.contribution, least.contribution) == (flat.max(), flat.min())
    assert found.contributions[most.position, most.sense] == most.contribution
    assert (most.token, most.id) == (found.strings[most.position], found.ids[most.position])
    assert len(found.rows()) == found.contributions.size == 5 * 4


def test_pictures_have_each_token_sense_and_sum(backpack):
    found = backpack.contributions(PROMPT, "she", contrast="he")
    page, screen = found.to_html(page=True), shown(found)
    for table in (page, screen):
        for value in found.contributions.ravel():
            assert written(value, found.contributions) in table
        sums = (found.by_token(), found.by_sense())
        for value in (*sums[0], *sums[1], found.value):
            assert written(value, *sums) in table
        assert "logit of ␣she - that of ␣he at position 4" in table
        assert "nurse" in table
        assert "residual" in table
    part = found.top(1)[0]
    assert f"says {part.says:.4g}, weight {part.weight:.4g}" in page
    assert page.count("<td") == 6 * 5
    assert "elsewhere" not in page


def test_json_has_all_of_it(backpack):
    found = backpack.contributions(PROMPT, "she")
    content = json.loads(found.to_json())
    np.testing.assert_array_equal(content["contributions"], found.contributions)
    assert content["target"] == {"text": "she", "ids": list(found.target.ids), "pieces": "refuse"}
    assert content["residual"] == found.residual
    assert content["info"]["dtype"] == "float64"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": 5}, "position 5 is not there: the prompt has 5 tokens"),
        ({"quantity": "difference"}, "give contrast"),
        ({"quantity": "logit", "contrast": "he"}, "with quantity='logit' leave it out"),
        ({"quantity": "probability"}, "expected one of logit, difference, log_probability"),
        ({"target": "nurses"}, "the word 'nurses' is 2 tokens .* take one of these, or pieces='first' or 'last'"),
        ({"target": 91}, "target is 91, but tokens are 0 to 90"),
    ],
)
def test_what_cannot_be_is_refused(backpack, options, message):
    with pytest.raises(CallerError, match=message):
        backpack.contributions(PROMPT, **options)


def test_a_piece_that_stands_for_its_word_is_said(backpack):
    found = backpack.contributions(PROMPT, "nurses", pieces="last")
    assert found.predicted[found.target.ids[0]] == "s"
    assert found.info["pieces"] == "last"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_smaller_dtypes_add_up_within_their_rounding(dtype):
    from backpack_tests.tiny import tiny_backpack

    with interpd_client.local(tiny_backpack(dtype), name="tiny", plugins={"backpack": worker}) as client:
        for options in QUANTITIES:
            found = client.model("tiny").backpack.contributions(PROMPT, "she", **options)
            most = np.abs(found.contributions).sum()
            assert abs(found.residual) < {torch.float32: 1e-5}.get(dtype, 0.02) * most


def test_sums_have_colours_of_their_own_that_reach_to_the_whole(backpack):
    found = backpack.contributions("The nurse said that", "she")
    found = replace(found, contributions=np.ones_like(found.contributions))
    n_pos, n_senses = found.contributions.shape
    page = found.to_html()
    assert f"<span>{n_pos * n_senses}</span>" in page
    assert f'class="t p" style="--a:{1 / n_pos:.3g}"' in page
