"""Numbers and labels of features: sides, parts of parts, sums."""

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_attribution.features import Segments, descend

WORDS = Segments((0, 0, 1, 2, 3, 3), ("The", "cat", "sat", "down"))
HALVES = Segments((0, 0, 0, 1, 1, 1), ("The cat", "sat down"))


@pytest.mark.parametrize(
    ("of", "labels", "said"),
    [
        ((0, 2), ("a", "b"), "without gaps"),
        ((0, 1), ("a",), "1 labels"),
        ((-2, 0), ("a",), "without gaps"),
    ],
)
def test_numbers_with_gaps_are_refused(of, labels, said):
    with pytest.raises(CallerError, match=said):
        Segments(of, labels)


def test_a_feature_is_on_one_side():
    with pytest.raises(CallerError, match="'a' has positions of the source and of the target"):
        Segments((0, 0), ("a",), n_source=1)


def test_sides_stand_beside_one_another():
    both = WORDS.beside(Segments((0, -1, 1), ("x", "y")))
    assert both.of == (0, 0, 1, 2, 3, 3, 4, -1, 5)
    assert both.sides == (WORDS.labels, ("x", "y"))


def test_one_token_keeps_its_id():
    assert WORDS.ids(range(10, 16)) == (-1, 12, 13, -1)


def test_features_that_are_left_out_are_in_none():
    left = WORDS.without([1])
    assert left.of == (0, 0, -1, 1, 2, 2)
    assert left.labels == ("The", "sat", "down")
    with pytest.raises(CallerError, match="no feature 4"):
        WORDS.without([4])


def test_parents_hold_their_parts():
    assert WORDS.parents(HALVES) == (0, 0, 1, 1)
    assert WORDS.parents(HALVES.without([0])) == (-1, -1, 0, 0)
    with pytest.raises(CallerError, match=r"'The cat' is not within one .* \.within\(coarse\)"):
        HALVES.parents(WORDS)


def test_features_are_cut_where_coarser_ones_end():
    crossing = Segments((0, 0, 1, 1, 1, 2), ("a", "b", "c")).within(HALVES)
    assert crossing.of == (0, 0, 1, 2, 2, 3)
    assert crossing.labels == ("a", "b", "b", "c")


def test_an_important_feature_is_replaced_by_its_parts():
    refined = HALVES.refined(WORDS, [1])
    assert refined.of == (0, 0, 0, 1, 2, 2)
    assert refined.labels == ("The cat", "sat", "down")


def test_scores_of_parts_add_up():
    scores = np.array([[1.0, np.nan], [2.0, np.nan], [4.0, 8.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(WORDS.summed(scores, HALVES), [[3.0, np.nan], [4.0, 8.0]])
    with pytest.raises(CallerError, match="one for each of 4 features"):
        WORDS.summed(scores[:2], HALVES)


def test_descending_looks_into_what_matters():
    truth = np.array([0.0, 0.1, 0.2, 5.0, 0.0, 0.3])
    asked = []

    def attribute(features):
        asked.append(features)
        return np.array([[truth[list(features.positions(number))].sum()] for number in range(len(features))])

    features, scores = descend(attribute, [HALVES, WORDS], keep=1)
    assert features.labels == ("The cat", "sat", "down")
    np.testing.assert_allclose(scores[:, 0], [0.3, 5.0, 0.3])
    assert [len(one) for one in asked] == [2, 3]
    with pytest.raises(CallerError, match="keep is 0"):
        descend(attribute, [HALVES], keep=0)


def test_descending_past_what_cannot_be_divided():
    features, _ = descend(lambda features: np.ones((len(features), 1)), [WORDS, WORDS])
    assert features == WORDS
