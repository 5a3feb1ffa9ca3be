"""Sense finetuning against the bare model, to whose senses the found vectors are added by hand."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from backpack_tests.tiny import tiny_backpack

import interpd_client
from interpd.errors import CallerError
from interpd_backpack import worker
from interpd_backpack.client import Backpack
from interpd_backpack.edits import AddDelta, Edit, MaskWeights
from interpd_backpack.evaluation.examples import Criterion
from interpd_backpack.finding.finetuning import finetune, listed_examples, listed_texts

SAY = [
    {"prefix": "The nurse said that", "suffix": " she was tired"},
    {"prefix": "The dog sat", "suffix": " in Paris"},
    {"prefix": "a doctor ran", "suffix": " late"},
]
PAIRS = [
    {"prefix": "The nurse said that", "suffix1": " he was", "suffix2": " she"},
    {"prefix": "The doctor said that", "suffix1": " he", "suffix2": " she was"},
]
BACKGROUND = ["the cat ate fish and bread .", "music in London was good", "The teacher was happy because they ran"]
HELD_OUT = ["a robot sat on the cat", "film and music , not fish"]
SLOW = partial(pytest.param, marks=pytest.mark.slow)
QUICK = {"n_epochs": 3, "accumulate": 2, "learning_rate": 0.02, "senses_per_example": 3, "progress": False}


def asked(model, loss="say", **options):
    examples = SAY if loss in ("say", "avoid") else PAIRS
    given = {"background": BACKGROUND, "held_out": HELD_OUT, **QUICK, **options}
    return finetune(model, examples, Criterion(loss, 1.0), **given)


@pytest.fixture
def again(bare):
    """See ``running``."""
    return running(bare[0])


def running(model):
    """The bare model's log probabilities of the tokens of a text but the first, under an edit."""

    def run(ids, edit):
        ids = torch.as_tensor(ids)

        def added(_module, _arguments, output):
            output = output.clone()
            for one in edit.operations if edit else ():
                output[0, one.sense, ids == one.token.id] += torch.from_numpy(one.vector.copy())
            return output

        handle = model.backpack.sense_network.register_forward_hook(added)
        try:
            with torch.no_grad():
                logs = model(ids[None]).logits[0].log_softmax(-1)
        finally:
            handle.remove()
        return logs[range(len(ids) - 1), ids[1:]].numpy()

    return run


def nll(again, bare, texts, edit):
    return -sum(again(bare[1](text)["input_ids"], edit).sum() for text in texts)


def summed(again, bare, prefix, suffix, edit):
    first = bare[1](prefix)["input_ids"]
    ids = [*first, *bare[1](suffix, add_special_tokens=False)["input_ids"]]
    return again(ids, edit)[len(first) - 1 :].sum()


@pytest.mark.parametrize("loss", ["say", "balance", SLOW("avoid"), SLOW("prefer")])
def test_the_model_with_the_edit_has_the_losses_that_are_told(model, bare, again, loss):
    found = asked(model, loss, radius=1e-2)
    metrics = found.metrics
    for after, edit in ((False, None), (True, found.edit)):
        if loss in ("say", "avoid"):
            logs = np.array([summed(again, bare, one["prefix"], one["suffix"], edit) for one in SAY])
            wanted = -logs if loss == "say" else logs
        else:
            first, second = (
                np.array([summed(again, bare, one["prefix"], one[name], edit) for one in PAIRS])
                for name in ("suffix1", "suffix2")
            )
            wanted = np.abs(first - second) if loss == "balance" else second - first
        np.testing.assert_allclose(metrics.losses(0, after=after), wanted, rtol=1e-9)
    assert found.history[found.epoch, 0] < found.history[0, 0]
    assert isinstance(found.edit, Edit)
    assert all(isinstance(one, AddDelta) for one in found.edit.operations)


@pytest.mark.slow
def test_the_edit_in_force_gives_what_was_told_and_can_be_built_on(model):
    first = asked(model, radius=1e-2)
    second = asked(model, radius=1e-2, under=first.edit, n_epochs=1)
    np.testing.assert_allclose(second.metrics.log_before, first.metrics.log_after, rtol=1e-9)


@pytest.mark.slow
def test_edits_of_places_may_be_in_force_and_none_behind_the_senses(model):
    place = MaskWeights(positions=(1,), senses=(2,), factor=0.1)
    found = asked(model, under=Backpack(model).edit(place), n_epochs=1)
    assert abs(found.metrics.log_before - asked(model, n_epochs=1).metrics.log_before).max() > 1e-3
    behind = Backpack(model).edit(MaskWeights("nurse", 1, 9.0, negative_only=0.3))
    with pytest.raises(CallerError, match="behind the senses"):
        asked(model, under=behind)


@pytest.mark.parametrize(
    ("line_search", "radius"), [(True, 1e-5), SLOW(True, 1e-3), SLOW(False, 1e-3), SLOW(False, 1e-5)]
)
def test_the_outcome_lies_inside_the_ball(model, bare, again, line_search, radius):
    found = asked(model, radius=radius, line_search=line_search, learning_rate=0.1)
    if not line_search and not found.epoch:
        assert not any(one.vector.any() for one in found.senses)
        return
    ratio = nll(again, bare, HELD_OUT, found.edit) / nll(again, bare, HELD_OUT, None)
    assert ratio <= 1 + radius + 1e-12
    assert found.ratio == pytest.approx(ratio, abs=1e-10)
    assert found.metrics.ratio == pytest.approx(ratio, abs=1e-10)
    if line_search:
        assert 0 < found.share <= 1
        assert found.metrics.train.loss_after < found.metrics.train.loss_before


@pytest.mark.slow
def test_a_model_that_scales_its_sum_of_senses_has_the_losses_that_are_told(bare):
    scaled = tiny_backpack(torch.float64, sense_output_scale=0.3)
    with interpd_client.local(scaled, name="scaled", plugins={"backpack": worker}) as client:
        found = asked(client.model("scaled"), radius=1e-2, selector="gradient", background_weight=1.0)
    again = running(scaled[0])
    wanted = [-summed(again, bare, one["prefix"], one["suffix"], found.edit) for one in SAY]
    np.testing.assert_allclose(found.metrics.losses(0, after=True), wanted, rtol=1e-9)
    assert found.history[-1, 0] < found.history[0, 0]


@pytest.mark.slow
def test_texts_that_the_model_does_not_take_at_once_are_windows(model, bare, again):
    text = "the cat ate fish and bread . " * 6 + "a robot sat"
    found = asked(model, held_out=[text], n_epochs=1)
    ids = bare[1](text)["input_ids"]
    windows = [ids[start : start + 32] for start in range(0, len(ids), 32)]
    assert [int(n) for _, _, n, _ in found.metrics.items[-2:]] == [len(one) - 1 for one in windows]
    wanted = [again(window, found.edit).sum() for window in windows]
    np.testing.assert_allclose(found.metrics.log_after[-2:, 0], wanted, rtol=1e-9)


@pytest.mark.slow
def test_vectors_in_half_precision_are_measured_as_they_are_kept(model, bare, again):
    found = asked(model, half=True, radius=1e-4)
    for one in found.senses:
        np.testing.assert_array_equal(one.vector, one.vector.astype(np.float16).astype(np.float64))
    assert found.ratio == pytest.approx(
        nll(again, bare, HELD_OUT, found.edit) / nll(again, bare, HELD_OUT, None), abs=1e-10
    )


def test_a_run_that_goes_on_ends_with_the_same_bits(model, client):
    whole = asked(model, checkpoint="whole")
    histories = []

    class Stopped(Exception):
        pass

    def stop(history):
        histories.append(history)
        if len(history) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        asked(model, checkpoint="half-way", on_epoch=stop)
    fresh = client.model("tiny")
    going_on = finetune(
        fresh, SAY, Criterion("say", 1.0), background=BACKGROUND, held_out=HELD_OUT, resume="half-way", **QUICK
    )
    assert [len(one) for one in histories] == [2, 3]
    np.testing.assert_array_equal(going_on.history, whole.history)
    told = histories[-1]
    columns = np.stack([told.losses, told.kls, told.ratios, told.learning_rates], 1)
    np.testing.assert_array_equal(columns, whole.history[: len(told)])
    for one, other in zip(going_on.senses, whole.senses, strict=True):
        assert (one.token, one.sense, one.score) == (other.token, other.sense, other.score)
        np.testing.assert_array_equal(one.vector, other.vector)
    with pytest.raises(CallerError, match="other settings"):
        asked(fresh, resume="half-way", seed=1)


@pytest.mark.parametrize("selector", [SLOW("alpha"), SLOW("gradient"), "epsilon", SLOW("fisher")])
def test_every_selector_runs_and_improves_the_examples(model, selector):
    found = asked(model, selector=selector, background_weight=1.0, radius=1e-2)
    assert len(found.senses) <= 3 * len(SAY)
    assert found.metrics.train.loss_after < found.metrics.train.loss_before


def test_results_can_be_looked_at_and_tell_of_other_examples_and_hard_negatives(model, bare, again, capsys):
    hard = [{"text": "the dog was late"}, {"prefix": "a cat", "suffix": " ate fish"}]
    found = asked(model, evaluation=SAY[:1], hard_negatives=hard, radius=1e-2)
    ids = bare[1]("the dog was late")["input_ids"]
    sums = [again(ids, found.edit).sum(), summed(again, bare, "a cat", " ate fish", found.edit)]
    assert found.metrics.hard_negatives[1] == pytest.approx(-np.mean(sums))
    assert found.metrics.evaluation.n_examples == 1
    found.show()
    assert "hard negatives" in capsys.readouterr().out
    assert "<svg" in found.to_html()
    assert '"settings"' in found.to_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": []}, "no text of the background"),
        ({"n_epochs": 0}, "n_epochs is 0"),
        ({"selector": "alpha-contrast"}, "compares two suffixes"),
        ({"radius": -1.0}, "radius is -1.0"),
        ({"checkpoint": "half way"}, "the name of an artifact"),
    ],
)
def test_what_cannot_be_is_refused(model, options, message):
    with pytest.raises(CallerError, match=message):
        asked(model, **options)


def test_examples_that_do_not_fit_the_task_are_refused(model):
    with pytest.raises(CallerError, match="there is no task 'capital'"):
        finetune(model, SAY, "capital", background=BACKGROUND)
    with pytest.raises(CallerError, match="has 1 suffixes, 'prefer' needs 2"):
        finetune(model, SAY, Criterion("prefer", 0.0), background=BACKGROUND)


def test_a_background_is_a_text_file_too(tmp_path):
    (tmp_path / "texts.txt").write_text("The cat sat.\nThe dog ran.\n")
    assert listed_texts(tmp_path / "texts.txt") == ["The cat sat.\nThe dog ran.\n"]
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "a"}) + "\n" + json.dumps({"prefix": "b", "suffix": "c"}))
    assert listed_texts(tmp_path / "texts.jsonl") == ["a", "b"]


def test_examples_with_something_else_than_texts_are_refused_by_their_number():
    with pytest.raises(CallerError, match="example 1: 'prefix' is a text, got 3"):
        listed_examples([{"prefix": "a", "suffix": "b"}, {"prefix": 3, "suffix": "b"}])
