"""Attribution methods: ours, and those of other packages.

A package offers its own through the entry-point group ``interpd_attribution.methods``; each entry point names a
function marked with ``@attribution``, ``@perturbation`` or ``@grouped_method``. One that cannot be used is left out and
told of; everything else stays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interpd.graph.schema import OpSchema
from interpd.plugin.discovery import Candidate
from interpd.sdk import DeclarationError
from interpd_attribution.worker.evaluation.changes import noisy, redrawn
from interpd_attribution.worker.evaluation.method import evaluate
from interpd_attribution.worker.gradient import discretized, local, path, sampled
from interpd_attribution.worker.internals import alti, attention, dummy, logit, norms, rollout, value_zeroing
from interpd_attribution.worker.layers import gradient as layers
from interpd_attribution.worker.others import brought, distribution
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


FAMILY = "attribution."

TAKEN = (*(one.schema.name for one in (noisy, redrawn, evaluate)), f"{FAMILY}step_scores")
"""Names of the family that are no attribution methods."""


@dataclass(frozen=True)
class Offered:
    """All methods of this worker."""

    methods: tuple[Callable[..., Any], ...]
    """As methods of graphs."""
    origins: Mapping[str, str]
    """Ids of other packages' methods, and the distribution that each comes from."""
    problems: tuple[str, ...]
    """Entry points that are not used, and why."""


def offered() -> Offered:
    """Our methods, and those of other packages that can be used."""
    ours = [one for each in OURS for one in _methods_of(each)]
    origins, names = {}, {*TAKEN, *(one.schema.name for one in ours)}

    def take(candidate: Candidate, found: object) -> Sequence[Callable[..., Any]]:
        new = _checked(found, names)
        names.update(new)
        origins.update({name.removeprefix(FAMILY): distribution(candidate) for name in new})
        return tuple(new.values())

    others = brought(GROUP, take)
    return Offered((*ours, *(one for new in others.taken for one in new)), origins, others.problems)


def methods() -> Sequence[Callable[..., Any]]:
    """Everything to register, as methods of graphs."""
    return offered().methods


def _methods_of(found: Any) -> Sequence[Callable[..., Any]]:
    return getattr(found, "methods", (found,))


def _checked(found: object, names: set[str]) -> dict[str, Callable[..., Any]]:
    """The methods of what an entry point names, by name. Raises ``DeclarationError``."""
    new: dict[str, Callable[..., Any]] = {}
    for one in _methods_of(found):
        schema = getattr(one, "schema", None)
        if not isinstance(schema, OpSchema) or not schema.is_method:
            raise DeclarationError("it is no attribution method; mark the function with @attribution")
        if not schema.name.startswith(FAMILY):
            raise DeclarationError(f"method {schema.name!r} is of another family; call it '{FAMILY}<id>'")
        if schema.name in names or schema.name in new:
            raise DeclarationError(f"there is a method {schema.name!r} already; rename it")
        new[schema.name] = one
    return new
