"""Occlusion, ablation and Shapley values: against bare models, Captum's and Inseq's numbers, and closed forms."""

import itertools
import math
from types import ModuleType

import numpy as np
import pytest
import torch
from attribution_golden import reading, tiny

import interpd_client
from interpd.errors import InterpdError
from interpd.graph.ir import Graph, Node, Ref
from interpd.graph.run import Cancelled, Progress, Result
from interpd.sdk import hookimpl
from interpd.testing.in_process import InProcessModel
from interpd.testing.tiny_models import tiny_model
from interpd_attribution import worker
from interpd_attribution.worker.perturbation.declaration import perturbation
from interpd_attribution.worker.perturbation.game import Game
from interpd_attribution.worker.perturbation.shapley import Moments
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline

ZEROS = {"baseline": "zeros", "include_eos_baseline": True}


def close(found, expected, rtol=1e-4, atol=1e-6):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def worth(world, stays, score=lambda logits, ids: logits.softmax(-1)[range(len(ids)), list(ids)]):
    """What bare hooks say of each attributed token, with zeros where a position does not stay: ``[column]``."""
    vectors = world.embedded()
    first = [0, len(vectors[0])] if world.has_encoder else [0]
    changed = []
    for start, side in zip(first, vectors, strict=True):
        keeps = torch.tensor([position in stays for position in range(start, start + len(side))])
        keeps[0] |= world.has_encoder and start > 0
        changed.append(torch.where(keeps[:, None], side, 0.0))
    with torch.no_grad():
        logits = world.logits(*changed)[: len(world.target) - 1].double()
    return score(logits, world.target[1:]).numpy()


def n_positions(world):
    return sum(len(side) for side in world.embedded())


def sees(world):
    """Whether a position comes before a token, ``[position column]``."""
    first = n_positions(world) - len(world.target)
    return np.arange(n_positions(world))[:, None] <= first + np.arange(len(world.target) - 1)


def without(world, *groups, **options):
    """What is lost without each group of positions, ``[group column]``."""
    everything = set(range(n_positions(world)))
    whole = worth(world, everything, **options)
    return np.stack([whole - worth(world, everything - set(group), **options) for group in groups])


def test_ablation_is_what_is_lost_without_a_feature(world):
    found = world.trace("feature_ablation", **ZEROS).scores
    expected = without(world, *([position] for position in range(n_positions(world))))
    close(found, np.where(sees(world), expected, np.nan))


def test_features_are_ablated_as_wholes_and_positions_in_none_stay(gpt2):
    features = (0, 0, 1, -1, 1, 2, -1, -1)
    target = "probability(logprob=True)"
    found = gpt2.trace("feature_ablation", features=features, span=True, start=6, target=target, **ZEROS).scores
    score = lambda logits, ids: logits.log_softmax(-1)[range(len(ids)), list(ids)]  # noqa: E731
    expected = without(gpt2, [0, 1], [2, 4], [5], score=score)[:, 5:].sum(1)
    close(found[:, 0], expected)


def test_several_baselines_are_a_mean_over_them(gpt2):
    ids = (7,) * 8 + (9,) * 8
    found = gpt2.trace("feature_ablation", baseline="ids", baseline_ids=ids).scores
    each = [gpt2.trace("feature_ablation", baseline="ids", baseline_ids=(id_,)).scores for id_ in (7, 9)]
    close(found, np.mean(each, 0))


def test_a_value_of_the_graph_is_explained_under_its_writes(gpt2):
    with gpt2.prompt() as t:
        t.layers[0].mlp.out[:, 2] = 0.0
        value = t.layers[2].resid_post[0, -1, :2]
        t.save(out=t.op("attribution.feature_ablation", value, baseline="ids", baseline_ids=(7,)), value=value)
    ids = list(range(8))
    for position in (1, 6):
        changed = [7 if one == position else id_ for one, id_ in enumerate((5, 40, 77, 120, 33, 9, 210, 64))]
        with gpt2.prompt(tuple(changed)) as other:
            other.layers[0].mlp.out[:, 2] = 0.0
            other.save(value=other.layers[2].resid_post[0, -1, :2])
        close(t.result["out"].scores[ids[position]], t.result["value"] - other.result["value"], atol=1e-5)


def windows_of(length, window, stride):
    """Captum's windows: shifted as often as it takes to reach the end, the last one cut off there."""
    shifts = max(0, math.ceil((length - window) / stride)) + 1
    return [range(shift * stride, min(shift * stride + window, length)) for shift in range(shifts)]


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (3, 2)])
def test_windows_count_as_if_the_sequence_ended_at_the_token(gpt2, window, stride):
    found = gpt2.trace("occlusion", window=window, stride=stride, **ZEROS).scores
    for column in range(7):
        windows = windows_of(column + 1, window, stride)
        losses = [without(gpt2, list(one))[0, column] for one in windows]
        for position in range(column + 1):
            mine = [loss for loss, one in zip(losses, windows, strict=True) if position in one]
            close(found[position, column], np.mean(mine))


def test_windows_stay_on_their_side(t5):
    found = t5.trace("occlusion", window=3, stride=3, **ZEROS).scores
    source = without(t5, range(3), range(3, 6), range(6, 8))
    close(found[:8], np.repeat(source, [3, 3, 2], axis=0))
    close(found[8:11, 2:], np.repeat(without(t5, [8, 9, 10]), 3, axis=0)[:, 2:])


def test_windows_are_of_neighbouring_features_whatever_their_numbers(gpt2):
    plain = gpt2.trace("occlusion", window=2, features=(0, 0, 1, 1, 2, 2, -1, -1), start=7, **ZEROS).scores
    other = gpt2.trace("occlusion", window=2, features=(2, 2, 0, 0, 1, 1, -1, -1), start=7, **ZEROS).scores
    close(other[[2, 0, 1]], plain)


def test_occlusion_keeps_signs_unless_it_is_told_not_to(gpt2):
    signed = gpt2.trace("occlusion", **ZEROS).scores
    assert (np.nan_to_num(signed) < 0).any()
    close(gpt2.trace("occlusion", absolute=True, **ZEROS).scores, np.abs(signed))
    close(signed, gpt2.trace("feature_ablation", **ZEROS).scores)


GROUPED = {"features": (0, 0, 1, 2, -1, 3, 3, -1), "start": 5}
"""Four features; the first column sees two thirds of them."""


def shapley(worths, n):
    """Shapley values by their definition: the mean over all orders. ``worths``: by frozenset."""
    found = np.zeros((n, len(worths[frozenset()])))
    for order in itertools.permutations(range(n)):
        for rank, player in enumerate(order):
            found[player] += worths[frozenset(order[: rank + 1])] - worths[frozenset(order[:rank])]
    return found / math.factorial(n)


def coalitions(world, features, n):
    """The worth of every set of features."""
    free = [position for position, feature in enumerate(features) if feature < 0]
    sets = [frozenset(one) for size in range(n + 1) for one in itertools.combinations(range(n), size)]
    members = {one: {position for position, feature in enumerate(features) if feature in one} for one in sets}
    return {one: worth(world, {*free, *members[one]}) for one in sets}


def test_exact_shapley_values_are_the_mean_over_all_orders(gpt2):
    found = gpt2.trace("shapley_values", **GROUPED, **ZEROS).scores
    expected = shapley(coalitions(gpt2, GROUPED["features"], 4), 4)[:, 4:]
    expected[3, 0] = np.nan
    close(found, expected, atol=2e-6)


def test_shapley_values_add_up(t5):
    options = {"features": (0, 0, 1, 1, 2, 2, 3, 3, -1, 4, 4, 5, 5, -1), **ZEROS}
    found = t5.trace("shapley_values", **options).scores
    free = {8, 13}
    change = worth(t5, set(range(14))) - worth(t5, free)
    close(np.nansum(found, 0), change)
    sampled = t5.trace("shapley_value_sampling", n_samples=2, **options).scores
    close(np.nansum(sampled, 0), change)


def test_many_features_have_no_exact_values(gpt2):
    with pytest.raises(InterpdError, match=r"exact Shapley values of 19 features.*shapley_value_sampling"):
        gpt2.trace("shapley_values", ids=tuple(range(5, 25)), **ZEROS)


@pytest.mark.parametrize("antithetic", [False, True])
def test_sampled_shapley_values_are_as_far_off_as_they_say(gpt2, antithetic):
    exact = gpt2.trace("shapley_values", **GROUPED, **ZEROS).scores
    found = gpt2.trace("shapley_value_sampling", n_samples=400, antithetic=antithetic, **GROUPED, **ZEROS)
    seen = ~np.isnan(exact)
    assert (np.isnan(found.scores) == ~seen).all()
    assert (np.isnan(found.standard_errors) == ~seen).all()
    off = np.abs(found.scores - exact)[seen] / np.maximum(found.standard_errors[seen], 1e-7)
    assert off.max() < 4


def test_seeds_draw_the_same_and_chunks_change_nothing(gpt2):
    options = {"n_samples": 6, **GROUPED, **ZEROS}
    one = gpt2.trace("shapley_value_sampling", **options)
    close(gpt2.trace("shapley_value_sampling", rows_per_pass=2, **options).scores, one.scores)
    other = gpt2.trace("shapley_value_sampling", seed=1, **options)
    assert not np.allclose(other.scores, one.scores, equal_nan=True)
    assert np.isnan(gpt2.trace("shapley_value_sampling", **{**options, "n_samples": 1}).standard_errors).all()


def test_moments_of_blocks_are_those_of_all():
    samples = torch.randn(17, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e6
    moments = Moments()
    for block in (samples[:1], samples[1:4], samples[4:]):
        moments.add(block)
    close(moments.mean, samples.mean(0))
    close(moments.standard_errors(), samples.std(0) / math.sqrt(17))


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("occlusion", {"window": 2, "stride": 3}, "stride 3: expected a stride from 1 to the window"),
        ("shapley_value_sampling", {"n_samples": 3, "antithetic": True}, "come in pairs, give an even number"),
        ("shapley_value_sampling", {"n_samples": 0}, "n_samples is 0, expected 1 to"),
        (
            "feature_ablation",
            {"baseline": "ids", "baseline_ids": (5, 40, 77, 120, 33, 9, 210, 64)},
            "the baseline is the input itself",
        ),
    ],
)
def test_what_cannot_be_is_refused(gpt2, method, options, said):
    with pytest.raises(InterpdError, match=said):
        gpt2.trace(method, **{**ZEROS, **options})


def test_random_baselines_are_a_mean_whatever_fits_into_a_pass(gpt2):
    options = {"baseline": "noise", "n_baselines": 3, "include_eos_baseline": True}
    whole = gpt2.trace("feature_ablation", **options).scores
    close(gpt2.trace("feature_ablation", rows_per_pass=2, **options).scores, whole)


def events_of(method, max_steps=None, **constants):
    graph = Graph((Node(f"attribution.{method}", params={**ZEROS, **constants}),), {"scores": Ref(0)})
    with InProcessModel({"attribution": worker}) as model:
        return model.events(graph, max_steps=max_steps) if max_steps else model.run(graph).events


@pytest.mark.slow
def test_what_is_known_so_far_comes_on_the_way():
    events = events_of("occlusion", rows_per_pass=1)
    told = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in told] == list(range(1, int(told[-1].total) + 1))
    parts = [event.tensor.to_numpy() for event in events if isinstance(event, Result) and event.partial]
    known = [np.isfinite(part).sum() for part in parts]
    assert len(parts) > 1
    assert known == sorted(known)
    sampled = events_of("shapley_value_sampling", n_samples=8, rows_per_pass=4)
    assert sum(isinstance(event, Result) and event.partial for event in sampled) > 1


def test_a_cancel_ends_it_between_two_passes():
    events = events_of("occlusion", max_steps=4, rows_per_pass=1)
    assert isinstance(events[-1], Cancelled)
    assert sum(isinstance(event, Progress) for event in events) < 4


@perturbation("alone")
def alone(problem: Problem, *, factor: float = 1.0, baseline: Baseline) -> torch.Tensor:
    """What a feature gives the target by itself.

    Args:
        factor: Times this.
    """
    game = Game(problem, baseline)
    worth = game.worth(torch.cat([game.ends()[:1], torch.eye(game.n, dtype=torch.bool)]))
    return game.table(worth[1:] - worth[:1]) * factor


def test_a_method_of_another_package_has_all_that_ours_have(gpt2):
    (method,) = alone.methods
    constants = {param.name: param for param in method.schema.params}
    assert {"factor", "target", "step_scores", "contrast_ids", "baseline", "seed"} <= constants.keys()
    assert constants["factor"].doc == "Times this."
    plugin = ModuleType("mine")
    plugin.interpd_register_methods = hookimpl(lambda: [method])
    tiny = tiny_model("gpt2")
    with (
        interpd_client.local((tiny.model, tiny.tokenizer), plugins={"mine": plugin}, name="m") as client,
        client.model("m").trace(list(gpt2.target)) as t,
    ):
        t.save(out=t.op("attribution.alone", factor=2.0, **ZEROS))
    gains = np.stack([worth(gpt2, {position}) - worth(gpt2, set()) for position in range(8)])
    close(t.result["out"].scores, 2 * np.where(sees(gpt2), gains, np.nan))


@pytest.fixture(scope="module")
def asked():
    """What the plugin says of a tiny model of the golden numbers."""
    name = "tiny-gpt2"
    golden = reading.golden(name)
    ids, n = golden.sequence("target").ids, golden.start
    served = (tiny.model(name), tiny.tokenizer(name))
    common = {"start": n, "baseline": "ids", "baseline_ids": (golden.about["baseline_id"],) * len(ids)}

    def ask(method, **constants):
        with client.model("model").trace(list(ids)) as t:
            t.save(out=t.op(f"attribution.{method}", **common, **constants))
        return t.result["out"].scores

    ask.prompt = {"features": (*range(n), *(-1,) * (len(ids) - n)), "target": "probability(logprob=True)"}
    with interpd_client.local(served, plugins={"attribution": worker}, name="model") as client:
        yield ask


@pytest.mark.parametrize(
    ("method", "case"), [("feature_ablation", "feature_ablation"), ("shapley_values", "shapley_exact")]
)
def test_numbers_are_captums(asked, method, case):
    theirs = reading.golden("tiny-gpt2.captum").case(f"{case}/log_prob").arrays
    close(asked(method, span=True, **asked.prompt)[:, 0], theirs["sequence"], atol=1e-5)
    close(asked(method, **asked.prompt), theirs["tokens"].T, atol=1e-5)


def test_captums_estimates_are_about_ours(asked):
    exact = asked("kernel_shap", span=True, **asked.prompt)[:, 0]
    theirs = reading.golden("tiny-gpt2.captum")
    for case in ("kernel_shap", "shapley_sampling"):
        close(theirs.case(f"{case}/log_prob").arrays["sequence"], exact, atol=0.6, rtol=0)


@pytest.mark.parametrize("shape", [None, (2, 1), (2, 2), (3, 2)])
def test_occlusion_is_inseqs(asked, shape):
    cases = reading.cases("tiny-gpt2", "occlusion", "probability")
    window, stride = shape or (1, 1)
    told = {"sliding_window_shapes": [window, 64], "strides": [stride, 64]} if shape else {}
    (case,) = [one for one in cases if one.arguments == told and not one.target_arguments]
    close(
        asked("occlusion", window=window, stride=stride, absolute=True)[: len(case.target_scores)], case.target_scores
    )
