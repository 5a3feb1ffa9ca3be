"""Methods over inputs, measured in one call."""

import itertools

import numpy as np
import pytest

import interpd_client
from interpd import zoo
from interpd.errors import CallerError
from interpd.testing.tiny_models import tiny_model
from interpd_attribution import worker
from interpd_attribution.evaluation import evaluate
from interpd_attribution.evaluation.changes import stages, with_noisy_inputs, with_redrawn_weights

INPUTS, GENERATED = [[5, 40, 77, 120], [9, 210, 64]], [[33, 12], [7, 8, 9]]
SIGNED = ("input_x_gradient", {"reduce": "sum"})
OPTIONS = {"baseline": "zeros", "n_samples": 8}


@pytest.fixture(scope="module")
def model():
    tiny = tiny_model("gpt2")
    with interpd_client.local((tiny.model, tiny.tokenizer), plugins={"attribution": worker}, name="tiny") as client:
        yield client.model("tiny")


@pytest.fixture(scope="module")
def t5():
    tiny = tiny_model("t5")
    with interpd_client.local((tiny.model, tiny.tokenizer), plugins={"attribution": worker}, name="tiny") as client:
        yield client.model("tiny")


@pytest.mark.slow
def test_a_table_over_methods_and_inputs_is_what_each_alone_says(model):
    metrics = ("deletion", "infidelity", "completeness")
    table = evaluate(model, INPUTS, GENERATED, methods=["saliency", SIGNED], metrics=metrics, **OPTIONS)
    assert table.methods == ("saliency", "input_x_gradient(reduce=sum)", "random", "leave_one_out")
    assert table.values.shape == (4, 3, 2)
    for number, (prompt, rest) in enumerate(zip(INPUTS, GENERATED, strict=True)):
        shared = {"start": len(prompt), "stop": len(prompt) + len(rest)}
        with model.trace(prompt + rest) as t:
            given = (
                t.op("attribution.saliency", **shared),
                t.op("attribution.input_x_gradient", reduce="sum", **shared),
            )
            scores = tuple(one.scores for one in given)
            own = {"metrics": metrics, "references": ("random", "leave_one_out"), "seed": number}
            t.save(out=t.op("attribution.evaluate", scores, **own, **shared, **OPTIONS).values)
        np.testing.assert_allclose(table.values[:, :, number], t.result["out"].mean(-1).T, rtol=1e-4, atol=1e-6)


def scores_under(model, ids, start, change, method="saliency", **constants):
    with model.trace(ids) as t:
        change(t)
        t.save(out=t.op(f"attribution.{method}", start=start, **constants).scores)
    return t.result["out"]


def test_max_sensitivity_is_the_largest_relative_change_by_noise(model):
    how = {"n_noises": 3, "radius": 0.2, "seed": 4}
    table = evaluate(
        model, INPUTS[0], GENERATED[0], methods=["saliency"], metrics=["max_sensitivity"], references=(), **how
    )
    ids = INPUTS[0] + GENERATED[0]
    plain = scores_under(model, ids, 4, lambda t: None)
    most = np.zeros(2)
    for seed in (4, 5, 6):
        noisy = scores_under(model, ids, 4, with_noisy_inputs(model.manifest, 0.2, seed))
        for column in range(2):
            seen = slice(0, 4 + column)
            change = np.linalg.norm(noisy[seen, column] - plain[seen, column]) / np.linalg.norm(plain[seen, column])
            most[column] = max(most[column], change)
    assert table["saliency", "max_sensitivity"].mean == pytest.approx(most.mean(), rel=1e-4)
    assert most.min() > 0


@pytest.mark.parametrize("is_cascading", [True, False])
def test_randomization_is_the_rank_correlation_with_redrawn_weights(model, is_cascading):
    asked = {"metrics": ["randomization"], "references": (), "is_cascading": is_cascading, "seed": 2}
    table = evaluate(model, INPUTS[0], GENERATED[0], methods={"mine": "saliency"}, **asked)
    ids, parts, found = INPUTS[0] + GENERATED[0], stages(model.manifest), []
    plain = scores_under(model, ids, 4, lambda t: None)
    for n in range(len(parts)):
        chosen = parts[: n + 1] if is_cascading else parts[n : n + 1]
        other = scores_under(model, ids, 4, with_redrawn_weights(model.manifest, chosen, 2))
        for column in range(2):
            size = 4 + column
            ranks = [np.argsort(np.argsort(one[:size, column])) for one in (plain, other)]
            found.append(1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (size * (size**2 - 1)))
    assert table["mine", "randomization"].mean == pytest.approx(np.mean(found), abs=1e-5)
    assert min(found) < 0.99


@pytest.mark.slow
def test_both_sides_of_an_encoder_decoder_model(t5):
    asked = {"metrics": ["completeness", "tau_loo", "max_sensitivity", "randomization"], "n_noises": 1, **OPTIONS}
    table = evaluate(t5, [[5, 40, 77]], [[50, 60]], methods=[SIGNED, "attention"], attribute_target=True, **asked)
    assert np.isfinite(table.values[:2]).all()
    assert table["leave_one_out", "tau_loo"].mean == pytest.approx(1.0)


def test_features_spans_and_values_are_evaluated_as_they_are_attributed(model):
    def value(t):
        return t.layers[2].resid_post[0, -1, 3]

    methods = ["saliency", ("integrated_gradients", {"reduce": "sum", "n_steps": 60})]
    of_value = evaluate(model, INPUTS[0], methods=methods, metrics=["completeness"], target=value, **OPTIONS)
    assert of_value["integrated_gradients(reduce=sum, n_steps=60)", "completeness"].mean < 1e-3
    together = evaluate(
        model, INPUTS[0], GENERATED[0], methods=methods, metrics=["completeness"], target="logit", span=True, **OPTIONS
    )
    assert together["integrated_gradients(reduce=sum, n_steps=60)", "completeness"].mean < 1e-2
    assert together["leave_one_out", "completeness"].mean > 1e-2


def test_progress_counts_requests(model):
    seen = []
    evaluate(
        model,
        INPUTS,
        GENERATED,
        methods=["saliency"],
        metrics=["gini", "max_sensitivity"],
        n_noises=2,
        baseline="zeros",
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"methods": ["saliensy"]}, "saliency"),
        ({"methods": ["saliency"], "metrics": ["truth"]}, "no 'truth'"),
        ({"methods": "saliency"}, r"methods=\['saliency'\]"),
        ({"methods": []}, "none was asked for"),
        ({"methods": ["saliency", "saliency"]}, "twice"),
        ({"methods": ["saliency"], "n_steps": 3}, "no option 'n_steps'"),
        ({"methods": ["saliency"], "references": ["worst"]}, "'worst'"),
        ({"methods": ["saliency"], "granular": True}, "leave it out"),
        ({"methods": ["saliency"], "radius": 0.0}, "more than 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(model, asked, said):
    with pytest.raises((CallerError, interpd_client.UnknownName), match=said):
        evaluate(model, INPUTS, GENERATED, **asked)


@pytest.mark.slow
def test_a_faithful_attribution_is_better_than_a_random_one_on_known_facts():
    prompts = ["Elena Marsh was born in", "Pavel Castell was born in", "Hugo Bishop was born in"]
    judging = ("comprehensiveness", "sufficiency", "deletion", "insertion", "sensitivity_n", "tau_loo")
    options = {"target": "probability(logprob=True)", "generation": {"max_new_tokens": 1}}
    with interpd_client.local(zoo.path("facts"), plugins={"attribution": worker}, name="facts") as client:
        model = client.model("facts")
        table = evaluate(model, prompts, methods=[SIGNED], metrics=(*judging, "completeness"), **options)
        again = evaluate(model, prompts, methods=[SIGNED], metrics=(*judging, "completeness"), **options)
    np.testing.assert_allclose(again.values, table.values, rtol=1e-4, atol=1e-4)
    for faithful, metric in itertools.product(("input_x_gradient(reduce=sum)", "leave_one_out"), judging):
        gain = table.difference(faithful, "random", metric).mean
        assert gain < 0 if metric in ("sufficiency", "deletion") else gain > 0, (faithful, metric)
    assert table.best("tau_loo") == "leave_one_out"
