"""The matrix: every method on every target, as Inseq answers."""

from collections.abc import Mapping

import numpy as np
import tiny
from inseq.data import FeatureAttributionOutput, FeatureAttributionSequenceOutput
from inseq.models import HuggingfaceModel

from making import expanded, inputs, oracle, plan
from making.oracle import Method, Target
from making.records import Records

NORMALISED = [["vnorm", {"normalize": True}]]
SUMMED = [["sum", {"normalize": False}]]
# heads first, then layers
REDUCED = (
    ("mean", [["mean", {"normalize": False}], ["mean", {"normalize": True}]]),
    ("max-sum", [["max", {"normalize": False}], ["sum", {"normalize": False}]]),
    (
        "head1-layer2",
        [["mean", {"select_idx": 1, "normalize": False}], ["mean", {"select_idx": 2, "normalize": False}]],
    ),
)


def arrays(found: FeatureAttributionSequenceOutput) -> dict[str, np.ndarray]:
    """The numbers of one sequence, by the names that the reader gives them back under."""
    named = {"source": found.source_attributions, "target": found.target_attributions}
    named |= {f"step.{name}": scores for name, scores in (found.step_scores or {}).items()}
    named |= {f"sequence.{name}": scores for name, scores in (found.sequence_scores or {}).items()}
    return {name: array.detach().float().numpy() for name, array in named.items() if array is not None}


def aggregated(found: FeatureAttributionOutput, pipeline: list[list[object]]) -> FeatureAttributionSequenceOutput:
    """The first sequence after a pipeline of functions with their options."""
    sequence = found.sequence_attributions[0]
    for function, options in pipeline:
        sequence = sequence.aggregate(function, do_post_aggregation_checks=False, **options)
    return sequence


def about(name: str, loaded: HuggingfaceModel) -> dict[str, object]:
    """The sequences as ids, and what stands for "nothing there"."""
    texts, is_two_sided = inputs.TEXTS[name], name in inputs.ENCODER_DECODER
    sides = {"source": (texts.source, False), "source_elsewhere": (texts.source_elsewhere, False)}
    sides |= {key: (getattr(texts, key), is_two_sided) for key in ("target", "foil", "short", "elsewhere")}
    sequences = {
        key: _spelled(loaded, text, as_targets=as_targets) for key, (text, as_targets) in sides.items() if text
    }
    return {
        "model": name,
        "is_encoder_decoder": is_two_sided,
        "sequences": sequences,
        "baseline_id": loaded.tokenizer.unk_token_id,
        "eos_id": loaded.eos_token_id,
        "seed": oracle.SEED,
    }


def _spelled(loaded: HuggingfaceModel, text: str, *, as_targets: bool) -> dict[str, object]:
    encoded = loaded.encode(text, as_targets=as_targets, return_baseline=True)
    parts = {"ids": encoded.input_ids, "baseline_ids": encoded.baseline_ids}
    return {"text": text, "tokens": encoded.input_tokens[0], **{key: part[0].tolist() for key, part in parts.items()}}


def make(name: str) -> Records:
    """The records of one model."""
    made = Records(name)
    made.about = about(name, oracle.load(name, plan.SALIENCY))
    for method, targets in (plan.tiny if name in tiny.NAMES else plan.real)(name):
        loaded = oracle.load(name, method)
        for target in targets:
            _add(made, loaded, method, target)
    _add_attention(made)
    return made


def case(made: Records, method: Method, target: Target, found: FeatureAttributionOutput | None = None) -> dict:
    """What the index says of a case, but for its aggregation."""
    asked = dict(target.call)
    if target.contrast:
        asked["contrast"] = target.contrast
    if found is not None and "contrast_targets_alignments" in found.info["attributed_fn_args"]:
        asked["alignments"] = found.info["attributed_fn_args"]["contrast_targets_alignments"][0]
    label = "+".join([method.id, *(f"{key}={value}" for key, value in method.arguments.items() if key in _TELLING)])
    return {
        "id": "/".join([label + "+target" * method.attribute_target, target.name]),
        "method": method.id,
        "arguments": method.arguments,
        "attribute_target": method.attribute_target,
        "target": target.id,
        "target_arguments": asked,
    }


_TELLING = ("abs", "method", "multiply_by_inputs", "target_layer", "sliding_window_shapes", "strides")


def _add(made: Records, loaded: HuggingfaceModel, method: Method, target: Target) -> None:
    extra: dict[str, np.ndarray] = {}
    told: dict[str, object] = {}
    try:
        with oracle.drawn_alphas() as drawn:
            found = oracle.attribute(loaded, made.name, method, target)
    except (ValueError, RuntimeError, IndexError, AssertionError, NotImplementedError) as error:
        made.add_refusal(case(made, method, target), error)
        if target.id not in expanded.FUNCTIONS or target.contrast != "foil" or target.call:
            return
        with oracle.drawn_alphas() as drawn:
            found = _with_expanded(loaded, made, method, target)
        told = {"expanded": True}
    if method.id == "gradient_shap":
        extra["alphas"] = np.stack(drawn)
    told = {**case(made, method, target, found), **told}
    _add_aggregations(made, told, found, extra)


def _with_expanded(loaded: HuggingfaceModel, made: Records, method: Method, target: Target) -> FeatureAttributionOutput:
    """The same contrast through a step function that minds no batch."""
    foils = dict(enumerate(made.about["sequences"]["foil"]["ids"]))
    asked = Target(expanded.PREFIX + target.id, {"foils": foils})
    return oracle.attribute(loaded, made.name, method, asked)


def _add_aggregations(
    made: Records, told: Mapping[str, object], found: FeatureAttributionOutput, extra: Mapping[str, np.ndarray]
) -> None:
    sequence = found.sequence_attributions[0]
    if found.info["attribution_method"] == "occlusion":
        made.add({**told, "aggregation": []}, {**arrays(sequence), **extra})
        return
    if told["target"] == "probability" and not told["target_arguments"] and _is_shown_raw(made, told):
        made.add({**told, "id": f"{told['id']}/raw", "aggregation": []}, {**arrays(sequence), **extra})
    for suffix, pipeline in (("l2", NORMALISED), ("sum", SUMMED)):
        scores = arrays(aggregated(found, pipeline))
        made.add({**told, "id": f"{told['id']}/{suffix}", "aggregation": pipeline}, {**scores, **extra})


def _is_shown_raw(made: Records, told: Mapping[str, object]) -> bool:
    """Whether the vectors themselves are written too: of tiny models, where a sum could hide something."""
    is_plain_saliency = told["method"] == "saliency" and not told["arguments"]
    is_shown = told["method"] in ("saliency", "integrated_gradients", "sequential_integrated_gradients", *_LONG)
    return made.name in tiny.NAMES and is_shown and not is_plain_saliency and "multiply_by_inputs" not in told["id"]


_LONG = ("discretized_integrated_gradients", "layer_gradient_x_activation")


def _add_attention(made: Records) -> None:
    for is_target in (False, True)[: 1 + (made.name in inputs.ENCODER_DECODER)]:
        method = Method("attention", attribute_target=is_target)
        found = oracle.attribute(oracle.load(made.name, method), made.name, method)
        told = case(made, method, Target())
        made.add({**told, "id": f"{told['id']}/raw", "aggregation": []}, arrays(found.sequence_attributions[0]))
        for suffix, pipeline in REDUCED[: 3 if made.name in tiny.NAMES else 2]:
            made.add(
                {**told, "id": f"{told['id']}/{suffix}", "aggregation": pipeline}, arrays(aggregated(found, pipeline))
            )
