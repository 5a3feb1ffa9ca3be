"""KernelSHAP, LIME and ContextCite: their regressions by themselves, and on models whose answers are known."""

import itertools
import math

import numpy as np
import pytest
import torch

from interpd.errors import InterpdError
from interpd_attribution.worker.perturbation import kernel
from interpd_attribution.worker.perturbation.regression import (
    FixedSum,
    lasso,
    rank_correlations,
    ridge,
    standardised_lasso,
)

ZEROS = {"baseline": "zeros", "include_eos_baseline": True}


def close(found, expected, rtol=1e-4, atol=1e-6):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def drawn(n_rows=40, n_features=6, n_columns=3):
    generator = np.random.default_rng(0)
    x = (generator.random((n_rows, n_features)) < 0.5).astype(float)
    return x, x @ generator.normal(size=(n_features, n_columns)) + generator.normal(size=(n_rows, n_columns))


def test_ridge_is_least_squares_with_rows_for_the_penalty():
    x, y = drawn()
    weights = np.linspace(0.1, 2, len(x))
    found = ridge(x, y, weights, 0.7)
    design = np.concatenate([x, np.ones((len(x), 1))], 1) * np.sqrt(weights)[:, None]
    penalty = np.sqrt(0.7) * np.eye(7)[:6]
    rows = np.concatenate([y * np.sqrt(weights)[:, None], np.zeros((6, 3))])
    expected = np.linalg.lstsq(np.concatenate([design, penalty]), rows, rcond=None)[0]
    close(found.coefficients, expected[:6])
    close(found.intercepts, expected[6])


def test_the_lasso_is_at_its_minimum():
    x, y = drawn()
    weights, alpha = np.linspace(0.1, 2, len(x)), 0.1
    found = lasso(x, y, weights, alpha)
    pull = (x * weights[:, None]).T @ (y - found.predicted(x)) / weights.sum()
    used = found.coefficients != 0
    assert used.any()
    assert not used.all()
    close(pull[used], alpha * np.sign(found.coefficients[used]))
    assert (np.abs(pull[~used]) <= alpha + 1e-9).all()
    close(weights @ (y - found.predicted(x)), 0)


def test_the_lasso_is_scikit_learns():
    """Of ``make_pipeline(StandardScaler(), Lasso(alpha=0.1)).fit(x, y)`` the coefficients over the scale."""
    x, y = drawn()
    found = standardised_lasso(x, y, 0.1)
    close(found.coefficients[:, 0], [-0.55109, -2.82716, -0.57322, 1.30904, 1.92737, 0.0], atol=1e-5)
    close(found.intercepts[0], 0.10004, atol=1e-5)


def test_a_feature_that_never_changes_has_no_coefficient():
    x, y = drawn()
    x[:, 2] = 1.0
    found = standardised_lasso(x, y, 0.01)
    assert not found.coefficients[2].any()
    assert np.isfinite(found.coefficients).all()


def test_rank_correlations_share_ranks_of_ties():
    one = np.array([[1.0, 1], [2, 1], [2, 1], [5, 1]])
    other = np.array([[10.0, 1], [30, 2], [20, 3], [40, 4]])
    first, second = rank_correlations(one, other)
    close(first, np.corrcoef([1, 2.5, 2.5, 4], [1, 3, 2, 4])[0, 1])
    assert math.isnan(second)


@pytest.mark.parametrize(("n", "m"), [(6, 4), (6, 6), (5, 2)])
def test_columns_that_see_less_weigh_coalitions_as_their_own_kernel_would(n, m):
    """Over all coalitions, the chance of one times its weight is the kernel of the players that are seen."""
    found = {}
    for size in range(1, n):
        for chosen in itertools.combinations(range(n), size):
            x = np.array([[float(player in chosen) for player in range(m)]])
            rows = np.concatenate([x, np.tril(np.ones((m + 1, m)), -1)])
            weight = kernel._weights(rows, n, is_all=False)[0]
            chance = 1 / (size * (n - size)) / math.comb(n, size)
            found[tuple(x[0])] = found.get(tuple(x[0]), 0) + chance * weight
    inside = {seen: value for seen, value in found.items() if 0 < sum(seen) < m}
    wanted = {seen: 1 / (sum(seen) * (m - sum(seen)) * math.comb(m, int(sum(seen)))) for seen in inside}
    ratios = [inside[seen] / wanted[seen] for seen in inside]
    close(ratios, ratios[0])


def test_standard_errors_of_the_regression_cover():
    """A game of five with pairs that interact: the errors are those that repeated draws have."""
    generator = np.random.default_rng(1)
    n, n_draws = 5, 60
    pairs = np.triu(generator.normal(size=(n, n)), 1)
    worth = lambda x: x @ np.arange(1.0, n + 1) + ((x @ pairs) * x).sum(1)  # noqa: E731
    exact = np.arange(1.0, n + 1) + (pairs.sum(0) + pairs.sum(1)) / 2
    sizes = np.arange(1, n)
    chances = 1 / (sizes * (n - sizes))
    off = []
    for _ in range(300):
        drawn_sizes = generator.choice(sizes, n_draws, p=chances / chances.sum())
        x = (generator.random((n_draws, n)).argsort(1).argsort(1) < drawn_sizes[:, None]).astype(float)
        found, errors = FixedSum(x, np.ones(n_draws), n_draws).fit(worth(x), float(worth(np.ones((1, n)))[0]))
        off.append((found - exact) / errors)
    assert 0.9 < (np.abs(off) < 2).mean() < 0.98
    assert abs(np.mean(off)) < 0.15


GROUPED = {"features": (0, 0, 1, 2, -1, 3, 3, -1), "start": 5}


def test_kernel_shap_of_all_coalitions_is_exact(gpt2):
    exact = gpt2.trace("shapley_values", **GROUPED, **ZEROS).scores
    found = gpt2.trace("kernel_shap", n_samples=14, **GROUPED, **ZEROS)
    close(found.scores, exact, atol=2e-6)
    assert not np.nan_to_num(found.standard_errors).any()


def test_a_single_feature_has_all_of_the_change(gpt2):
    features = {"features": (0, 0, -1, -1, -1, -1, -1, -1), "start": 6}
    found = gpt2.trace("kernel_shap", n_samples=2, **features, **ZEROS)
    close(found.scores, gpt2.trace("feature_ablation", **features, **ZEROS).scores)
    assert not found.standard_errors.any()


@pytest.mark.parametrize("paired", [False, True])
def test_kernel_shap_is_as_far_off_as_it_says_and_adds_up(gpt2, paired):
    exact = gpt2.trace("shapley_values", start=4, **ZEROS).scores
    found = gpt2.trace("kernel_shap", n_samples=100, paired=paired, start=4, **ZEROS)
    close(np.nansum(found.scores, 0), np.nansum(exact, 0))
    seen = ~np.isnan(exact)
    assert (np.isnan(found.standard_errors) == ~seen).all()
    off = np.abs(found.scores - exact)[seen] / found.standard_errors[seen]
    assert off.max() < 4.5
    assert (off < 2).mean() > 0.8


def linear(world, method, **constants):
    """What a method says of a value that is the sum of the vectors at the embedding: linear in what stays."""
    with world.prompt() as t:
        value = t.embed[0].sum()
        t.save(out=t.op(f"attribution.{method}", value, **ZEROS, **constants), embedded=t.embed)
    return t.result["out"], t.result["embedded"][0].sum(-1)


@pytest.mark.parametrize(
    ("method", "constants"),
    [
        ("shapley_values", {}),
        ("shapley_value_sampling", {"n_samples": 2}),
        ("kernel_shap", {"n_samples": 30}),
        ("lime", {"alpha": 0.0, "n_samples": 30}),
        ("lime", {"alpha": 1e-9, "n_samples": 30, "surrogate": "lasso", "distance": "hamming"}),
        ("context_cite", {"alpha": 0.0, "output": "target"}),
    ],
)
def test_a_linear_value_is_taken_apart_exactly(gpt2, method, constants):
    found, parts = linear(gpt2, method, **constants)
    close(found.scores[:, 0], parts, atol=1e-4)
    if method == "lime":
        close(found.fits, 1.0)
    if method == "context_cite":
        close(found.lds, 1.0)
        close(found.drops[:, 0], np.cumsum(np.sort(parts)[::-1])[[0, 2, 4]], atol=1e-4)


def masks(n_rows, n_players, keep, seed=0):
    return torch.rand(n_rows, n_players, generator=torch.Generator().manual_seed(seed)).numpy() < keep


def log_probabilities(world, mask):
    """Of all tokens but the first, with zeros where the mask says so, by bare hooks."""
    (vectors,) = world.embedded()
    with torch.no_grad():
        logits = world.logits(torch.where(torch.tensor(mask)[:, None], vectors, 0.0)).double().log_softmax(-1)
    return logits[range(7), list(world.target[1:])].numpy()


@pytest.mark.parametrize("seed", [0, 3])
def test_lime_is_a_weighted_ridge_on_random_masks(gpt2, seed):
    found = gpt2.trace("lime", start=6, seed=seed, n_samples=40, target="probability(logprob=True)", **ZEROS)
    kept = np.concatenate([np.ones((1, 7), bool), masks(39, 7, 0.7, seed)])
    worth = np.stack([log_probabilities(gpt2, [*mask, True]) for mask in kept])[:, 5:]
    for column, n_seen in enumerate((6, 7)):
        x = kept[:, :n_seen].astype(float)
        weights = np.exp(-((1 - np.sqrt(x.mean(1))) ** 2) / (2 * 0.25**2))
        design = np.concatenate([x, np.ones((40, 1))], 1)
        penalty = np.diag([1.0] * n_seen + [0.0])
        expected = np.linalg.solve(
            design.T @ (design * weights[:, None]) + penalty, design.T @ (weights * worth[:, column])
        )
        close(found.scores[:n_seen, column], expected[:-1], atol=1e-5)
        close(found.intercepts[column], expected[-1], atol=1e-5)


def test_end_tokens_take_no_part(gpt2):
    eos = 1
    ids = (5, 40, eos, 120, 33, 9, 210, 64)
    special = gpt2.trace("lime", ids=ids, baseline="zeros", start=7)
    assert special.scores[2, 0] == 0
    assert (special.scores[[0, 1, 3, 4, 5, 6], 0] != 0).all()


def test_surrogates_look_at_both_sides(t5):
    found = t5.trace("lime", n_samples=60, **ZEROS)
    assert found.scores.shape == (14, 5)
    assert np.isfinite(found.scores[:9]).all()
    # the decoder's start stays as it is
    assert not found.scores[8].any()
    assert (found.fits > 0.3).all()


SEGMENTS = {"features": (0, 0, 1, 2, 2, -1, -1, -1), "start": 5, "span": True}


def test_context_cite_is_the_lasso_of_log_odds(gpt2):
    found = gpt2.trace("context_cite", n_ablations=24, n_held_out=8, top_k=(1, 2, 4), alpha=0.05, **SEGMENTS, **ZEROS)
    kept = masks(32, 3, 0.5)
    of = {tuple(mask): log_probabilities(gpt2, [*mask[[0, 0, 1, 2, 2]], True, True, True])[4:].sum() for mask in kept}
    worth = np.array([of[tuple(mask)] for mask in kept])
    odds = (worth - np.log(1 - np.exp(worth))) / 3
    fit = standardised_lasso(kept[:24].astype(float), odds[:24, None], 0.05)
    close(found.scores[:, 0], fit.coefficients[:, 0] * 3, atol=1e-5)
    close(found.lds, rank_correlations(fit.predicted(kept[24:].astype(float)), odds[24:, None]))
    whole = log_probabilities(gpt2, [True] * 8)[4:].sum()
    order = np.argsort(-found.scores[:, 0])
    for row, k in enumerate((1, 2)):
        mask = ~np.isin(np.arange(3), order[:k])
        close(found.drops[row], whole - log_probabilities(gpt2, [*mask[[0, 0, 1, 2, 2]], True, True, True])[4:].sum())
    assert np.isnan(found.drops[2])


def test_equal_seeds_draw_equal_masks(gpt2):
    options = {"n_ablations": 12, "n_held_out": 0, "top_k": (), **SEGMENTS, **ZEROS}
    one, other = (gpt2.trace("context_cite", **options, rows_per_pass=rows) for rows in (0, 3))
    close(one.scores, other.scores)
    assert one.drops.shape == (0, 1)
    assert np.isnan(one.lds).all()


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("kernel_shap", {"n_samples": 5, "paired": False}, "n_samples is 5, too few .* 7 features .* to 7 at least"),
        (
            "kernel_shap",
            {"n_samples": 12},
            r"is 12 \(6 pairs .* raise n_samples to 14 at least",
        ),
        ("kernel_shap", {"n_samples": 7}, "paired coalitions need an even number"),
        (
            "lime",
            {"alpha": 0.0, "n_samples": 4},
            "4 rows are too few .*: raise n_samples, or set alpha above 0",
        ),
        ("lime", {"mask_prob": 1.0}, "mask_prob is 1.0, expected a number between"),
        ("lime", {"kernel_width": 0.0}, "kernel_width is 0.0, expected a positive number"),
        ("context_cite", {"target": "logit"}, "the target is 'logit': set output='target'"),
        ("context_cite", {"keep_prob": 0.0}, "keep_prob is 0.0, expected a number between"),
        ("context_cite", {"top_k": (0,)}, r"top_k is \[0\], expected numbers of features from 1"),
    ],
)
def test_what_cannot_be_is_refused(gpt2, method, options, said):
    with pytest.raises(InterpdError, match=said):
        gpt2.trace(method, **{**ZEROS, **options})
