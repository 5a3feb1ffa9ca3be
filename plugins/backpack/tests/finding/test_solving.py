"""The best factor of a sense against searches that know nothing of the problem."""

import math

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_backpack.finding.solving import best_factor, best_of_grid, bias


def problems(n=40, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(n):
        size = 1 + number % 7
        a, b = rng.normal(size=size) * 2, rng.normal(size=size) * rng.choice([0.01, 1, 5])
        yield a, b, float(number % 3) / 2


def objective(a, b, penalty):
    return lambda p: bias(np.multiply.outer(np.asarray(p) - 1, b) + a) + penalty * np.abs(np.asarray(p) - 1)


def test_nothing_near_the_best_factor_is_better():
    for a, b, penalty in problems():
        best = best_factor(a, b, penalty=penalty)
        f = objective(a, b, penalty)
        around = best.factor + np.outer([-1, 1], np.geomspace(1e-7, 100, 200)).ravel()
        with np.errstate(over="ignore"):
            assert f(around).min() >= best.value * (1 - 1e-12)
        assert best.value == pytest.approx(float(f(best.factor)), rel=1e-12)


# minimize(f, [1.0], method="Nelder-Mead") of scipy 1.17.1, the published search: offsets, slopes, its factor, its value
NELDER_MEAD = [
    ((1.2, -0.4, 0.9), (2.0, 1.5, -0.3), 0.9595703124999999, 2.4194076314430366),
    ((2.5, 1.75, -0.5, 0.25), (1.25, 3.0, 0.5, -2.0), 0.5009765624999996, 3.853042388141138),
    ((-1.5, -2.0, -0.75), (-0.8, -2.4, -1.1), 0.17343749999999927, 2.327379333319947),
]


@pytest.mark.parametrize(("a", "b", "factor", "value"), NELDER_MEAD)
def test_the_published_search_ends_at_the_same_factor_and_not_lower(a, b, factor, value):
    best = best_factor(a, b, penalty=1.0)
    assert best.factor == pytest.approx(factor, abs=1e-4)
    assert best.value <= value
    assert best.value == pytest.approx(value, abs=1e-8)


def test_one_prompt_is_made_even():
    assert best_factor([2.0], [4.0]).factor == pytest.approx(0.5, abs=1e-15)
    assert best_factor([2.0], [4.0]).value == 1.0


def test_two_prompts_that_disagree_are_balanced_where_the_closed_form_says():
    # e^(x+1) + e^(-x) on the interval in which one falls and the other rises: x = -1/2
    best = best_factor([1.0, 0.0], [1.0, 1.0])
    assert best.factor == pytest.approx(0.5, abs=1e-12)
    assert best.value == pytest.approx(math.exp(0.5), rel=1e-14)


def test_a_penalty_that_is_great_enough_keeps_the_factor_at_one():
    assert best_factor([0.1], [1.0], penalty=math.exp(0.1) + 1e-9).factor == 1.0


def test_what_no_factor_moves_stays():
    assert best_factor([1.0, -2.0], [0.0, 0.0]).factor == 1.0


@pytest.mark.parametrize(
    ("bounds", "factor"), [((0.0, 0.2), 0.2), ((0.7, 1.0), 0.7), ((0.0, 1.0), 0.5), ((3.0, 3.0), 3.0)]
)
def test_bounds_hold(bounds, factor):
    assert best_factor([2.0], [4.0], bounds=bounds).factor == pytest.approx(factor)


def test_the_grid_finds_the_convex_minimum_too():
    for a, b, penalty in problems(8, seed=2):
        exact = best_factor(a, b, penalty=penalty, bounds=(-4, 4))
        found = best_of_grid(objective(a, b, penalty), (-4, 4))
        assert found.value == pytest.approx(exact.value, rel=1e-9)
        assert not found.is_exact


def test_numbers_that_cannot_be_are_refused():
    with pytest.raises(CallerError, match="finite"):
        best_factor([math.nan], [1.0])
    with pytest.raises(CallerError, match="penalty is -1"):
        best_factor([1.0], [1.0], penalty=-1)
    with pytest.raises(CallerError, match="the least factor first"):
        best_factor([1.0], [1.0], bounds=(1, 0))
    with pytest.raises(CallerError, match="both must be finite"):
        best_of_grid(lambda p: p, (0, math.inf))
