"""Metrics of scores against their definitions, on the bare model."""

import itertools
import math

import numpy as np
import pytest
import torch

from interpd.errors import InterpdError
from interpd_attribution.worker.evaluation.metrics import METRICS, Settings, drawn

START = 4
REQUEST = {"start": START, "baseline": "zeros", "include_eos_baseline": True}
BINS, N_SAMPLES, SIZES = (0.2, 0.5), 16, (0.3, 0.6)
SETTINGS = {"bins": BINS, "curve_points": 0, "n_samples": N_SAMPLES, "sizes": SIZES}


def bare(world, step):
    """The probability of a token where features are removed, by a pass for each set of them."""
    known = {}
    sides = world.embedded()
    first = [0, len(sides[0])][: len(sides)]

    def score(removed):
        key = frozenset(removed)
        if key not in known:
            changed = [side.clone() for side in sides]
            for feature in key:
                side = sum(feature >= one for one in first) - 1
                if not (world.has_encoder and side and feature == first[side]):  # the start token stays
                    changed[side][feature - first[side]] = 0
            changed[-1] = changed[-1][:step]
            with torch.no_grad():
                known[key] = world.logits(*changed)[-1].double().softmax(-1)[world.target[step]].item()
        return known[key]

    n_before = len(sides[0]) if world.has_encoder else 0
    return score, range(n_before + step)


def correlation(x, y):
    return np.corrcoef(x, y)[0, 1]


def tau_b(x, y):
    concordant = ties_x = ties_y = n_pairs = 0
    for (a, b), (c, d) in itertools.combinations(zip(x, y, strict=True), 2):
        concordant += np.sign(a - c) * np.sign(b - d)
        ties_x, ties_y, n_pairs = ties_x + (a == c), ties_y + (b == d), n_pairs + 1
    return concordant / math.sqrt((n_pairs - ties_x) * (n_pairs - ties_y))


def expected(world, scores, step, sets, orders):
    """All metrics of one column, each as its paper writes it."""
    f, features = bare(world, step)
    scores = {i: float(scores[i]) for i in features}
    order = sorted(features, key=lambda i: -scores[i])
    k, all_of = len(order), set(features)
    tops = [order[: math.ceil(share * k)] for share in BINS]
    sets = [[i for i in features if row[i]] for row in sets]
    claimed = np.array([sum(scores[i] for i in one) for one in sets])
    drops = np.array([f(()) - f(one) for one in sets])
    best = (claimed * drops).mean() / (claimed**2).mean()
    at_sizes = []
    for size in sorted({round(share * k) for share in SIZES}):
        chosen = [[i for i in row if i in all_of][:size] for row in orders]
        at_sizes.append(correlation([sum(scores[i] for i in s) for s in chosen], [f(()) - f(s) for s in chosen]))
    sizes = np.sort(np.abs(list(scores.values())))
    shares = sizes / sizes.sum()
    rank = lambda values: [np.less(values, one).sum() + np.equal(values, one).sum() / 2 for one in values]  # noqa: E731
    return {
        "comprehensiveness": np.mean([f(()) - f(top) for top in tops]),
        "sufficiency": np.mean([f(()) - f(all_of - set(top)) for top in tops]),
        "deletion": np.trapezoid([f(order[:n]) for n in range(k + 1)], dx=1 / k),
        "insertion": np.trapezoid([f(order[n:]) for n in range(k + 1)], dx=1 / k),
        "infidelity": ((claimed - drops) ** 2).mean(),
        "infidelity_scaled": ((best * claimed - drops) ** 2).mean(),
        "sensitivity_n": np.mean(at_sizes),
        "linear_datamodeling": correlation(rank(claimed), rank(drops)),
        "tau_loo": tau_b(list(scores.values()), [f(()) - f([i]) for i in features]),
        "completeness": abs(sum(scores.values()) - (f(()) - f(all_of))),
        "gini": np.abs(sizes[:, None] - sizes).sum() / (2 * k * sizes.sum()),
        "entropy": -(shares * np.log(shares)).sum(),
    }


def test_metrics_are_what_their_definitions_say(exact_world):
    assert_metrics(exact_world, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_metrics_of_a_model_in_single_precision_are_nearly_so(gpt2):
    assert_metrics(gpt2, rtol=2e-3, atol=2e-6)


def assert_metrics(world, **within):
    constants = {"start": START, "reduce": "sum"}
    with world.prompt() as t:
        scores = t.op("attribution.input_x_gradient", **constants).scores
        out = t.op("attribution.evaluate", (scores,), metrics=tuple(METRICS), **REQUEST, **SETTINGS)
        t.save(scores=scores, out=out)
    scores, out = t.result["scores"], t.result["out"]
    draws = drawn(Settings(n_samples=N_SAMPLES), scores.shape[0], seed=0)
    for column in range(scores.shape[1]):
        by_name = expected(world, scores[:, column], START + column, draws.sets.tolist(), draws.orders.tolist())
        found = dict(zip(METRICS, out.values[:, 0, column], strict=True))
        for name, number in by_name.items():
            np.testing.assert_allclose(found[name], number, **within, err_msg=name)


def test_of_a_linear_target_exact_attributions_are_perfect(gpt2):
    weights = np.linspace(-1, 1, 24, dtype="float32")
    perfect = {"completeness": 0, "infidelity": 0, "sensitivity_n": 1, "linear_datamodeling": 1, "tau_loo": 1}
    with gpt2.prompt() as t:
        value = (t.embed[0] @ weights).sum()
        methods = [
            t.op("attribution.input_x_gradient", value, reduce="sum"),
            t.op("attribution.integrated_gradients", value, reduce="sum", baseline="zeros", n_steps=3),
        ]
        given = tuple(one.scores for one in methods)
        constants = {"metrics": tuple(perfect), "baseline": "zeros", "references": ("leave_one_out",)}
        t.save(out=t.op("attribution.evaluate", given, value, **constants).values)
    found = t.result["out"]
    np.testing.assert_allclose(found[:, :, 0], np.repeat(list(perfect.values()), 3).reshape(-1, 3), atol=1e-5)


def test_methods_share_rows_and_do_not_disturb_each_other(gpt2):
    constants = {**REQUEST, "metrics": ("deletion", "infidelity", "tau_loo"), "rows_per_pass": 7, "n_samples": 8}
    with gpt2.prompt() as t:
        one = t.op("attribution.saliency", start=START).scores
        other = t.op("attribution.input_x_gradient", start=START, reduce="sum").scores
        both = t.op("attribution.evaluate", (one, other), references=("random",), **constants)
        t.save(both=both.values)
    with gpt2.prompt() as alone:
        other = alone.op("attribution.input_x_gradient", start=START, reduce="sum").scores
        alone.save(out=alone.op("attribution.evaluate", (other,), **constants).values)
    np.testing.assert_allclose(t.result["both"][:, 1], alone.result["out"][:, 0], rtol=1e-5, atol=1e-7)


def test_features_of_several_tokens_go_together_and_spans_are_one_column(gpt2):
    features = (0, 0, 1, 1, 2, -1, -1, -1)
    shared = {"start": 5, "span": True, "features": features}
    with gpt2.prompt() as t:
        scores = t.op("attribution.input_x_gradient", reduce="sum", **shared).scores
        out = t.op("attribution.evaluate", (scores,), metrics=("completeness",), baseline="zeros", **shared)
        t.save(out=out, scores=scores)
    (vectors,) = gpt2.embedded()

    def total(vectors):
        with torch.no_grad():
            return sum(gpt2.logits(vectors)[at - 1].softmax(-1)[gpt2.target[at]].item() for at in range(5, 8))

    without = vectors.clone()
    without[:5] = 0
    out = t.result["out"]
    np.testing.assert_allclose([out.whole[0], out.empty[0]], [total(vectors), total(without)], rtol=1e-4)
    expected = abs(t.result["scores"].sum() - (total(vectors) - total(without)))
    np.testing.assert_allclose(out.values[0, 0, 0], expected, rtol=1e-3)


def test_several_baselines_are_averaged(gpt2):
    constants = {"start": 6, "baseline": "ids", "metrics": ("gini",)}
    ids = [tuple([number] * 8) for number in (3, 19)]
    with gpt2.prompt() as t:
        scores = t.op("attribution.saliency", start=6).scores
        found = [
            t.op("attribution.evaluate", (scores,), baseline_ids=one, **constants).empty
            for one in (ids[0] + ids[1], *ids)
        ]
        t.save(found=found)
    both, first, second = t.result["found"]
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("constants", "said"),
    [
        ({"metrics": ("faithfulness",)}, "no 'faithfulness'"),
        ({"references": ("worst",)}, "no 'worst'"),
        ({"bins": (0.0,)}, "above 0"),
        ({"n_samples": 1}, "2 or more"),
        ({"start": 3}, r"\[8, 4\].*\[8, 5\]"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(gpt2, constants, said):
    t = gpt2.prompt()
    scores = t.op("attribution.saliency", start=START).scores
    t.save(out=t.op("attribution.evaluate", (scores,), **{**REQUEST, **constants}))
    with pytest.raises(InterpdError, match=said):
        t.run()


def test_columns_that_nothing_can_explain_have_no_numbers(gpt2):
    with gpt2.prompt() as t:
        shared = {"start": 1, "features": (-1, 0, 1, 2, 3, 4, 5, 6)}
        scores = t.op("attribution.saliency", **shared).scores
        t.save(out=t.op("attribution.evaluate", (scores,), baseline="zeros", metrics=("deletion", "tau_loo"), **shared))
    values = t.result["out"].values[:, 0]
    assert np.isnan(values[0]).tolist() == [True] + [False] * 6
    assert np.isnan(values[1]).tolist() == [True, True] + [False] * 5
