"""Contributions over many texts are those of each, added up by token and sense."""

import json

import numpy as np
import pytest
from backpack_tests.reading.screen import shown, written

from interpd.errors import CallerError
from interpd_backpack.edits import Remove, Scale
from interpd_backpack.evaluation.files import read_documents
from interpd_backpack.worker.explaining import over_texts
from interpd_backpack.worker.reading import passes

TEXTS = ["The nurse said that she was happy", "The doctor", "a cat ran because she ate fish and she sat"]
CLOSE = {"rtol": 0, "atol": 1e-10}


def added(singles):
    """By (id, sense): the sum, the number of predictions that the token is in."""
    sums, counts = {}, {}
    for one in singles:
        for id_ in set(one.ids):
            counts[id_] = counts.get(id_, 0) + 1
        for (position, sense), value in np.ndenumerate(one.contributions):
            key = (one.ids[position], sense)
            sums[key] = sums.get(key, 0) + value
    return sums, counts


def check(found, singles):
    sums, counts = added(singles)
    assert set(found.types.tolist()) == set(counts)
    for row, id_ in enumerate(found.types.tolist()):
        assert found.counts[row] == counts[id_]
        expected = [sums[id_, sense] for sense in range(4)]
        np.testing.assert_allclose(found.sums[row], expected, **CLOSE)
    np.testing.assert_allclose(found.values, [one.value for one in singles], **CLOSE)
    assert found.targets.tolist() == [one.target.ids[0] for one in singles]
    assert np.abs(found.residuals).max() < 1e-10


@pytest.mark.parametrize("at_once", [1, 1024])
def test_the_last_positions(backpack, monkeypatch, at_once):
    monkeypatch.setattr(passes, "POSITIONS_AT_ONCE", at_once)
    found = backpack.contributions_over(TEXTS, "he", contrast="she")
    check(found, [backpack.contributions(text, "he", contrast="she") for text in TEXTS])
    assert found.question == "logit of ␣he - that of ␣she at the last position"


def test_wherever_the_target_comes(backpack):
    found = backpack.contributions_over(TEXTS, "she", position="before_target", quantity="log_probability")
    places = [(TEXTS[0], 4), (TEXTS[2], 4), (TEXTS[2], 8)]
    check(found, [backpack.contributions(text, "she", position=at, quantity="log_probability") for text, at in places])
    with pytest.raises(CallerError, match="'Rome' comes in none of the 3 texts"):
        backpack.contributions_over(TEXTS, "Rome", position="before_target")


def test_every_position_explains_the_token_that_comes(backpack, bare, monkeypatch):
    monkeypatch.setattr(over_texts, "AT_ONCE", 2)
    found = backpack.contributions_over(TEXTS, position="all")
    ids = [bare[1](text).input_ids for text in TEXTS]
    singles = [
        backpack.contributions(text, row[at + 1], position=at)
        for text, row in zip(TEXTS[:2], ids, strict=False)
        for at in range(len(row) - 1)
    ]
    np.testing.assert_allclose(found.values[: len(singles)], [one.value for one in singles], **CLOSE)
    assert len(found.values) == sum(len(row) - 1 for row in ids)
    assert found.question == "logit of the token that comes at every position"


def test_sums_so_far_arrive_before_the_end(backpack, monkeypatch):
    monkeypatch.setattr(passes, "POSITIONS_AT_ONCE", 1)
    parts = []
    found = backpack.contributions_over(TEXTS, "she", on_partial=parts.append)
    assert set(parts[-1]) == {"types", "sums", "counts"}
    for name, table in parts[-1].items():
        np.testing.assert_array_equal(table, getattr(found, name))


def test_writes_are_in_force_in_every_text(backpack):
    def under(t):
        t.senses[:, 1] = t.senses[:, 1] * 0.0

    found = backpack.contributions_over(TEXTS, "she", under=under)
    assert not found.sums[:, 1].any()
    check(found, [backpack.contributions(text, "she", under=under) for text in TEXTS])


def test_an_edit_finds_its_tokens_in_every_text(backpack):
    edit = backpack.edit(Remove("she", [1, 2]), Scale("The", "all", 0.5))
    found = backpack.contributions_over(TEXTS, "he", under=edit)
    check(found, [backpack.contributions(text, "he", under=edit) for text in TEXTS])
    row = [found.strings[id_] for id_ in found.types.tolist()].index(" she")
    assert not found.sums[row, 1:3].any()
    assert found.sums[row, 0] != 0


def test_the_strongest_senses_and_their_pictures(backpack):
    found = backpack.contributions_over(TEXTS, "she", contrast="he")
    means = found.sums / found.counts[:, None]
    (most,), (least,) = found.top(1), found.top(1, "least")
    assert (most.mean, least.mean) == (means.max(), means.min())
    assert found.top(1, by="sum")[0].sum == found.sums.max()
    assert {one.count for one in found.top(40, least=3)} == {3}
    begin = next(one for one in found.top(100) if one.token == "<s>" and one.sense == 2)
    each = [backpack.contributions(text, "she", contrast="he").contributions[0, 2] for text in TEXTS]
    assert begin.deviation == pytest.approx(np.std(each))
    for picture in (found.to_html(), shown(found)):
        assert written(most.mean, means) in picture
        assert written(least.mean, means) in picture
        assert "3 predictions in 3 texts" in picture
    assert "strongest tokens" in found.to_html()
    assert found.to_dict()["counts"] == found.counts.tolist()
    assert len(found.rows()) == found.sums.size


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("The nurse", {}, "texts are several prompts"),
        (TEXTS, {"position": "first"}, "position is 'first', expected a number, 'all' or 'before_target'"),
        (TEXTS, {"position": 3}, "text 1 has 3 tokens, and no position 3"),
        (TEXTS, {"position": "before_target"}, "looks for the target: give one"),
    ],
)
def test_what_cannot_be_is_refused(backpack, texts, options, message):
    with pytest.raises(CallerError, match=message):
        backpack.contributions_over(texts, **options)


def test_texts_longer_than_the_model_takes_are_named_or_read_in_pieces(backpack, tmp_path):
    long = "The nurse said that she was happy . " * 5 + "The nurse said that she was happy ."
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in (TEXTS[0], long, long)))
    documents = read_documents([file])
    with pytest.raises(CallerError, match=r"texts\.jsonl, line 2 has 49 tokens.* at most 32; 2 of the 3 texts.*'all'"):
        backpack.contributions_over(documents, "she")
    with pytest.raises(CallerError, match=r"text 1 \('The nurse.* leave out it"):
        backpack.contributions_over([TEXTS[0], long], "she")
    found = backpack.contributions_over(documents, "she", position="before_target")
    assert len(found.values) == 1 + 6 + 6
    assert "2 texts are longer than the 32 tokens" in found.to_html()
