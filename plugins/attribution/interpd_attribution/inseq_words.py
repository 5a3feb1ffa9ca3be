"""Inseq's names, and ours: methods, their options, step functions with options, contrasts, generations.

The shim and the command line read these tables, and there are no others.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from interpd.errors import CallerError

_PATH = {"method": "rule", "internal_batch_size": "rows_per_pass", "return_convergence_delta": "convergence_delta"}
_DRAWN = {"internal_batch_size": "rows_per_pass", "perturbations_per_eval": "rows_per_pass"}
_LAYER = {"target_layer": "sites"}
_INDICES = ("encoder_zeroed_units_indices", "decoder_zeroed_units_indices", "cross_zeroed_units_indices")


@dataclass(frozen=True)
class Method:
    """A method of Inseq here."""

    id: str
    """Ours."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Options with another name here."""
    only: Mapping[str, Collection[Any]] = field(default_factory=dict)
    """Options that change nothing here, by the values that may be given."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What Inseq does unasked, as our options."""
    note: str = ""
    """What a user must know."""

    @property
    def is_of_a_layer(self) -> bool:
        """Whether it attributes to what one layer holds."""
        return "target_layer" in self.renamed


ANY = object()
"""Among the values of ``Method.only``: all."""

METHODS: Mapping[str, Method] = {
    "saliency": Method("saliency", {"abs": "absolute"}),
    "input_x_gradient": Method("input_x_gradient"),
    "integrated_gradients": Method("integrated_gradients", _PATH),
    "gradient_shap": Method("gradient_shap", {**_DRAWN, "return_convergence_delta": "convergence_delta"}),
    "deeplift": Method(
        "gradient_x_difference",
        {"return_convergence_delta": "convergence_delta"},
        {"multiply_by_inputs": (True,), "custom_attribution_func": (None,)},
        note="'deeplift' is 'gradient_x_difference' here: what Captum's DeepLIFT computes on language models, none of "
        "whose non-linearities it knows; where a model has ReLU modules its numbers differ",
    ),
    "discretized_integrated_gradients": Method(
        "discretized_integrated_gradients",
        {**_PATH, "method": "strategy"},
        # neighbours are looked up when they are needed; nothing is cached
        {"mode": ("distance",), "n_jobs": (ANY,), "save_cache": (ANY,), "overwrite_cache": (ANY,), "cache_dir": (ANY,)},
    ),
    "sequential_integrated_gradients": Method("sequential_integrated_gradients", _PATH),
    "layer_integrated_gradients": Method(
        "layer_integrated_gradients", {**_PATH, **_LAYER}, {"return_convergence_delta": (False,)}
    ),
    "layer_gradient_x_activation": Method("layer_gradient_x_activation", _LAYER),
    "layer_deeplift": Method(
        "layer_gradient_x_difference",
        _LAYER,
        {"return_convergence_delta": (False,), "custom_attribution_func": (None,)},
        note="'layer_deeplift' is 'layer_gradient_x_difference' here; see 'deeplift'",
    ),
    "attention": Method("attention"),
    "occlusion": Method(
        "occlusion",
        {"sliding_window_shapes": "window", "strides": "stride", "perturbations_per_eval": "rows_per_pass"},
        {"show_progress": (ANY,)},
        {"absolute": True},
    ),
    "lime": Method(
        "lime",
        {"perturbations_per_eval": "rows_per_pass"},
        {"show_progress": (ANY,)},
        note="'lime' here leaves tokens out; Inseq's writes the number of a token into its vector, so numbers differ",
    ),
    "reagent": Method("reagent"),
    "value_zeroing": Method("value_zeroing"),
    "dummy": Method("dummy"),
}
"""By Inseq's id. Any other id of ours can be asked for as it is."""

STEP_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "logit": (),
    "probability": ("logprob",),
    "entropy": (),
    "crossentropy": (),
    "perplexity": (),
    "contrast_logits": (),
    "contrast_prob": ("logprob",),
    "contrast_logits_diff": (),
    "contrast_prob_diff": ("logprob",),
    "pcxmi": (),
    "kl_divergence": ("top_k", "top_p", "min_tokens_to_keep"),
    "in_context_pvi": (),
    "mc_dropout_prob_avg": ("n_mcd_steps", "logprob"),
    "top_p_size": ("top_p",),
}
"""Inseq's step functions, and the options that a call may give them."""

CONTRAST: Mapping[str, str] = {
    "contrast_targets": "foils",
    "contrast_sources": "source",
    "contrast_targets_alignments": "alignments",
    "contrast_force_inputs": "force_inputs",
}
"""What Inseq has among the options of a method to say with what is contrasted, and the names of ``Contrast``."""

NESTED = ("attribution_args", "attributed_fn_args", "step_scores_args")
"""Where Inseq's calls may have options instead of among the others."""

GENERATION_WITHOUT_EFFECT = ("skip_special_tokens", "output_generated_only", "return_dict_in_generate", "use_cache")
"""Options of generations that change nothing here: ids are kept as they are, and nothing else comes back."""

CONTRASTIVE = ("contrast_", "pcxmi", "kl_divergence", "in_context_pvi")
"""How the names of step functions begin that have foils."""


def method_of(name: str) -> Method:
    """The method of that name of Inseq's, or of ours; one of ours does nothing unasked."""
    if name in METHODS:
        return METHODS[name]
    ours = next((method for method in METHODS.values() if method.id == name), Method(name))
    return replace(ours, fixed={}, note="")


def options_of(name: str, given: Mapping[str, Any], path_of: Callable[[Any], str]) -> dict[str, Any]:
    """Options of a method in our words.

    Args:
        name: Of the method, Inseq's.
        given: As they were written, in Inseq's words or in ours.
        path_of: From a ``target_layer`` to the dotted path of its module.

    Raises:
        CallerError: An option that cannot be had here.
    """
    method = method_of(name)
    found: dict[str, Any] = {}
    for option, value in given.items():
        allowed = method.only.get(option)
        if allowed is not None:
            if ANY not in allowed and value not in allowed:
                raise CallerError(
                    f"method {name!r}: {option}={value!r} cannot be had, only {', '.join(map(repr, allowed))}; "
                    f"{_instead(name, option)}"
                )
        elif option == "target_layer":
            found["sites"] = (f"{path_of(value)}.{'input' if given.get('attribute_to_layer_input') else 'output'}",)
        elif option == "attribute_to_layer_input" and method.is_of_a_layer:
            continue
        elif option in _INDICES:
            found |= _units(option, value)
        elif value is not None:
            found[method.renamed.get(option, option)] = _plain(option, value)
    return found


def with_options(function: str, given: Mapping[str, Any]) -> str:
    """A step function as text, with those of the options that it takes; text that has options stays as it is."""
    taken = {name: given[name] for name in STEP_FUNCTIONS.get(function, ()) if name in given}
    written = ", ".join(f"{name}={value!r}" for name, value in taken.items())
    return f"{function}({written})" if written else function


def generation_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a generation without those that change nothing. Raises ``CallerError`` for a search with beams."""
    found = {name: value for name, value in given.items() if name not in GENERATION_WITHOUT_EFFECT}
    if found.pop("num_beams", 1) != 1:
        raise CallerError("num_beams: no beams are searched here; generate elsewhere and say what came out")
    return found


def dotted(layer: Any) -> str:
    """A layer that is a dotted path. Raises ``CallerError`` for a module."""
    if isinstance(layer, str):
        return layer
    raise CallerError(
        f"target_layer is {type(layer).__name__}, which only a model of this process has: give its dotted path"
    )


def _plain(option: str, value: Any) -> Any:
    """A value as our constants have it."""
    if option == "sliding_window_shapes" or option == "strides":
        return _window(value)
    return tuple(value) if isinstance(value, list) else value


def _window(value: Any) -> int:
    """The number of positions; the width of a window is always that of the vectors."""
    first = value[0] if isinstance(value, (tuple, list)) else value
    return _window(first) if isinstance(first, (tuple, list)) else int(first)


def _units(option: str, value: Any) -> dict[str, Any]:
    """Heads of value zeroing: one, a span, a list, or a dictionary by layer."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return {option: _heads(value)}
    pairs = [(int(layer), head) for layer, heads in value.items() for head in _heads(heads)]
    return {
        option: tuple(head for _, head in pairs),
        option.replace("_indices", "_layers"): tuple(layer for layer, _ in pairs),
    }


def _heads(value: Any) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,)
    if isinstance(value, tuple) and len(value) == 2:
        return tuple(range(*value))
    return tuple(value)


def _instead(name: str, option: str) -> str:
    if name == "deeplift" and option == "multiply_by_inputs":
        return "gradients by themselves are method='saliency' with abs=False"
    if option == "return_convergence_delta":
        return "integrated_gradients tells how far it is from adding up"
    return "leave it out"
