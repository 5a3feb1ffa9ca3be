"""Value zeroing, which Inseq can do with transformers 4.53 only (recipe A)."""

from collections.abc import Iterator, Mapping

import tiny
from inseq.data import FeatureAttributionOutput

from making import inputs, oracle
from making.matrix import about, aggregated, arrays
from making.oracle import Method
from making.records import Records

DECODER_ONLY: Mapping[str, Mapping[str, object]] = {
    "cosine": {},
    "euclidean": {"similarity_metric": "euclidean"},
    "head-1": {"decoder_zeroed_units_indices": 1},
    "heads-0-to-2": {"decoder_zeroed_units_indices": (0, 2)},
    "heads-1-and-3": {"decoder_zeroed_units_indices": [1, 3]},
    "heads-by-layer": {"decoder_zeroed_units_indices": {0: [0, 1], 2: [3]}},
}
# values have as many heads as keys there are, and Inseq counts those
GROUPED: Mapping[str, Mapping[str, object]] = {
    "cosine": {},
    "euclidean": {"similarity_metric": "euclidean"},
    "head-1": {"decoder_zeroed_units_indices": 1},
    "heads-by-layer": {"decoder_zeroed_units_indices": {0: [0, 1], 2: [1]}},
}
TWO_SIDED: Mapping[str, Mapping[str, object]] = {
    "cosine": {},
    "euclidean": {"similarity_metric": "euclidean"},
    "cross-head-1": {"cross_zeroed_units_indices": 1, "encoder_zeroed_units_indices": [0, 2]},
    "cross-only": {"output_encoder_self_scores": False, "output_decoder_self_scores": False},
}
DEFAULT = [["mean", {"normalize": True}]]


def make() -> Iterator[Records]:
    """The records of every model, as far as Inseq knows its attention."""
    for name in inputs.MODELS:
        is_two_sided = name in inputs.ENCODER_DECODER
        made = Records(f"{name}.value-zeroing")
        made.about = about(name, oracle.load(name, Method("dummy")))
        variants = TWO_SIDED if is_two_sided else GROUPED if name == inputs.LLAMA else DECODER_ONLY
        if name not in tiny.NAMES:
            variants = dict(list(variants.items())[:2])
        for label, arguments in variants.items():
            _add(made, label, Method("value_zeroing", call=arguments))
        if is_two_sided:
            _add(made, "cosine+target", Method("value_zeroing", attribute_target=True))
        yield made


def _add(made: Records, label: str, method: Method) -> None:
    name = made.about["model"]
    told = {"method": method.id, "arguments": method.arguments, "attribute_target": method.attribute_target}
    told |= {"target": "probability", "target_arguments": {}}
    try:
        found: FeatureAttributionOutput = oracle.attribute(oracle.load(name, method), name, method)
    except (ValueError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        made.add_refusal({"id": label, **told}, error)
        return
    made.add({"id": f"{label}/raw", **told, "aggregation": []}, arrays(found[0]))
    made.add({"id": f"{label}/mean", **told, "aggregation": DEFAULT}, arrays(aggregated(found, DEFAULT)))
