"""Context attribution with methods of every kind."""

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_attribution.pecore import attribute_context

TEXTS = {
    "input_context_text": "The cat",
    "input_current_text": "The nurse was",
    "output_context_text": "the job",
    "output_current_text": "on the mat",
    "context_sensitivity_std_threshold": None,
    "context_sensitivity_topk": 2,
}


@pytest.mark.parametrize(
    "method",
    [
        "value_zeroing",
        pytest.param("occlusion", marks=pytest.mark.slow),
        pytest.param("integrated_gradients", marks=pytest.mark.slow),
    ],
)
def test_scores_are_those_of_a_node_of_ones_own(served, method):
    model = served("tiny-gpt2")
    constants = {"n_steps": 3, "baseline": "pad"} if method == "integrated_gradients" else {}
    found = attribute_context(model, **TEXTS, attribution_method=method, attribution_kwargs=constants)
    told = found.info["sequences"]["contextual"]
    columns = [one.cti_idx for one in found.cci_scores]
    with model.trace(told["target"]) as t:
        t.save(out=t.op(f"attribution.{method}", start=told["start"], **constants))
    scores = np.asarray(t.result["out"].scores)
    scores = scores.mean(0) if scores.ndim == 3 else scores
    n_input = len(found.input_context_tokens)
    text = model.tokenize("The cat The nurse was the job")
    places = [*range(n_input), *range(len(text.ids) - len(found.output_context_tokens), len(text.ids))]
    for number, place in enumerate(columns):
        one = found.cci_scores[number]
        ours = [*one.input_context_scores, *one.output_context_scores]
        np.testing.assert_allclose(ours, scores[places, place], atol=1e-6, rtol=1e-4)


def test_a_layer_and_a_head_are_picked(served):
    model = served("tiny-gpt2")
    found = attribute_context(
        model,
        **TEXTS,
        attribution_method="attention",
        attribution_aggregators=("mean", "mean"),
        attribution_selectors=(1, 2),
    )
    told = found.info["sequences"]["contextual"]
    with model.trace(told["target"]) as t:
        t.save(pattern=t.layers[2].attn.pattern)
    one = found.cci_scores[0]
    row = t.result["pattern"][0, 1, told["start"] + one.cti_idx - 1]
    np.testing.assert_allclose(one.input_context_scores, row[: len(one.input_context_scores)], atol=1e-6)


@pytest.mark.slow
def test_scores_are_scaled_over_all_inputs(served):
    raw = attribute_context(served("tiny-t5"), **TEXTS)
    share = attribute_context(served("tiny-t5"), **TEXTS, normalize_attributions=True)
    largest = attribute_context(served("tiny-t5"), **TEXTS, rescale_attributions=True)
    for one, normal, scaled in zip(raw.cci_scores, share.cci_scores, largest.cci_scores, strict=True):
        factors = np.divide(normal.all_scores, one.all_scores)
        np.testing.assert_allclose(factors, factors[0], rtol=1e-4)
        assert sum(normal.all_scores) < 1
        assert max(scaled.all_scores) <= 1
        np.testing.assert_allclose(
            np.divide(scaled.all_scores, one.all_scores), scaled.all_scores[0] / one.all_scores[0], rtol=1e-4
        )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"attribution_method": "dummy"}, "gives nothing for the input context"),
        ({"attribution_method": "attention", "attributed_fn": "contrast_prob_diff"}, "attributes no step function"),
        ({"attribution_method": "attention", "attribution_aggregators": ("mean",)}, "leave the axes layer"),
        ({"attribution_kwargs": {"start": 1}}, "follows from"),
        ({"attributed_fn": "probabilty"}, "probabilty"),
    ],
)
def test_what_a_method_cannot_say_is_refused(served, wrong, why):
    with pytest.raises(CallerError, match=why):
        attribute_context(served("tiny-gpt2"), **TEXTS, **wrong)


def test_a_context_that_changes_nothing_has_no_sensitive_tokens(served):
    same = {
        "input_context_text": "x",
        "input_template": "{current}{context}",
        "contextless_input_current_text": "The nursex",
    }
    found = attribute_context(served("tiny-gpt2"), **same, input_current_text="The nurse", output_current_text="was on")
    assert set(found.cti_scores) == {0.0}
    assert found.cci_scores == ()
