"""Gradient methods against plain autograd on the bare model, one pass and one gradient per token."""

import copy

import numpy as np
import pytest
import torch

from interpd.errors import InterpdError

N_STEPS = 6
SIGNED = {"reduce": "sum"}


def probability(logits, token):
    return logits.softmax(-1)[token]


def inputs_of(world):
    return torch.cat(world.embedded()).numpy()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def rows(per_step):
    """[step position ...] as the plugin has it: [position step ...]."""
    return per_step.swapaxes(0, 1)


def test_saliency_is_the_absolute_gradient(world):
    expected = np.abs(rows(world.gradients(probability)))
    found = world.trace("saliency_vectors").scores
    close(found, expected)
    close(world.trace("saliency").scores, np.linalg.norm(expected, axis=-1))
    close(world.trace("saliency_vectors", absolute=False).scores, rows(world.gradients(probability)))


def test_input_x_gradient_is_the_product(world):
    expected = rows(world.gradients(probability) * inputs_of(world))
    close(world.trace("input_x_gradient", **SIGNED).scores, expected.sum(-1))


@pytest.mark.parametrize(
    ("target", "score"),
    [
        ("logit", lambda logits, token: logits[token]),
        ("probability(logprob=True)", lambda logits, token: logits.log_softmax(-1)[token]),
        ("crossentropy", lambda logits, token: -logits.log_softmax(-1)[token]),
        ("perplexity", lambda logits, token: 1 / logits.softmax(-1)[token]),
        ("entropy", lambda logits, token: -(logits.softmax(-1) * logits.log_softmax(-1)).sum()),
    ],
)
def test_every_plain_score_is_a_target(gpt2, target, score):
    expected = rows(gpt2.gradients(score) * inputs_of(gpt2)).sum(-1)
    found = gpt2.trace("input_x_gradient", target=target, **SIGNED).scores
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 if target == "perplexity" else 1e-5)


def interpolated(world, starts, weigh):
    """Weighted gradients along the line from ``starts``, by autograd at each point."""
    ends = world.embedded()
    places = np.polynomial.legendre.leggauss(N_STEPS)
    total = 0.0
    for place, weight in zip((1 + places[0]) / 2, places[1] / 2, strict=True):
        sides = tuple(weigh(start, end, float(place)) for start, end in zip(starts, ends, strict=True))
        total = total + weight * world.gradients(probability, sides)
    return rows(total)


def starts_of(world):
    """Zeros, but the decoder's start token as it is."""
    starts = [torch.zeros_like(side) for side in world.embedded()]
    if world.has_encoder:
        starts[-1][0] = world.embedded()[-1][0]
    return starts


ZEROS = {"baseline": "zeros", "include_eos_baseline": True, "n_steps": N_STEPS}


def test_integrated_gradients_are_the_weighted_gradients_along_the_line(world):
    starts = starts_of(world)
    slopes = interpolated(world, starts, lambda start, end, place: start + place * (end - start))
    expected = slopes * (inputs_of(world) - torch.cat(starts).numpy())[:, None]
    close(world.trace("integrated_gradients", **ZEROS, **SIGNED).scores, expected.sum(-1))


def test_integrated_gradients_add_up_to_the_change(world):
    token = {"baseline": "ids", "baseline_ids": (7,), "include_eos_baseline": True}
    found = world.trace("integrated_gradients", **token, n_steps=60, **SIGNED, convergence_delta=True)
    pairs = zip(world.embeddings, world.embedded(), strict=True)
    starts = [module(torch.full((len(side),), 7)).detach() for module, side in pairs]
    if world.has_encoder:
        starts[-1][0] = world.embedded()[-1][0]
    with torch.no_grad():
        rises = world.logits(*world.embedded()).softmax(-1) - world.logits(*starts).softmax(-1)
    change = [rises[step - 1, token] for step, token in enumerate(world.target) if step]
    sums = np.nansum(found.scores, axis=0)
    np.testing.assert_allclose(found.deltas, [sums - change, change], atol=1e-5)
    np.testing.assert_allclose(sums, change, atol=1e-3)


@pytest.mark.parametrize("rule", ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"])
def test_every_rule_converges(gpt2, rule):
    token = {"baseline": "ids", "baseline_ids": (7,), "span": True}
    exact = gpt2.trace("integrated_gradients", **token, n_steps=40).scores
    found = gpt2.trace("integrated_gradients", **token, n_steps=300, rule=rule).scores
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_only_the_attributed_side_is_varied(t5):
    source, target = t5.embedded()
    starts = (torch.zeros_like(source), target)
    slopes = interpolated(t5, starts, lambda start, end, place: start + place * (end - start))
    expected = (slopes * (inputs_of(t5) - torch.cat(starts).numpy())[:, None]).sum(-1)
    found = t5.trace("integrated_gradients", **ZEROS, **SIGNED, inputs="source").scores
    close(found[: len(source)], expected[: len(source)])
    assert np.isnan(found[len(source) :]).all()


@pytest.mark.slow
def test_sequential_integrated_gradients_move_one_position_at_a_time(gpt2):
    (end,) = gpt2.embedded()
    expected = []
    for position in range(len(end)):

        def moved(start, end, place, position=position):
            vectors = end.clone()
            vectors[position] = place * end[position]
            return vectors

        slopes = interpolated(gpt2, [torch.zeros_like(end)], moved)
        expected.append((slopes[position] * end[position].numpy()).sum(-1))
    found = gpt2.trace("sequential_integrated_gradients", **ZEROS, **SIGNED, rows_per_pass=5).scores
    close(found, np.stack(expected))


def test_gradient_x_difference_is_one_step_at_the_input(gpt2):
    unknown = 7
    (vector,) = (gpt2.embeddings[0].weight[unknown].detach().numpy(),)
    expected = rows(gpt2.gradients(probability) * (inputs_of(gpt2) - vector)).sum(-1)
    constants = {"baseline": "ids", "baseline_ids": (unknown,), "include_eos_baseline": True}
    close(gpt2.trace("gradient_x_difference", **constants, **SIGNED).scores, expected)


def test_rows_and_columns_in_chunks_give_the_same(gpt2):
    whole = gpt2.trace("integrated_gradients", **ZEROS).scores
    for size in (1, 4):
        close(gpt2.trace("integrated_gradients", **ZEROS, rows_per_pass=size).scores, whole)


def test_a_span_is_the_sum_of_its_columns(world):
    each = world.trace("input_x_gradient", **SIGNED).scores
    whole = world.trace("input_x_gradient", **SIGNED, span=True).scores
    np.testing.assert_allclose(whole[:, 0], np.where(np.isnan(each).all(1), np.nan, np.nansum(each, 1)), atol=1e-5)
    numbers = (0, 0, 1, -1, *(1,) * (each.shape[1] - 4))
    parts = world.trace("input_x_gradient", **SIGNED, spans=numbers).scores
    np.testing.assert_allclose(parts[0, 0], each[0, :2].sum(), atol=1e-5)
    np.testing.assert_allclose(parts[0, 1], each[0, [2, *range(4, each.shape[1])]].sum(), atol=1e-5)


def test_features_add_up_their_positions(gpt2):
    each = gpt2.trace("input_x_gradient", **SIGNED).scores
    found = gpt2.trace("input_x_gradient", **SIGNED, features=(0, 0, 1, 1, -1, 2, 2, 2)).scores
    np.testing.assert_allclose(found[1], np.where(np.isnan(each[2]), np.nan, np.nansum(each[2:4], 0)), atol=1e-6)
    assert found.shape == (3, 7)


def test_noise_averages_to_the_gradient_as_it_vanishes(gpt2):
    plain = gpt2.trace("saliency", absolute=False).scores
    close(gpt2.trace("smoothgrad", noise_level=0.0, n_samples=3).scores, plain)
    vectors = gpt2.trace("saliency_vectors").scores
    close(gpt2.trace("squaregrad_vectors", noise_level=0.0, n_samples=3).scores, vectors**2)
    np.testing.assert_allclose(np.nanmax(gpt2.trace("vargrad", noise_level=0.0, n_samples=3).scores), 0, atol=1e-9)


def test_variance_is_mean_square_less_squared_mean(gpt2):
    drawn = {"noise_level": 0.2, "n_samples": 6, "seed": 3}
    mean, square, variance = (
        gpt2.trace(f"{name}_vectors", **drawn, rows_per_pass=size).scores
        for name, size in (("smoothgrad", 6), ("squaregrad", 4), ("vargrad", 2))
    )
    np.testing.assert_allclose(variance, square - mean**2, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_sampled_paths_approach_the_integral(gpt2):
    ids = {"baseline": "ids", "baseline_ids": (7,)}
    exact = gpt2.trace("integrated_gradients", **ids, **SIGNED, n_steps=60).scores
    shap = gpt2.trace("gradient_shap", **ids, **SIGNED, n_samples=800).scores
    expected = gpt2.trace("expected_gradients", **ids, **SIGNED, n_samples=200).scores
    spread = np.nanstd(exact)
    assert np.nanmax(np.abs(expected - exact)) < 0.1 * spread
    assert np.nanmax(np.abs(shap - exact)) < spread


DELTA = {"convergence_delta": True, "baseline": "zeros", "include_eos_baseline": True, "reduce": "sum"}


@pytest.mark.parametrize("method", ["gradient_shap", "gradient_x_difference"])
def test_a_sum_misses_the_change_by_the_delta(gpt2, method):
    found, along = gpt2.trace(method, **DELTA), gpt2.trace("integrated_gradients", n_steps=3, **DELTA)
    changes = [np.nansum(one.scores, 0) - one.deltas[0] for one in (found, along)]
    np.testing.assert_allclose(*changes, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.deltas[1], changes[0], rtol=1e-4, atol=1e-6)


def test_noise_on_the_inputs_is_in_the_change(gpt2):
    with gpt2.prompt() as t:
        found = t.op("attribution.gradient_shap", t.embed[0].sum(), stdevs=1.0, **DELTA)
        t.save(deltas=found.deltas, scores=found.scores)
    assert np.abs(np.nansum(t.result["scores"])) > 0.1
    np.testing.assert_allclose(t.result["deltas"][0], 0, atol=1e-4)
    with pytest.raises(InterpdError, match="without multiply_by_inputs they do not"):
        gpt2.trace("gradient_shap", **DELTA, multiply_by_inputs=False)


def test_equal_seeds_draw_equal_numbers_in_chunks_of_any_size(gpt2):
    drawn = {"baseline": "zeros", "n_samples": 6, "stdevs": 0.1, "seed": 5}
    one = gpt2.trace("gradient_shap", **drawn).scores
    close(gpt2.trace("gradient_shap", **drawn, rows_per_pass=4).scores, one)
    other = gpt2.trace("gradient_shap", **{**drawn, "seed": 6}).scores
    assert np.nanmax(np.abs(one - other)) > 1e-4


@pytest.mark.slow
def test_expected_gradients_take_each_baseline_equally_often(gpt2):
    ids = (*(7,) * 8, *(9,) * 8)
    found = gpt2.trace("expected_gradients", baseline="ids", baseline_ids=ids, n_samples=300, **SIGNED).scores
    exact = gpt2.trace("integrated_gradients", baseline="ids", baseline_ids=ids, n_steps=60, **SIGNED).scores
    assert np.nanmax(np.abs(found - exact)) < 0.15 * np.nanstd(exact)


def test_the_gradient_of_a_likely_token_has_its_digits(gpt2):
    """1 - p is 3e-7 here: in float32 hardly a digit of it is left."""
    ids = gpt2.target
    with torch.no_grad():
        logits = gpt2.logits(*gpt2.embedded())
    sharp = torch.zeros_like(logits)
    sharp[range(7), ids[1:]] = 15.0 + logits.amax(-1)[:-1] - logits[range(7), ids[1:]]
    with gpt2.prompt() as t:
        t.logits = t.logits + sharp[None].numpy()
        t.save(out=t.op("attribution.input_x_gradient", reduce="sum", step_scores=("probability",)))
    twin = copy.deepcopy(gpt2.model).double()
    (vectors,) = (side.double().requires_grad_() for side in gpt2.embedded())
    p = (twin(inputs_embeds=vectors[None]).logits[0] + sharp).softmax(-1)[range(7), ids[1:]]
    rows = [(torch.autograd.grad(one, vectors, retain_graph=True)[0] * vectors).sum(-1) for one in p]
    expected = torch.stack(rows, 1).detach().numpy()
    found = np.nan_to_num(t.result["out"].scores)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
