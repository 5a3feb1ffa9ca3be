"""Captum's own numbers (``../golden``) of layer methods, for one token of a tiny model."""

import numpy as np
import pytest
from attribution_golden import reading, tiny

import interpd_client
from interpd_attribution import worker

NAME, STEP = "tiny-gpt2", 9
LAYERS = ("transformer.h.0.mlp", "transformer.h.2.mlp", "transformer.h.3")


@pytest.fixture(scope="module")
def ask():
    golden = reading.golden(NAME)
    ids, baseline = (getattr(golden.sequence("target"), name) for name in ("ids", "baseline_ids"))
    with interpd_client.local(
        (tiny.model(NAME), tiny.tokenizer(NAME)), plugins={"attribution": worker}, name="model"
    ) as client:

        def asked(method, **constants):
            sites = tuple(f"{layer}.output" for layer in LAYERS)
            with client.model("model").trace(list(ids)) as t:
                path = {
                    "baseline": "ids",
                    "baseline_ids": baseline,
                    "start": STEP,
                    "target": "probability(logprob=True)",
                }
                t.save(out=t.op(f"attribution.{method}_vectors", sites=sites, **path, **constants))
            return t.result["out"].scores[:, :STEP, 0]

        yield asked


def captum(method):
    return np.stack(
        [reading.golden(f"{NAME}.captum").case(f"{method}/{layer}/{STEP}").arrays["vectors"] for layer in LAYERS]
    )


@pytest.mark.parametrize("method", ["internal_influence", "layer_integrated_gradients"])
def test_numbers_are_captums(ask, method):
    np.testing.assert_allclose(ask(method, n_steps=20), captum(method), rtol=1e-4, atol=1e-6)


def test_conductance_is_captums_but_for_the_rule(ask):
    """Captum's steps go from node to node of a quadrature, which leaves out both ends of the way."""
    found, theirs = ask("layer_conductance", n_steps=100), captum("layer_conductance")
    assert np.corrcoef(found.ravel(), theirs.ravel())[0, 1] > 0.99
