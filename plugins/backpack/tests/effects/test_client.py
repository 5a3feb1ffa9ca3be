"""``model.backpack.effects`` and edits as variants of ``model.backpack.generate``."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_backpack

import interpd_backpack.worker
import interpd_client
from interpd_backpack.edits import MaskWeights, Remove, ReplaceAssociation, Scale, Topic
from interpd_client import CallerError

PROMPTS = ["The nurse said that", "The doctor ate fish because the nurse", "a cat sat on"]


@pytest.fixture(scope="module")
def model():
    with interpd_client.local(tiny_backpack(torch.float64), plugins={"backpack": interpd_backpack.worker}) as client:
        yield client.model("backpack")


@pytest.fixture(scope="module")
def edits(model):
    make = model.backpack.edit
    return [
        make(Remove("nurse", 1), name="no 1"),
        make(Scale("nurse", 2, -3.0), ReplaceAssociation("nurse", "she", "he"), name="two"),
        make(Topic(("music", "film"), 3), name="topic"),
        make(Topic(("music", "film"), 2, anneal=True), name="fading"),
        make(MaskWeights(positions=(1, 2), senses=(0,), factor=0.0), name="positions"),
        make(MaskWeights("nurse", 1, 3.0, negative_only=0.2), name="against"),
    ]


@pytest.mark.slow
def test_effects_are_what_traces_under_the_edits_give(model, edits):
    found = model.backpack.effects(PROMPTS, edits, targets=("he", "she"), position=(-1, 3))
    assert [(one.prompt, one.position) for one in found.items] == [(0, 4), (0, 3), (1, 7), (1, 3), (2, 4), (2, 3)]
    assert str(found.items[3]) == "<s>The doctor ate"
    ids = [word.ids[0] for word in found.targets]
    with model.trace() as t:
        plain = [t.prompt(text) for text in PROMPTS]
        under = [[t.prompt(text) for text in PROMPTS] for _ in edits]
        for edit, prompts in zip(edits, under, strict=True):
            for prompt in prompts:
                model.backpack.with_edit(prompt, edit)
        t.save(plain=[one.logits[0] for one in plain], under=[[one.logits[0] for one in row] for row in under])
    for number, item in enumerate(found.items):
        before = log_p(t.result["plain"][item.prompt][item.position])
        assert np.abs(found.log_p_before[number] - before[ids]).max() < 1e-10
        for place in range(len(edits)):
            after = log_p(t.result["under"][place][item.prompt][item.position])
            assert np.abs(found.log_p_after[place, number] - after[ids]).max() < 1e-10, edits[place].name
            assert abs(found.kl[place, number] - (np.exp(before) * (before - after)).sum()) < 1e-10


def log_p(logits):
    return torch.tensor(logits).log_softmax(-1).numpy()


def test_logits_alone_are_the_same_logits(model, edits):
    some = edits[:5]
    whole = model.backpack.effects(PROMPTS, some, targets=("he", "she"))
    found = model.backpack.effects(PROMPTS, some, targets=("he", "she"), only_logits=True)
    assert np.abs(found.logits_after - whole.logits_after).max() < 1e-10
    assert np.isnan(found.kl).all()
    assert "nan" not in found.to_json().lower()
    with pytest.raises(CallerError, match="looks at all logits"):
        model.backpack.effects(PROMPTS, edits, targets="he", only_logits=True)


def test_collateral_is_none_where_the_word_is_not(model, edits):
    found = model.backpack.effects(["a cat sat on", *PROMPTS[:2]], edits[:1], position="all")
    far, near = found.collateral()[0], found.kl[0]
    assert (near[: len([one for one in found.items if one.prompt == 0])] == 0).all()
    assert far.largest_kl == near.max() > 0
    assert far.mean_kl == pytest.approx(near.mean())
    assert far.at.prompt in (1, 2)


def test_effects_can_be_looked_at(model, edits):
    found = model.backpack.effects(PROMPTS, edits, targets=("he", "she"), top=3)
    moved = found.moved("two")
    assert len(moved) == 3
    changes = [abs(one.after - one.before) for one in moved]
    assert changes == sorted(changes, reverse=True)
    assert len(found.rows()) == 6 * 3 * 2
    assert json.loads(found.to_json())["edits"][0] == "no 1"
    assert "→" in found.to_html()
    found.show()
    whole = model.backpack.effects("The nurse", edits[0], targets="all", top=0)
    assert whole.logits_after.shape == (1, 1, model.info.sizes["d_vocab"])


def test_questions_that_cannot_be_are_refused(model, edits):
    for given, message in (
        ({"edits": []}, "effects are of edits"),
        ({"edits": [None]}, "expected an edit, got None"),
        ({"position": 9}, "position 9 is not there: a prompt has 5 tokens"),
        ({"targets": "nurses"}, "2 tokens"),
        ({"targets": (), "only_logits": True}, "no targets"),
    ):
        with pytest.raises(CallerError, match=message):
            model.backpack.effects(PROMPTS[0], **{"edits": edits[0], **given})


@pytest.mark.slow
def test_edits_are_variants_of_a_generation(model, edits):
    options = {"max_new_tokens": 6, "ignore_eos": True, "do_sample": True, "seed": 3}
    found = model.backpack.generate(PROMPTS[:2], [None, *edits], **options)
    assert found.names == ("unedited", *(edit.name for edit in edits))
    assert found.digests == ("", *(edit.digest for edit in edits))
    for number, prompt in enumerate(PROMPTS[:2]):
        for edit in edits:
            g = model.generate(prompt, **{**options, "seed": 3 + number})
            model.backpack.with_edit(g, edit)
            assert g.run().token_ids == found.of(edit.name, number).token_ids, edit.name
    assert any(found.compare(edit.name).first_difference is not None for edit in edits)


def test_a_prompt_longer_than_the_model_takes_is_named(model, edits):
    long = "The nurse said that she was happy . " * 5 + "The nurse said that she was happy ."
    with pytest.raises(CallerError, match=r"text 1 \('The nurse said.* has 49 tokens, .* at most 32"):
        model.backpack.effects([PROMPTS[0], long], edits[0])


def test_without_targets_rows_are_of_the_tokens_that_move(model, edits):
    found = model.backpack.effects(PROMPTS[:1], edits[:1], top=3)
    rows = found.rows()
    assert [(row["target"], row["id"]) for row in rows] == [(one.token.strip(), one.id) for one in found.moved()]
    assert rows[0]["log_p_after"] == pytest.approx(np.log(found.moved()[0].after))
    assert rows[0]["kl"] == found.kl[0, 0]


def test_pictures_count_tokens_that_hardly_move_and_tell_numbers_of_the_others(model, edits, capsys):
    found = model.backpack.effects(PROMPTS[:1], edits[:1], top=3)
    after = found.moved_before.copy()
    after[0, 0, 0] = np.log(np.exp(after[0, 0, 0]) + 0.25)
    few = replace(found, moved_after=after)
    few.show()
    for shown in (capsys.readouterr().out, few.to_html()):
        assert "0.250" in shown
        assert "2 more by less than 0.001" in " ".join(shown.split())
