"""Step functions as scores, positions, batches and texts that the model makes itself."""

from collections.abc import Iterator, Mapping

import tiny
from inseq.data import FeatureAttributionOutput
from inseq.models import HuggingfaceModel

from making import inputs, oracle
from making.matrix import about, arrays
from making.oracle import Method, Target
from making.records import Records

CONTRASTIVE = (
    "contrast_logits",
    "contrast_prob",
    "contrast_logits_diff",
    "contrast_prob_diff",
    "pcxmi",
    "kl_divergence",
    "in_context_pvi",
)
PLAIN = ("logit", "probability", "entropy")

# calls of their own: arguments of several scores of one call must not share a name with another meaning
ASKED: tuple[tuple[str, tuple[str, ...], Mapping[str, object], str | None], ...] = (
    ("plain", PLAIN, {}, None),
    ("logprob", ("probability",), {"logprob": True}, None),
    ("top-p-0.5", ("top_p_size",), {"top_p": 0.5}, None),
    ("top-p-0.9", ("top_p_size",), {"top_p": 0.9}, None),
    ("foil", CONTRASTIVE, {}, "foil"),
    ("foil-logprob", ("contrast_prob", "contrast_prob_diff"), {"logprob": True}, "foil"),
    ("short", CONTRASTIVE, {}, "short"),
    ("elsewhere", CONTRASTIVE, {}, "elsewhere"),
    ("kl-top-k", ("kl_divergence",), {"top_k": 5}, "elsewhere"),
    ("kl-top-p", ("kl_divergence",), {"top_p": 0.9}, "elsewhere"),
    ("crossentropy", ("crossentropy",), {}, None),
    ("perplexity", ("perplexity",), {}, None),
)

DUMMY = Method("dummy")


def make() -> list[Records]:
    """The step scores of every model."""
    return [_of(name) for name in inputs.MODELS]


def _of(name: str) -> Records:
    made = Records(f"{name}.scores")
    loaded = oracle.load(name, DUMMY)
    made.about = about(name, loaded)
    for label, scores, options, contrast in ASKED:
        case = {"id": label, "scores": scores, "arguments": dict(options), "contrast": contrast}
        asked = {**options, **oracle.contrast_arguments(name, contrast)}
        try:
            found = oracle.attribute(loaded, name, DUMMY, step_scores=list(scores), **asked)
        except (ValueError, RuntimeError, IndexError) as error:
            made.add_refusal(case, error)
            continue
        made.add({**case, **_alignments(found.info["step_scores_args"])}, arrays(found[0]))
    if name in tiny.NAMES:
        _add_positions(made, name)
        _add_aligned(made, name, loaded)
        _add_baselines(made, name)
    if name in inputs.ENCODER_DECODER:
        _add_two_texts(made, name, loaded)
    if name in (inputs.GPT2, inputs.LETTERS):
        _add_free(made, name)
    return made


def _alignments(arguments: Mapping[str, object]) -> dict[str, object]:
    pairs = arguments.get("contrast_targets_alignments")
    return {"alignments": pairs[0]} if pairs else {}


def _add_positions(made: Records, name: str) -> None:
    """Attribution of a part of the continuation only."""
    method = Method("saliency", call={"abs": False}, attribute_target=name in inputs.ENCODER_DECODER)
    loaded = oracle.load(name, method)
    first = 2 if method.attribute_target else 7
    for label, start, end in (("part", first, first + 2), ("from", first, None), ("until", None, first + 2)):
        found = oracle.attribute(loaded, name, method, Target(), attr_pos_start=start, attr_pos_end=end)[0]
        case = {
            "id": f"positions-{label}",
            "asked": [start, end],
            "reported": [found.attr_pos_start, found.attr_pos_end],
        }
        # summed here: Inseq's own aggregation refuses what ends before the sequence does
        made.add(case, {side: scores.sum(-1) for side, scores in arrays(found).items()})


def _add_two_texts(made: Records, name: str, loaded: HuggingfaceModel) -> None:
    """Two texts of one length in one batch, the only place where cross-entropy and perplexity do answer."""
    texts = inputs.TEXTS[name]
    oracle.seed()
    scores = ["crossentropy", "perplexity", "probability"]
    asked = {"step_scores": scores, "show_progress": False, "generation_args": {}}
    found = loaded.attribute([texts.source, texts.source], [texts.target, texts.foil], **asked)
    for index, sequence in enumerate(found.sequence_attributions):
        made.add({"id": f"batch-{index}", "scores": scores, "of": ("target", "foil")[index]}, arrays(sequence))


def _add_aligned(made: Records, name: str, loaded: HuggingfaceModel) -> None:
    """Alignments that are given, all of them or only the first: then the rest is filled from the right."""
    start, sequences = _start(made), made.about["sequences"]
    last = len(sequences["short"]["ids"]) - 1
    pairs = [(position, min(position, last)) for position in range(start, len(sequences["target"]["ids"]))]
    for label, given in (("aligned", pairs), ("aligned-first", pairs[:1])):
        asked = {"contrast_targets": inputs.TEXTS[name].short, "contrast_targets_alignments": given}
        found = oracle.attribute(loaded, name, DUMMY, step_scores=list(CONTRASTIVE), **asked)
        told = {"id": label, "scores": CONTRASTIVE, "arguments": {"given": given}, "contrast": "short"}
        made.add({**told, **_alignments(found.info["step_scores_args"])}, arrays(found[0]))


def _add_baselines(made: Records, name: str) -> None:
    """The baseline with and without a token instead of EOS; the second differs where there is one."""
    method = Method("integrated_gradients", call={"n_steps": 10}, attribute_target=name in inputs.ENCODER_DECODER)
    loaded = oracle.load(name, method)
    for is_included in (False, True):
        found = oracle.attribute(loaded, name, method, Target("logit"), include_eos_baseline=is_included)
        scores = found[0].aggregate("sum", normalize=False)
        made.add({"id": f"eos-baseline-{is_included}", "include_eos_baseline": is_included}, arrays(scores))


def _start(made: Records) -> int:
    return 1 if made.about["is_encoder_decoder"] else len(made.about["sequences"]["source"]["ids"])


def _free(loaded: HuggingfaceModel, name: str) -> Iterator[tuple[str, FeatureAttributionOutput]]:
    source = inputs.TEXTS[name].source
    options = {"show_progress": False, "attribute_target": name == inputs.LETTERS, "attribution_args": {"abs": False}}
    new = {"max_new_tokens": 8, "do_sample": False}
    yield "free", loaded.attribute(source, generation_args=dict(new), **options)
    if name == inputs.LETTERS:
        continued = {"generate_from_target_prefix": True, "generation_args": dict(new)}
        yield "continued", loaded.attribute(source, "mo", **continued, **options)


def _add_free(made: Records, name: str) -> None:
    """What the model generates by itself, and after a given prefix: texts that are spelled back as they were."""
    loaded = oracle.load(name, Method("saliency"))
    for label, found in _free(loaded, name):
        scores = found[0].aggregate("vnorm", normalize=False)
        ids = [token.id for token in scores.target]
        text = found.info["generated_texts"][0]
        made.add({"id": label, "target_ids": ids, "generated": text}, arrays(scores))
