"""Every method behaves as the engine relies on."""

import pytest
import torch

from interpd.testing import conformance
from interpd_attribution import worker
from interpd_attribution.worker.registry import methods

BASELINE = {"baseline": "zeros"}
"""The tiny tokenizer has no unknown token."""

SHORT = {"n_steps": 2}
EXAMPLES = {
    "gradient_x_difference": BASELINE,
    "integrated_gradients": {**BASELINE, **SHORT},
    "sequential_integrated_gradients": {**BASELINE, **SHORT},
    "gradient_shap": {**BASELINE, "n_samples": 2},
    "expected_gradients": {**BASELINE, "n_samples": 2},
    "smoothgrad": {"n_samples": 2},
    "squaregrad": {"n_samples": 2},
    "vargrad": {"n_samples": 2},
    "discretized_integrated_gradients": {"baseline": "ids", "baseline_ids": (7,), "n_steps": 3, "n_neighbors": 5},
    "layer_gradient_x_difference": BASELINE,
    "layer_integrated_gradients": {**BASELINE, **SHORT},
    "layer_conductance": {**BASELINE, **SHORT},
    "internal_influence": {**BASELINE, **SHORT},
    "occlusion": BASELINE,
    "feature_ablation": BASELINE,
    "shapley_values": {**BASELINE, "stop": 4, "inputs": "target"},
    "shapley_value_sampling": {**BASELINE, "n_samples": 2},
    "kernel_shap": {**BASELINE, "n_samples": 64},
    "lime": {**BASELINE, "n_samples": 4},
    "context_cite": {**BASELINE, "n_ablations": 4, "n_held_out": 2, "output": "target"},
    "reagent": {"num_probes": 2, "max_probe_steps": 2},
}

OF_EVALUATIONS = {
    # of the prompt of the kit
    "attribution.evaluate": {**BASELINE, "scores": (torch.ones(12, 1),), "references": ("random", "leave_one_out")},
    "attribution.noisy": {"token_ids": (1, 0, 2), "radius": 0.1},
}


def names_of(name):
    """The methods of one id."""
    own = (f"attribution.{name}", f"attribution.{name}_vectors", f"attribution.{name}_heads")
    return [one.schema.name for one in methods() if one.schema.name in own]


test_conforms = pytest.mark.slow(
    conformance(
        worker,
        examples={schema: given for name, given in EXAMPLES.items() for schema in names_of(name)} | OF_EVALUATIONS,
    )
)
