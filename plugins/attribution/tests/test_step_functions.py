"""Step functions as scores and as targets: what a target loses without a token is the difference of two scores."""

import numpy as np
import pytest
import torch
from attribution_golden import tiny

import interpd_client
from interpd_attribution import worker
from interpd_attribution.contrast import Contrast
from interpd_attribution.worker.scoring import registry
from interpd_attribution.worker.scoring.registry import step_function, step_functions

CONTINUATION, FOIL = [9, 110, 64], [9, 7, 12]
WITH_OPTIONS = {
    "top_p_size": "top_p_size(top_p=0.5)",
    "kl_divergence": "kl_divergence(top_k=20)",
    "contrast_prob": "contrast_prob(logprob=True)",
}
ASKED = tuple(WITH_OPTIONS.get(name, name) for name in step_functions() if name != "mc_dropout_prob_avg")
"""All but the one that draws: its own test is in ``worker/test_scoring.py``."""


@pytest.fixture(scope="module")
def model():
    made = (tiny.model("tiny-gpt2"), tiny.tokenizer("tiny-gpt2"))
    with interpd_client.local(made, plugins={"attribution": worker}, name="model") as client:
        yield client.model("model")


@pytest.fixture(scope="module")
def scores(model):
    """Of two prompts, the second without the first one's token at 2: step functions by name."""
    prompts = ([5, 40, 77, 120, 33], [5, 40, tiny.UNK_ID, 120, 33])
    return [
        model.attribute(one, CONTINUATION, method="dummy", step_scores=ASKED, contrast=FOIL).step_scores
        for one in prompts
    ]


@pytest.mark.parametrize("name", ASKED)
def test_a_target_loses_the_difference_of_two_scores(model, scores, name):
    is_contrastive = step_functions()[name.partition("(")[0]].contrastive
    asked = {"contrast": Contrast(FOIL, force_inputs=True)} if is_contrastive else {}
    out = model.attribute([5, 40, 77, 120, 33], CONTINUATION, method="feature_ablation", target=name, **asked)
    with_it, without = (found[name] for found in scores)
    assert np.isfinite(with_it).all()
    np.testing.assert_allclose(out.scores[2], with_it - without, rtol=1e-4, atol=1e-5 * np.abs(with_it).max())


@step_function("margin")
def margin(step):
    """By how much the likeliest token is ahead of the next."""
    first, second = step.logits.topk(2).values.unbind(-1)
    return first - second


class Point:
    """An installed entry point."""

    name, value = "margin", "my_package:margin"

    def load(self):
        """What it names."""
        return margin


@pytest.fixture
def installed(monkeypatch):
    """A model that is served where another package has a step function."""
    group = "interpd_attribution.step_functions"
    monkeypatch.setattr(registry, "entry_points", lambda **asked: [Point()] if asked == {"group": group} else [])
    step_functions.cache_clear()
    bare = tiny.model("tiny-gpt2")
    with interpd_client.local((bare, tiny.tokenizer("tiny-gpt2")), plugins={"attribution": worker}, name="m") as client:
        yield client.model("m")
    step_functions.cache_clear()


def test_a_step_function_of_another_package_is_a_score_and_a_target(installed):
    assert "margin" in installed.attribute.step_functions()
    asked = {"method": "feature_ablation", "target": "margin", "step_scores": ["margin"]}
    out = installed.attribute([5, 40, 77, 120, 33], CONTINUATION, **asked)
    with torch.no_grad():
        logits = tiny.model("tiny-gpt2")(torch.tensor([[5, 40, 77, 120, 33, *CONTINUATION]])).logits[0, 4:7]
    top = logits.topk(2).values
    np.testing.assert_allclose(out.step_scores["margin"], top[:, 0] - top[:, 1], rtol=1e-4, atol=1e-5)
    assert np.isfinite(out.scores[:5]).all()
