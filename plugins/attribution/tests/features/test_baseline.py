"""Baselines in words and ids, as the constants of a method."""

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_attribution.features import Baseline, Segments

RUN = Tokens((5, 6, 7, 8, 9), ("The", "nurse", "said", "she", "left"), ((0, 0),) * 5, "")
SIDES = Tokens((5, 6), ("The", "nurse"), ((0, 0),) * 2, "", Tokens((1, 8), ("<pad>", "sie"), ((0, 0),) * 2, ""))
WORDS = Segments((0, 1, 1, 2, 3), ("The", "nurse said", "she", "left"))
IDS = {"A doctor said": (50, 51, 7), "A doctor": (50, 51), "pad": (0,), "cat": (60,), "two tokens": (61, 62)}


def spell(text):
    return IDS[text] if isinstance(text, str) else tuple(text)


def ids(baseline, tokens=RUN, **options):
    found = baseline.constants(tokens, spell, start=3, **options)
    assert found["baseline"] == "ids"
    return found["baseline_ids"]


def test_a_kind_says_only_what_is_not_usual():
    assert Baseline().constants(RUN, spell, start=3) == {}
    assert Baseline(kind="noise", n=3, seed=7).constants(RUN, spell, start=3) == {
        "baseline": "noise",
        "n_baselines": 3,
        "seed": 7,
    }
    assert Baseline(include_eos=True).constants(RUN, spell, start=3) == {"include_eos_baseline": True}


def test_another_prompt_keeps_what_was_generated():
    assert ids(Baseline(instead="A doctor said")) == (50, 51, 7, 8, 9)
    assert ids(Baseline(instead=[50, 51, 7])) == (50, 51, 7, 8, 9)


def test_another_source_keeps_the_target():
    assert ids(Baseline(instead="A doctor"), SIDES) == (50, 51, 1, 8)


def test_several_are_a_distribution():
    assert ids(Baseline(instead=["A doctor said", [1, 2, 3]])) == (50, 51, 7, 8, 9, 1, 2, 3, 8, 9)


def test_other_lengths_are_refused_with_the_way_out():
    with pytest.raises(CallerError, match=r"'A doctor' has 2 tokens, expected 3.*fill="):
        ids(Baseline(instead="A doctor"))
    with pytest.raises(CallerError, match=r"has 4 tokens, expected 3.*shorten it"):
        ids(Baseline(instead=[1, 2, 3, 4]))


def test_short_ones_are_filled_when_asked():
    assert ids(Baseline(instead="A doctor", fill="pad")) == (50, 51, 0, 8, 9)
    with pytest.raises(CallerError, match="fill is 'two tokens', which is 2 tokens"):
        ids(Baseline(instead="A doctor", fill="two tokens"))


def test_features_are_replaced_by_their_labels():
    baseline = Baseline(replaced={"The": "cat", "nurse said": "two tokens"})
    assert ids(baseline, segments=WORDS) == (60, 61, 62, 8, 9)
    several = Baseline(replaced={"The": ["cat", [1]], "nurse said": "two tokens"})
    assert ids(several, segments=WORDS) == (60, 61, 62, 8, 9, 1, 61, 62, 8, 9)


def test_replacements_that_do_not_fit_are_refused():
    with pytest.raises(CallerError, match="no feature 'he'; there are 'The'"):
        ids(Baseline(replaced={"he": "cat"}), segments=WORDS)
    with pytest.raises(CallerError, match="'cat' has 1 tokens, expected 2"):
        ids(Baseline(replaced={"nurse said": "cat"}), segments=WORDS)
    with pytest.raises(CallerError, match="give features"):
        ids(Baseline(replaced={"The": "cat"}))
    with pytest.raises(CallerError, match="the same number"):
        ids(Baseline(replaced={"The": [[1], [2], [3]], "nurse said": [[1, 2], [3, 4]]}), segments=WORDS)


def test_drawn_ones_follow_their_seed():
    def shuffled(generator, prompt):
        return generator.permutation(np.array(prompt))

    first, again, other = (ids(Baseline(drawn=shuffled, n=4, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    rows = np.reshape(first, (4, 5))
    assert sorted(rows[0, :3]) == [5, 6, 7]
    assert rows[:, 3:].tolist() == [[8, 9]] * 4


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "word"},
        {"instead": "a", "replaced": {}},
        {"instead": "a", "kind": "mean"},
        {"n": 0},
        {"n": 2},
        {"instead": "a", "include_eos": True},
    ],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(CallerError):
        Baseline(**options)
