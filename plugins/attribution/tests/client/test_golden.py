"""Inseq's numbers through ``model.attribute``: what the caller says becomes what was measured."""

import numpy as np
import pytest
from attribution_golden import reading, tiny

import interpd_client
from interpd_attribution import worker
from interpd_attribution.contrast import Contrast

pytestmark = pytest.mark.slow

METHODS = {"deeplift": "gradient_x_difference"}
"""Inseq's ids where ours are others."""

CASES = (
    "saliency/log_probability/l2",
    "input_x_gradient/contrast_prob_diff/sum",
    "saliency/pcxmi/l2",
    "deeplift/probability/sum",
    "integrated_gradients/logit/sum",
    "integrated_gradients/contrast_logits_diff/l2",
)


@pytest.fixture(scope="module")
def model():
    name = "tiny-gpt2"
    with interpd_client.local(
        (tiny.model(name), tiny.tokenizer(name)), plugins={"attribution": worker}, name=name
    ) as client:
        yield client.model(name)


def asked_of(case):
    """The case as a researcher would write it."""
    options = ", ".join(
        f"{key}={value!r}" for key, value in case.target_arguments.items() if not key.startswith("contrast")
    )
    found = {"method": METHODS.get(case.method, case.method), "target": f"{case.target}({options})"}
    if case.contrast:
        is_forced = case.target_arguments.get("contrast_force_inputs")
        foil = case.sequence(case.contrast).ids
        found["contrast"] = Contrast(foil, whole=True, force_inputs=is_forced, shared=0 if is_forced else None)
    if case.method in ("deeplift", "integrated_gradients"):
        found["baseline"] = case.sequence("target").baseline_ids
    if "n_steps" in case.arguments:
        found["n_steps"] = case.arguments["n_steps"]
    return found | ({"granular": True} if case.suffix == "l2" else {"reduce": "sum"})


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_inseqs(model, name):
    case = reading.golden("tiny-gpt2").case(name)
    ids, asked = case.sequence("target").ids, asked_of(case)
    out = model.attribute(ids[: case.start], ids[case.start :], **asked)
    if case.suffix == "l2":
        out = out.aggregate()
    assert tuple(token.id for token in out.target[: case.start]) == ids[: case.start]
    np.testing.assert_allclose(out.target_attributions, case.target_scores, rtol=1e-4, atol=1e-6)
