"""Edits at the client: of words, with warnings, tried out."""

import json
import warnings

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_backpack.edits import (
    AddDelta,
    MaskWeights,
    ProjectOut,
    Remove,
    ReplaceAssociation,
    Scale,
    Token,
    Topic,
    Transplant,
)
from interpd_backpack.edits.asking import OrderMatters

VECTOR = np.linspace(-1, 1, 24)


def test_words_become_tokens_that_say_what_they_are(part, plain):
    edit = part.edit(
        *(
            Scale(["nurse", "=The"], 2, 0.5),
            ReplaceAssociation("doctor", "she", "he"),
            ProjectOut("all", ("she", "he")),
        ),
        *(Topic(["music", "film"]), Transplant("nurse", plain.id("doctor"), 0)),
        name="words",
        on_conflict="allow",
    )
    tokens = edit.operations[0].tokens
    assert [(one.id, one.text) for one in tokens] == [(plain.id("nurse"), " nurse"), (4, "The")]
    assert [one.text for one in edit.tokens] == ["The", " nurse", " doctor"]
    assert edit.operations[4].out_of.id == plain.id("doctor")
    assert (edit.base.n_senses, edit.base.d_model) == (4, 24)


def test_what_is_done_with_words_of_several_tokens_is_said(part):
    with pytest.raises(CallerError, match=r"the word ' nurses' is 2 tokens \(' nurse', 's'\)"):
        part.edit(Remove("nurses", 0))
    for pieces, texts in (("first", [" nurse"]), ("last", ["s"]), ("each", [" nurse", "s"])):
        edit = part.edit(Remove("nurses", 0), pieces=pieces)
        assert sorted(one.text for one in edit.tokens) == sorted(texts)
    assert "remove sense 0 of ' nurse' (" in part.edit(Remove("nurses", 0), pieces="first").describe()


@pytest.mark.parametrize("pieces", ["mean", "sum", "all"])
def test_an_edit_is_of_tokens_not_of_mixtures(part, pieces):
    with pytest.raises(CallerError, match="an edit is of tokens: refuse, first, last, each"):
        part.edit(Remove("nurses", 0), pieces=pieces)


def test_one_token_is_not_several(part):
    with pytest.raises(CallerError, match="replace_association: add is one token, but 'nurses' has 2"):
        part.edit(ReplaceAssociation("doctor", "he", "nurses"), pieces="each")


def test_conflicts_are_warned_about_refused_or_allowed(part):
    operations = (Scale("nurse", 0, 2), AddDelta("nurse", 0, VECTOR))
    with pytest.warns(
        OrderMatters, match="operations 0 and 1 meet at sense 0 of ' nurse'.*their order matters"
    ) as told:
        part.edit(*operations, name="pair")
    assert told[0].filename == __file__
    with pytest.raises(CallerError, match="their order matters"):
        part.edit(*operations, on_conflict="refuse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part.edit(*operations, on_conflict="allow")
        part.edit(Scale("nurse", 0, 2), Scale("nurse", 0, 3))


def test_a_dry_run_says_which_words_each_sense_speaks_more_for(part, plain):
    edit = part.edit(Scale("nurse", 2, 3), ReplaceAssociation("doctor", "she", "he", 1), Scale("all", 0, 1), name="two")
    tried = part.dry_run(edit, top=3)
    assert [(one.token.text, one.sense) for one in tried.moved] == [(" nurse", 2), (" doctor", 1)]
    table, n_tokens = plain.table(edit.operations), len(plain.tokenizer)
    for one in tried.moved:
        before, after = plain.senses[one.token.id, one.sense], table[one.token.id, one.sense]
        says = (plain.rows @ (after - before))[:n_tokens]
        order = np.argsort(-says)
        assert [token.id for token, _ in one.more] == order[:3].tolist()
        assert [token.id for token, _ in one.less] == order[:-4:-1].tolist()
        np.testing.assert_allclose([change for _, change in one.more], says[order[:3]], rtol=1e-5)
        np.testing.assert_allclose(
            (one.norm, one.change), [np.linalg.norm(x) for x in (before, after - before)], rtol=1e-5
        )


@pytest.mark.slow
def test_a_dry_run_of_what_is_done_to_all_words_looks_at_those_that_are_named(part):
    edit = part.edit(ProjectOut("all", ("she", "he"), 1), MaskWeights(positions=(0,)), name="all")
    with pytest.raises(CallerError, match="names no token that it changes: say which tokens to look at"):
        part.dry_run(edit)
    tried = part.dry_run(edit, words=["nurse", "dog"])
    assert [(one.token.text, one.sense) for one in tried.moved] == [(" nurse", 1), (" dog", 1)]
    assert tried.left_out == ("multiply the weights of every sense at positions 0 by 0",)


def test_a_dry_run_can_be_looked_at(part, capsys):
    tried = part.dry_run(part.edit(Scale("nurse", (0, 2), 3), MaskWeights(positions=(0,)), name="<b>"))
    page = tried.to_html(page=True)
    assert "<b>" not in page.replace("<body>", "")
    assert "not shown: multiply the weights" in page
    tried.show()
    assert "' nurse' (" in capsys.readouterr().out
    content = json.loads(tried.to_json())
    assert content["edit"]["name"] == "<b>"
    assert content["moved"][0]["more"][0][0] == tried.moved[0].more[0][0].id
    assert repr(tried) == "<what the edit '<b>' does to 2 senses>"


def test_workers_refuse_what_was_changed_and_what_is_of_others(model, part):
    edit = part.edit(Scale("nurse", 0, 2), name="mine")
    data = edit.to_artifact().replace(b"2.0", b"3.0")
    assert data != edit.to_artifact()
    model.upload_artifact(data, "changed", "sense_edit")
    t = model.trace("The")
    t.save(n=t.op("backpack.compile", edit="changed", save_as="never"))
    with pytest.raises(CallerError, match="the artifact was changed or is damaged: its digest is"):
        t.run()


def test_tokens_may_be_given_by_id(part):
    assert part.edit(Scale(5, 0, 2)).operations == (Scale(Token(5), 0, 2),)
