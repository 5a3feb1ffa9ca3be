"""Attribution methods: ours, and those of other packages.

A package offers its own through the entry-point group ``interpd_attribution.methods``; each entry point names a
function marked with ``@attribution``, ``@perturbation`` or ``@grouped_method``.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import Any

from interpd.sdk import DeclarationError
from interpd_attribution.worker.gradient import discretized, local, path, sampled
from interpd_attribution.worker.internals import alti, attention, dummy, logit, norms, rollout, value_zeroing
from interpd_attribution.worker.layers import gradient as layers
from interpd_attribution.worker.perturbation import context_cite, kernel, reagent, shapley, surrogates, windows

GROUP = "interpd_attribution.methods"

OURS = (
    *(local.saliency, local.input_x_gradient, local.gradient_x_difference),
    *(path.integrated_gradients, path.sequential_integrated_gradients),
    discretized.discretized_integrated_gradients,
    *(sampled.gradient_shap, sampled.expected_gradients, sampled.smoothgrad, sampled.squaregrad, sampled.vargrad),
    *(layers.layer_gradient_x_activation, layers.layer_gradient_x_difference, layers.layer_integrated_gradients),
    *(layers.layer_conductance, layers.internal_influence),
    *(windows.occlusion, windows.feature_ablation, shapley.shapley_values, shapley.shapley_value_sampling),
    *(kernel.kernel_shap, surrogates.lime, context_cite.context_cite, reagent.reagent),
    *(attention.attention, norms.attention_norms, value_zeroing.value_zeroing, dummy.dummy),
    *(rollout.attention_rollout, rollout.attention_flow, rollout.alti),
    *(logit.direct_logit_attribution, alti.alti_logit, alti.alti_logit_layers),
)
"""What this package brings."""


def methods() -> Sequence[Callable[..., Any]]:
    """Everything to register, as methods of graphs."""
    found = [*OURS, *_of_others()]
    return [one for each in found for one in getattr(each, "methods", (each,))]


def _of_others() -> Iterator[Callable[..., Any]]:
    for point in entry_points(group=GROUP):
        found = point.load()
        if not hasattr(found, "methods") and not hasattr(found, "schema"):
            raise DeclarationError(
                f"entry point {point.name!r} of {GROUP} is no attribution method; mark {point.value} with @attribution"
            )
        yield found
