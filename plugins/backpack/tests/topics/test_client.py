"""``model.backpack.topic`` and ``model.backpack.peaks``."""

import json

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_backpack

import interpd_backpack.worker
import interpd_client
from interpd_backpack.edits import Topic
from interpd_backpack.edits import asking as editing
from interpd_client import CallerError

BAG = ("music", "film")


@pytest.fixture(scope="module")
def backpack():
    with interpd_client.local(tiny_backpack(torch.float64), plugins={"backpack": interpd_backpack.worker}) as client:
        yield client.model("backpack").backpack


def test_the_senses_that_speak_most_come_first_with_their_factors(backpack):
    found = backpack.topic(BAG, strength=2, top=7)
    assert [one.score for one in found.top()] == sorted(found.scores.ravel().tolist(), reverse=True)[:7]
    assert {round(one.factor, 5) for one in found.top()} == {2.2}
    assert (found.factors == np.float32(2.2)).mean() == pytest.approx(0.2, abs=0.01)
    assert json.loads(found.to_json())["top"][0]["sense"] == found.top(1)[0].sense
    assert "factors 2.2/2.2/1.5/1 above 95%/80%/60%" in found.to_html()
    found.show()


def test_peaks_are_computed_once_and_change_nothing(backpack):
    without = backpack.topic(BAG, formula="paper")
    edit = backpack.edit(Topic(BAG, 3), name="topic")
    effects = backpack.effects("The dog sat", edit, targets="music")
    name = backpack.peaks()
    assert backpack.peaks() == name
    assert np.abs(backpack.topic(BAG, formula="paper").scores - without.scores).max() < 1e-5
    again = backpack.effects("The dog sat", edit, targets="music")
    assert np.abs(again.logits_after - effects.logits_after).max() < 1e-10
    with pytest.raises(CallerError, match="of kind 'sense_edit' already"):
        backpack.peaks(editing.uploaded(backpack._model, edit))


def test_what_is_no_topic_is_refused(backpack):
    for given, message in (
        ({"bag": ["nurses"]}, "2 tokens"),
        ({"bag": BAG, "pieces": "mean"}, "a bag is of tokens"),
        ({"bag": BAG, "strength": (2.0, 1.0)}, "factors for 3 quantiles"),
    ):
        with pytest.raises(CallerError, match=message):
            backpack.topic(**given)
    with pytest.raises(CallerError, match="of 3: ask for more"):
        backpack.topic(BAG, top=3).top(4)
