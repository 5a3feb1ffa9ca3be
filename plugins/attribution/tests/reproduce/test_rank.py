"""Kendall's tau and its p-value against those of scipy 1.16's ``kendalltau``."""

import pytest

from interpd_attribution.reproduce.rank import Kendall, kendall

SCIPY = {
    "exact": ([1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 6, 5], 0.7333333333333333, 0.05555555555555555),
    "ties": ([1, 1, 2, 3, 3, 4, 5], [2, 1, 2, 3, 4, 4, 1], 0.32444284226152503, 0.34047184539281095),
    "long": (range(49), [i * 17 % 49 for i in range(49)], 0.16326530612244894, 0.09985938620698358),
}


@pytest.mark.parametrize(("one", "other", "tau", "p_value"), SCIPY.values(), ids=SCIPY)
def test_tau_and_p_value_are_those_of_scipy(one, other, tau, p_value):
    found = kendall(one, other)
    assert found.tau == pytest.approx(tau, abs=1e-12)
    assert found.p_value == pytest.approx(p_value, abs=1e-12)
    assert kendall(other, one) == found
    assert kendall(one, [-x for x in other]).tau == pytest.approx(-tau)


def test_no_relation_is_certainly_as_likely():
    assert kendall([1, 2, 3, 4], [3, 1, 4, 2]) == Kendall(0.0, 1.0)


def test_a_star_is_for_what_is_hardly_chance():
    assert [str(Kendall(0.444, p)) for p in (0.01, 0.05)] == ["0.44*", "0.44"]


def test_series_without_ranks_are_refused():
    with pytest.raises(ValueError, match="no ranks"):
        kendall([1, 1, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="same length"):
        kendall([1, 2], [1, 2, 3])
