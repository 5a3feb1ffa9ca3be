"""What Inseq 0.7.1 makes of random results: its own files, and what each aggregation gives.

    python make.py [FOLDER]      in an environment with inseq==0.7.1; writes three files

``kinds.json`` is a file of Inseq's ``save`` for each kind of result. ``aggregated.json`` has for each kind and each
call of ``aggregate`` the tokens, positions and numbers that came out; floats have eight digits, NaN is null.
``steps.json`` is a file with step attributions, which Inseq itself cannot load.
"""

import json
import math
import sys
import tempfile
from copy import deepcopy
from pathlib import Path

import torch
from inseq.data.aggregation_functions import DEFAULT_ATTRIBUTION_AGGREGATE_DICT
from inseq.data.attribution import (
    CoarseFeatureAttributionSequenceOutput,
    FeatureAttributionOutput,
    GranularFeatureAttributionSequenceOutput,
    GranularFeatureAttributionStepOutput,
    MultiDimensionalFeatureAttributionSequenceOutput,
    merge_attributions,
)
from inseq.utils.typing import TokenWithId

PRISTINE = deepcopy(DEFAULT_ATTRIBUTION_AGGREGATE_DICT)
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
STEP_SCORES = ("probability", "entropy", "crossentropy", "perplexity", "contrast_prob", "contrast_prob_diff", "pcxmi")
STEP_SCORES += ("kl_divergence", "mc_dropout_prob_avg", "deltas", "logit")
SOURCE = ("▁the", "▁cat", "s", "▁sat", ".", "</s>")
TARGET = ("<pad>", "▁die", "▁Katz", "e", "n", "▁saß", "en", "</s>")
PROMPT = ("The", "Ġca", "ts", "Ġon", "Ċ", "the")
CONTINUATION = ("Ġmat", "s", "Ġs", "at", "Ġdown")
INFO = {
    "attribution_method": "random",
    "attributed_fn": "probability_fn",
    "attributed_fn_args": {},
    "attribution_args": {},
    "attr_pos_start": 1,
    "attr_pos_end": 8,
    "attribute_target": True,
    "constrained_decoding": True,
    "exec_time": 0.5,
    "generate_from_target_prefix": False,
    "generated_texts": ["die Katzen saßen"],
    "generation_args": {"max_new_tokens": 3},
    "include_eos_baseline": False,
    "input_texts": ["the cats sat."],
    "model_class": "Random",
    "model_name": "random",
    "output_step_attributions": False,
    "step_scores": [],
    "step_scores_args": {},
    "tokenizer_class": "None",
    "tokenizer_name": None,
}
DIMS = {
    GranularFeatureAttributionSequenceOutput: (3,),
    CoarseFeatureAttributionSequenceOutput: (),
    MultiDimensionalFeatureAttributionSequenceOutput: (2, 3),
}


def tokens(texts):
    return [TokenWithId(text, 10 + number) for number, text in enumerate(texts)]


def causal(rows, start, dims):
    """Random scores; what comes after the token that it would explain is NaN."""
    scores = torch.randn(rows, rows - start, *dims)
    for column in range(rows - start):
        scores[start + column :, column] = math.nan
    return scores


def result(cls, dims, *, is_decoder_only, with_target=True, seed=0):
    torch.manual_seed(seed)
    # Inseq's classes write their defaults into it, for all others that come after them
    DEFAULT_ATTRIBUTION_AGGREGATE_DICT.clear()
    DEFAULT_ATTRIBUTION_AGGREGATE_DICT.update(deepcopy(PRISTINE))
    source, target = (PROMPT, PROMPT + CONTINUATION) if is_decoder_only else (SOURCE, TARGET)
    start = len(PROMPT) if is_decoder_only else 1
    n_generated = len(target) - start
    extra = {"_num_dimensions": len(dims)} if cls is MultiDimensionalFeatureAttributionSequenceOutput else {}
    sequence_scores = {}
    if len(dims) == 2 and not is_decoder_only:
        sequence_scores = {
            "encoder_self_attentions": torch.rand(len(source), len(source), *dims),
            "decoder_self_attentions": torch.rand(n_generated, n_generated, *dims),
        }
    return cls(
        source=tokens(source),
        target=tokens(target),
        source_attributions=None if is_decoder_only else torch.randn(len(source), n_generated, *dims),
        target_attributions=causal(len(target), start, dims) if with_target else None,
        step_scores={name: torch.rand(n_generated) for name in STEP_SCORES},
        sequence_scores=sequence_scores,
        attr_pos_start=start,
        attr_pos_end=len(target),
        **extra,
    )


def kinds():
    for cls, dims in DIMS.items():
        name = cls.__name__.removesuffix("FeatureAttributionSequenceOutput").lower()
        for is_decoder_only in (False, True):
            side = "decoder_only" if is_decoder_only else "encoder_decoder"
            yield f"{name}_{side}", result(cls, dims, is_decoder_only=is_decoder_only)
    yield (
        "multidimensional_one_axis",
        result(MultiDimensionalFeatureAttributionSequenceOutput, (4,), is_decoder_only=False),
    )
    yield (
        "granular_source_only",
        result(GranularFeatureAttributionSequenceOutput, (3,), is_decoder_only=False, with_target=False),
    )


def batch_of_steps(targets):
    """The output of one batch, joined from its steps by Inseq; finished sequences are padded."""
    longest = max(map(len, targets))
    padded = [tokens((*target, *["<pad>"] * (longest - len(target)))) for target in targets]
    sources = [tokens(SOURCE) for _ in targets]
    steps = [
        GranularFeatureAttributionStepOutput(
            source=sources,
            prefix=[target[:position] for target in padded],
            target=[[target[position]] for target in padded],
            source_attributions=torch.randn(len(targets), len(SOURCE), 2),
            target_attributions=torch.randn(len(targets), position, 2),
            step_scores={"probability": torch.rand(len(targets))},
        )
        for position in range(1, longest)
    ]
    joined = GranularFeatureAttributionSequenceOutput.from_step_attributions(deepcopy(steps), padded, pad_token="<pad>")
    info = {**INFO, "input_texts": ["the cats sat."] * len(targets), "generated_texts": ["die Katzen"] * len(targets)}
    return FeatureAttributionOutput(sequence_attributions=joined, step_attributions=steps, info=info)


def with_steps():
    torch.manual_seed(3)
    return merge_attributions([batch_of_steps([TARGET[:5], TARGET[:3]]), batch_of_steps([TARGET[:4]])])


def span(*numbers):
    """A tuple, which JSON would make a list of."""
    return {"tuple": list(numbers)}


ANY = [
    {},
    {"normalize": False},
    {"rescale": True, "normalize": False},
]
ONE_AXIS = [{"aggregator": name} for name in ("mean", "max", "min", "sum", "prod", "absmax", "vnorm")]
ONE_AXIS += [
    {"aggregator": "scores"},
    {"aggregator": "sum", "normalize": False},
    {"aggregator": "vnorm", "vnorm_ord": 1},
    {"aggregator": "vnorm", "vnorm_ord": 3, "normalize": False},
    {"aggregator": "mean", "rescale": True, "normalize": False},
    {"aggregator": "mean", "select_idx": 1},
    {"aggregator": "mean", "select_idx": -1},
    {"aggregator": "sum", "select_idx": span(0, 2), "normalize": False},
    {"aggregator": "sum", "select_idx": span(-2, -1), "normalize": False},
    {"aggregator": "absmax", "select_idx": [0, 2]},
    {"aggregator": "vnorm", "select_idx": [1]},
    {"aggregator": "scores", "aggregate_fn": "max"},
    {"aggregator": ["subwords", "scores"], "special_chars": "▁"},
    {"aggregator": ["sum", "spans"], "target_spans": [span(1, 3)], "normalize": False},
    {"aggregator": ["subwords", "scores"], "aggregate_fn": ["sum", "vnorm"], "special_chars": "▁"},
    {"aggregator": [span("subwords", "mean"), span("scores", "absmax")], "special_chars": "▁"},
]
TWO_AXES = [
    {"aggregator": ["mean", "mean"]},
    {"aggregator": ["max", "sum"]},
    {"aggregator": ["vnorm", "absmax"], "normalize": False},
    {"aggregator": ["mean", "mean"], "select_idx": 1},
    {"aggregator": ["sum", "max"], "select_idx": span(0, 2)},
    {"aggregator": "mean", "do_post_aggregation_checks": False},
    {"aggregator": "mean", "select_idx": 0, "do_post_aggregation_checks": False},
]
TOKENS = [
    {"aggregator": "spans", "target_spans": span(2, 5)},
    {"aggregator": "spans", "target_spans": [span(0, 2), span(2, 4), span(5, 7)]},
    {"aggregator": "spans", "aggregate_fn": "sum", "target_spans": [span(4, 8)]},
    {"aggregator": "spans", "aggregate_fn": "mean", "target_spans": [span(0, 3), span(6, 8)]},
    {"aggregator": "spans", "aggregate_fn": "vnorm", "target_spans": [span(3, 4)]},
    {"aggregator": "subwords", "special_chars": "▁"},
    {"aggregator": "subwords", "special_chars": "▁", "aggregate_fn": "sum", "aggregate_source": False},
    {"aggregator": "subwords", "special_chars": span("Ġ", "Ċ")},
    {"aggregator": "subwords", "special_chars": span("Ġ", "Ċ"), "aggregate_fn": "min", "aggregate_target": False},
    {"aggregator": "split", "split_pattern": "at|sa"},
    {"aggregator": "split", "split_pattern": "(?<=[a-z])t", "split_mode": "start", "aggregate_fn": "max"},
    {"aggregator": "split", "split_pattern": "s", "split_mode": "end", "aggregate_source": False},
]
SOURCE_SPANS = [
    {"aggregator": "spans", "source_spans": span(1, 3), "aggregate_fn": "prod"},
    {"aggregator": "spans", "source_spans": [span(0, 2), span(3, 6)], "target_spans": [span(2, 5)]},
]


def calls(kind, one):
    scores = one.source_attributions if one.source_attributions is not None else one.target_attributions
    found = list(TOKENS)
    if scores.ndim > 2:
        found += ANY
    if scores.ndim == 3:
        found += ONE_AXIS
    if scores.ndim == 4:
        found += TWO_AXES
    if one.source_attributions is not None:
        found += SOURCE_SPANS
    return found


def untagged(value):
    if isinstance(value, dict) and set(value) == {"tuple"}:
        return tuple(untagged(item) for item in value["tuple"])
    if isinstance(value, dict):
        return {key: untagged(item) for key, item in value.items()}
    return [untagged(item) for item in value] if isinstance(value, list) else value


def numbers(tensor):
    if tensor is None:
        return None
    flat = [None if math.isnan(value) else float(f"{value:.8g}") for value in tensor.flatten().tolist()]
    return {"shape": list(tensor.shape), "values": flat}


def written(one):
    return {
        "source": [token.token for token in one.source],
        "target": [token.token for token in one.target],
        "attr_pos_start": one.attr_pos_start,
        "attr_pos_end": one.attr_pos_end,
        "source_attributions": numbers(one.source_attributions),
        "target_attributions": numbers(one.target_attributions),
        "step_scores": {name: numbers(values) for name, values in one.step_scores.items()},
        "sequence_scores": {name: numbers(values) for name, values in one.sequence_scores.items()},
    }


def short(parts, before):
    """Without what did not change."""
    return {key: value for key, value in parts.items() if value != before[key]}


def main():
    aggregated = []
    saved = {}
    for name, one in kinds():
        before = written(one)
        output = FeatureAttributionOutput(sequence_attributions=[one], info=dict(INFO))
        with tempfile.TemporaryDirectory() as folder:
            output.save(Path(folder) / "one.json")
            saved[name] = json.loads((Path(folder) / "one.json").read_text())
        for options in calls(name, one):
            given = untagged(options)
            if is_ours_to_differ(one, given):
                continue
            found = written(deepcopy(one).aggregate(**given))
            aggregated.append({"kind": name, "options": options, "expected": short(found, before)})
        other = result(type(one), tuple(one_dims(one)), is_decoder_only=one.source_attributions is None, seed=1)
        if name.endswith(("encoder_decoder", "decoder_only")):
            other.target[-2].token = "other"
            aggregated.append({"kind": name, "pair": written(other), "expected": short(written(one - other), before)})
            sliced = deepcopy(one)[1:4]
            aggregated.append({"kind": name, "slice": [1, 4], "expected": short(written(sliced), before)})
            weighted = deepcopy(one).weight_attributions("probability")
            aggregated.append({"kind": name, "weight": "probability", "expected": short(written(weighted), before)})
            dicts = deepcopy(one).get_scores_dicts()
            aggregated.append({"kind": name, "dicts": {key: pairs(value) for key, value in dicts.items()}})
    both = merge_attributions(
        [FeatureAttributionOutput(sequence_attributions=[one], info=dict(INFO)) for _, one in list(kinds())[:2]]
    )
    assert len(both) == 2
    with tempfile.TemporaryDirectory() as folder:
        with_steps().save(Path(folder) / "one.json")
        steps = json.loads((Path(folder) / "one.json").read_text())
    (FOLDER / "steps.json").write_text(dumped(steps))
    (FOLDER / "kinds.json").write_text(dumped(saved))
    (FOLDER / "aggregated.json").write_text(dumped({"merged_info": both.info, "cases": aggregated}))


def one_dims(one):
    scores = one.source_attributions if one.source_attributions is not None else one.target_attributions
    return scores.shape[2:]


def is_ours_to_differ(one, options):
    """Cells where Inseq is wrong or stops with an error; our own tests say what is right there."""
    chain = options.get("aggregator")
    # a source of a decoder-only model is a part of its target, which Inseq forgets; spans of it have no effect
    return chain == "subwords" and one.source_attributions is None and not options.get("aggregate_target", True)


def pairs(table):
    return [
        [list(key), [[k if isinstance(k, str) else list(k), float(f"{v:.8g}")] for k, v in row.items()]]
        for key, row in table.items()
    ]


def dumped(value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("NaN", "null")
    return text.replace('{"kind"', '\n{"kind"') + "\n"


main()
