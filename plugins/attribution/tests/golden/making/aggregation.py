"""Aggregators on the numbers of one call: what goes in is a case of its own, what comes out has its tokens with it."""

from collections.abc import Iterator

import tiny
from inseq.data import FeatureAttributionOutput, FeatureAttributionSequenceOutput

from making import inputs, oracle
from making.matrix import about, arrays
from making.oracle import Method, Target
from making.records import Records

BASE = "saliency-signed"
OTHER = "saliency-signed-elsewhere"
HEADS = "attention"
Step = tuple[str, dict[str, object]]
RAW = {"normalize": False}

FUNCTIONS = ("mean", "max", "min", "sum", "prod", "absmax", "vnorm")
SPANS = {
    "tiny-gpt2": {"target_spans": [(1, 3), (5, 7), (8, 10)]},
    "tiny-llama": {"target_spans": [(2, 4), (6, 8)]},
    "tiny-t5": {"source_spans": [(1, 3), (5, 8)], "target_spans": [(1, 3), (3, 5)]},
}
WORD_STARTS = {"tiny-gpt2": ("Ġ", "Ċ"), "tiny-llama": "▁", "tiny-t5": "▁"}


def make() -> list[Records]:
    """The aggregated numbers of the tiny models."""
    return [_of(name) for name in tiny.NAMES]


def _of(name: str) -> Records:
    made = Records(f"{name}.aggregation")
    method = Method("saliency", call={"abs": False}, attribute_target=name in inputs.ENCODER_DECODER)
    loaded = oracle.load(name, method)
    made.about = about(name, loaded)
    scores = {"step_scores": ["probability", "entropy", "logit"]}
    base = oracle.attribute(loaded, name, method, Target("logit"), **scores)
    _add(made, BASE, base[0], [])
    for label, steps in _pipelines(name):
        _add(made, label, _applied(base, steps), steps, BASE)
    _add_pairs(made, name, base, loaded, method, scores)
    _add_weighted(made, base)
    heads = Method("attention", attribute_target=method.attribute_target)
    attention = oracle.attribute(oracle.load(name, heads), name, heads)
    _add(made, HEADS, attention[0], [])
    for label, steps in _head_pipelines():
        _add(made, label, _applied(attention, steps), steps, HEADS)
    return made


def _applied(found: FeatureAttributionOutput, steps: list[Step]) -> FeatureAttributionSequenceOutput:
    sequence = found.sequence_attributions[0]
    for aggregator, options in steps:
        sequence = sequence.aggregate(aggregator, do_post_aggregation_checks=False, **options)
    return sequence


def _pipelines(name: str) -> Iterator[tuple[str, list[Step]]]:
    for function in FUNCTIONS:
        yield f"scores-{function}", [("scores", {"aggregate_fn": function, **RAW})]
    yield "scores-vnorm-1", [("scores", {"aggregate_fn": "vnorm", "vnorm_ord": 1, **RAW})]
    yield "scores-vnorm-normalize", [("scores", {"aggregate_fn": "vnorm", "normalize": True})]
    yield "scores-sum-normalize", [("scores", {"aggregate_fn": "sum", "normalize": True})]
    yield "scores-sum-rescale", [("scores", {"aggregate_fn": "sum", "normalize": False, "rescale": True})]
    for label, index in (("int", 3), ("span", (2, 6)), ("list", [0, 5, 9])):
        yield f"scores-select-{label}", [("scores", {"aggregate_fn": "sum", "select_idx": index, **RAW})]
    summed: Step = ("scores", {"aggregate_fn": "sum", **RAW})
    words: Step = ("subwords", {"special_chars": WORD_STARTS[name]})
    yield "scores-subwords", [summed, words]
    yield "subwords-scores", [words, ("scores", {"aggregate_fn": "vnorm", "normalize": True})]
    yield "scores-subwords-mean", [summed, ("subwords", {**words[1], "aggregate_fn": "mean"})]
    yield "scores-subwords-of-target", [summed, ("subwords", {**words[1], "aggregate_source": False})]
    yield "scores-spans", [summed, ("spans", SPANS[name])]
    yield "scores-spans-sum", [summed, ("spans", {**SPANS[name], "aggregate_fn": "sum"})]
    for mode in ("single", "start", "end"):
        yield f"scores-split-{mode}", [summed, ("split", {"split_pattern": "[Ġ▁](on|and|The)", "split_mode": mode})]
    kept = {key: spans[:1] for key, spans in SPANS[name].items()}
    yield "scores-slices", [summed, ("slices", kept)]


def _head_pipelines() -> Iterator[tuple[str, list[Step]]]:
    yield "heads-mean-mean", [("scores", {"aggregate_fn": "mean"}), ("scores", {"aggregate_fn": "mean"})]
    one, two = {"select_idx": 2, **RAW}, {"select_idx": (0, 2), **RAW}
    yield "heads-2-layers-mean", [("mean", one), ("mean", {"normalize": True})]
    yield "heads-span-layer-1", [("max", two), ("mean", {"select_idx": 1, **RAW})]
    yield "heads-list-layers-max", [("sum", {"select_idx": [1, 3], **RAW}), ("max", RAW)]


def _add_pairs(
    made: Records, name: str, base: FeatureAttributionOutput, loaded: object, method: Method, scores: dict
) -> None:
    """The same continuation after another prompt of the same length, and the difference to the first."""
    texts = inputs.TEXTS[name]
    source = texts.source.replace("nurse", "cat")
    target = texts.target if method.attribute_target else texts.elsewhere
    oracle.seed()
    other = loaded.attribute(
        source,
        target,
        show_progress=False,
        attributed_fn="logit",
        attribute_target=method.attribute_target,
        attribution_args=dict(method.call),
        generation_args={},
        **scores,
    )
    _add(made, OTHER, other[0], [])
    summed = [("scores", {"aggregate_fn": "sum", **RAW})]
    first, second = _applied(base, summed), _applied(other, summed)
    _add(made, "pair-raw", base[0] - other[0], [("pair", {"paired": OTHER})], BASE)
    paired = [*summed, ("pair", {"paired": f"{OTHER} after the same"})]
    _add(made, "scores-pair", first - second, paired, BASE)


def _add_weighted(made: Records, base: FeatureAttributionOutput) -> None:
    """``weight_attributions`` aggregates by default first (norm, then normalised); it works in place, so it is last."""
    weighted = base.sequence_attributions[0].weight_attributions("probability")
    steps = [("scores", {"aggregate_fn": "vnorm", "normalize": True}), ("weight", {"by": "probability"})]
    _add(made, "weighted-by-probability", weighted, steps, BASE)


def _add(
    made: Records, label: str, found: FeatureAttributionSequenceOutput, steps: list[Step], of: str | None = None
) -> None:
    case = {
        "id": label,
        "of": of,
        "pipeline": steps,
        "source_tokens": [token.token for token in found.source],
        "target_tokens": [token.token for token in found.target],
        "attr_pos": [found.attr_pos_start, found.attr_pos_end],
    }
    made.add(case, arrays(found))
