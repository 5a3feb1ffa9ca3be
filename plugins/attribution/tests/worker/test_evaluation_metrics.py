"""Metrics on functions of masks that can be written down, and what Captum 0.9 makes of them."""

import math

import pytest
import torch

from interpd_attribution.worker.evaluation.metrics import METRICS, Case, Draws, Settings, drawn
from interpd_attribution.worker.evaluation.statistics import kendall, pearson, ranks, spearman

W = torch.tensor([0.3, -1.0, 0.7, 0.2, 1.1, -0.4], dtype=torch.float64)
V = torch.tensor([0.5, 0.1, -0.6, 0.9, -0.2, 0.4], dtype=torch.float64)
SCORES = torch.tensor([0.8, -0.3, 0.1, 1.2, 0.4, -0.9], dtype=torch.float64)
CAPTUM = {"infidelity": 0.7185964549480923, "infidelity_scaled": 0.6858974903680854}
"""``captum.metrics.infidelity`` of these scores, with the masks as perturbations of an input of ones, and
``normalize``."""

RANKED = ("linear_datamodeling",)


def curved(x):
    n = x.shape[-1]
    return torch.sin(x @ W[:n]) + (x @ V[:n]) ** 2


def case_of(scores=SCORES, sees=None, **settings):
    made = Settings(**{"n_samples": 12, **settings})
    sees = torch.ones(len(scores), dtype=torch.bool) if sees is None else torch.tensor(sees)
    return Case(scores, sees, made, drawn(made, len(scores), seed=0))


def taken(name, case, f=curved):
    metric = METRICS[name](case)
    masks = next(metric)
    with pytest.raises(StopIteration) as done:
        metric.send(f(1 - masks.double()))
    return done.value.value.item()


@pytest.mark.parametrize("name", CAPTUM)
def test_infidelity_is_that_of_captum(name):
    assert taken(name, case_of()) == pytest.approx(CAPTUM[name], rel=1e-12)


def test_exact_scores_of_a_linear_function_are_perfect():
    linear = lambda x: x @ W  # noqa: E731
    perfect = {"infidelity": 0, "infidelity_scaled": 0, "completeness": 0, "sensitivity_n": 1, "linear_datamodeling": 1}
    for name, number in {**perfect, "tau_loo": 1}.items():
        # sets whose sums are equal on paper differ in their last digits, which ranks see
        assert taken(name, case_of(W), linear) == pytest.approx(number, abs=1e-2 if name in RANKED else 1e-9), name
    worst = {"sensitivity_n": -1, "tau_loo": -1, "linear_datamodeling": -1}
    for name, number in worst.items():
        assert taken(name, case_of(-W), linear) == pytest.approx(number, abs=1e-2 if name in RANKED else 1e-9), name


def test_the_best_order_of_a_linear_function_has_the_best_curves():
    positive = W.abs()
    linear = lambda x: x @ positive  # noqa: E731
    best = {name: taken(name, case_of(positive), linear) for name in METRICS}
    worst = {name: taken(name, case_of(-positive), linear) for name in METRICS}
    for name, sign in (("deletion", -1), ("insertion", 1), ("comprehensiveness", 1), ("sufficiency", -1)):
        assert sign * best[name] > sign * worst[name]
    # of a linear function what is deleted first is what is missing when it is inserted last
    assert best["deletion"] == pytest.approx(worst["insertion"])


def test_bins_are_rounded_up():
    case = case_of(torch.arange(30.0).double(), bins=(0.01, 0.1, 0.2, 1.0))
    assert [len(case.top(share)) for share in case.settings.bins] == [1, 3, 6, 30]


def test_equal_scores_keep_their_order_and_magnitudes_may_rank():
    assert case_of(torch.tensor([1.0, 2.0, 1.0, 2.0])).ranking.tolist() == [1, 3, 0, 2]
    assert case_of(torch.tensor([1.0, -3.0, 2.0]), order="magnitude").ranking.tolist() == [1, 2, 0]


def test_curves_are_cut_into_equal_steps():
    case = case_of(torch.arange(10.0).double(), curve_points=2)
    masks = next(METRICS["deletion"](case))
    assert masks.sum(-1).tolist() == [0, 5, 10]


def test_what_is_not_seen_is_not_removed_and_not_counted():
    case = case_of(sees=[True, True, False, True, False, False])
    for name in (
        "comprehensiveness",
        "sufficiency",
        "deletion",
        "insertion",
        "sensitivity_n",
        "tau_loo",
        "completeness",
    ):
        assert not (next(METRICS[name](case)) & ~case.sees).any(), name
    assert taken("entropy", case_of(torch.ones(4), sees=[True, True, False, False])) == pytest.approx(math.log(2))


def test_sets_that_differ_unseen_have_equal_scores_to_the_last_digit():
    sets = torch.tensor([[True, False, True], [True, False, False], [False, True, True], [False, False, False]])
    sees = torch.tensor([True, True, False])
    case = Case(torch.tensor([1.0, 2.0, 0.0]).double(), sees, Settings(n_samples=4), Draws(sets, sets))
    noise = torch.tensor([0.0, 1e-12, 0.0, 2e-12, 0.0], dtype=torch.float64)
    metric = METRICS["linear_datamodeling"](case)
    next(metric)
    with pytest.raises(StopIteration) as done:
        metric.send(torch.tensor([5.0, 4.0, 4.0, 3.0, 5.0], dtype=torch.float64) + noise)
    assert done.value.value.item() == pytest.approx(1.0, abs=1e-12)


def test_complexity_of_one_and_of_equal_scores():
    assert taken("gini", case_of(torch.ones(5))) == pytest.approx(0)
    assert taken("gini", case_of(torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]))) == pytest.approx(0.8)
    assert taken("entropy", case_of(torch.ones(5))) == pytest.approx(math.log(5))


def test_correlations():
    x, y = torch.tensor([1.0, 2.0, 2.0, 4.0]), torch.tensor([3.0, 1.0, 2.0, 4.0])
    assert ranks(x).tolist() == [0, 1.5, 1.5, 3]
    assert spearman(x, y).item() == pytest.approx(1.5 / math.sqrt(22.5))
    # pairs: + + - - ... counted by hand: 3 in order, 2 against, one tie in x
    assert kendall(x, y).item() == pytest.approx(1 / math.sqrt(5 * 6))
    assert pearson(x, 3 * x - 1).item() == pytest.approx(1)
    for correlation in (pearson, spearman, kendall):
        assert correlation(torch.ones(3), torch.arange(3.0)).isnan()
        assert correlation(torch.ones(1), torch.ones(1)).isnan()
