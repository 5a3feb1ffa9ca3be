"""Success on canonical examples against log probabilities of the weights themselves."""

import math

import numpy as np
import pytest
import torch

from interpd.errors import CallerError, InvalidRequest
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.examples import (
    TASKS,
    Criterion,
    Example,
    ExampleSettings,
    measure_examples,
    read_examples,
)
from interpd_backpack.evaluation.perplexity import PerplexitySettings

PAIRS = (Example("The nurse said that", (" she was", " he was")), Example("The robot", (" ran", " sat .")))


@pytest.fixture
def log_p(here, logits):
    """log p of a suffix behind a prefix, summed over its tokens."""

    def computed(prefix, suffix, **edit):
        first = here.tokenizer(prefix)["input_ids"]
        rest = here.tokenizer(suffix, add_special_tokens=False)["input_ids"]
        logs = logits(first + rest, **edit).log_softmax(-1)
        return sum(float(logs[len(first) - 1 + at, one]) for at, one in enumerate(rest))

    return computed


LOSSES = {
    "say": lambda a, b: -a,
    "avoid": lambda a, b: b,
    "balance": lambda a, b: abs(a - b),
    "prefer": lambda a, b: b - a,
}


@pytest.mark.parametrize(
    "quantity", ["balance", *(pytest.param(name, marks=pytest.mark.slow) for name in ("say", "avoid", "prefer"))]
)
def test_losses_are_those_of_summed_log_probabilities(here, log_p, put, quantity):
    expected = [
        [LOSSES[quantity](*(log_p(one.prefix, suffix, share=size) for suffix in one.suffixes)) for one in PAIRS]
        for size in (1.0, 0.25)
    ]
    below = sum(expected[0]) / 2
    found = measure_examples(Asking(here.model, put), ExampleSettings(examples=PAIRS, task=Criterion(quantity, below)))
    np.testing.assert_allclose([found.losses.before, found.losses.after], expected, rtol=1e-10)
    assert found.before == 0.5
    assert found.after == np.mean(np.array(expected[1]) < below)


def test_the_thresholds_are_those_of_the_paper():
    assert {name: one.quantity for name, one in TASKS.items()} == {
        **dict.fromkeys(("country", "company", "temporal"), "say"),
        **{"stereoset": "avoid", "gender": "balance", "syntax": "prefer"},
    }
    shares = {name: math.exp(-one.below) for name, one in TASKS.items()}
    assert shares == pytest.approx(
        {"country": 0.2, "company": 0.05, "temporal": 0.05, "stereoset": 1000, "gender": 1 / 1.5, "syntax": 16}
    )


def test_hard_negatives_and_general_text_say_what_an_edit_costs(here, log_p, put, logits, tmp_path):
    (tmp_path / "hard.jsonl").write_text('{"prefix": "The dog", "suffix": " ran"}\n{"text": "a cat sat ."}\n')
    settings = ExampleSettings(
        examples=PAIRS,
        task="gender",
        hard_negatives=tmp_path / "hard.jsonl",
        general=PerplexitySettings(documents=("The film was good",)),
    )
    found = measure_examples(Asking(here.model, put), settings)
    for size, values in ((1.0, found.hard_negatives.before), (0.25, found.hard_negatives.after)):
        assert values[0] == pytest.approx(-log_p("The dog", " ran", share=size))
        ids = here.tokenizer("a cat sat .")["input_ids"]
        logs = logits(ids, share=size).log_softmax(-1)[:-1].gather(-1, torch.tensor(ids)[1:, None])
        assert values[1] == pytest.approx(-float(logs.sum()))
    assert found.general.degradation is not None
    assert found.hard_negatives.change == pytest.approx(
        np.diff([values.mean() for values in (found.hard_negatives.before, found.hard_negatives.after)])[0]
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prefix": "a"}', "line 1 has a prefix and no suffix"),
        ('{"suffix": "a"}', "neither a prefix nor a text"),
        ('{"prefix": 3, "suffix": "a"}', "line 1: 'prefix' is a text, got 3"),
        ('{"prefix": "a", "suffix": ""}', "line 1: 'suffix' is a text, got an empty one"),
        ('{"prefix": "a", "suffix1": "b", "suffix2": null}', "line 1: 'suffix2' is a text, got None"),
        ("[1]", "line 1 is list, expected an object"),
        ("{", "line 1 is no JSON"),
        ("", "no examples"),
    ],
)
def test_files_without_examples_are_refused_with_their_line(tmp_path, line, said):
    (tmp_path / "examples.jsonl").write_text(line)
    with pytest.raises(InvalidRequest, match=said):
        read_examples(tmp_path / "examples.jsonl")


def test_examples_that_a_task_cannot_score_are_refused(here):
    one = (Example("The dog", (" ran",)),)
    with pytest.raises(CallerError, match="1 suffixes, 'balance' needs 2"):
        measure_examples(Asking(here.model), ExampleSettings(examples=one, task="gender"))
    with pytest.raises(CallerError, match="no task 'cuontry'"):
        measure_examples(Asking(here.model), ExampleSettings(examples=one, task="cuontry"))
