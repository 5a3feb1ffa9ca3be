"""Every method behaves as the engine relies on."""

from interpd.testing import conformance
from interpd_attribution import worker

BASELINE = {"baseline": "zeros"}
"""The tiny tokenizer has no unknown token."""

PATHS = ("gradient_x_difference", "integrated_gradients", "sequential_integrated_gradients")
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
}

test_conforms = conformance(
    worker,
    examples={f"attribution.{name}{end}": given for name, given in EXAMPLES.items() for end in ("", "_vectors")},
)
