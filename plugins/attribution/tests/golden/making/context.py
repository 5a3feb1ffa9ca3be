"""Context attribution (PECoRe): which tokens depend on a context, and on which of its tokens."""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping

from inseq.commands.attribute_context.attribute_context import attribute_context_with_model
from inseq.commands.attribute_context.attribute_context_args import AttributeContextArgs

from making import oracle
from making.inputs import GPT2, LLAMA, STORIES, T5
from making.oracle import Method
from making.records import Document

QUIET = {"show_viz": False, "add_output_info": False, "attribution_method": "saliency"}

_STORY = {"input_context_text": "Tom was sad.", "input_current_text": "He wanted to"}
_SAID = {**_STORY, "output_current_text": "play with his toys"}
_BOTH = {
    **_STORY,
    "output_context_text": "play with his toys.",
    "output_current_text": "He was happy",
    "output_template": "{context} {current}",
}
_SIDES = {"input_context_text": "The cat and the teacher", "input_current_text": "The nurse was tired"}
_TWO_SIDED = {
    **_SIDES,
    "output_context_text": "The Thememe",
    "output_current_text": "the mat and job",
    "output_template": "{context} {current}",
}

# all tokens count as dependent, the first two are looked into
_TWO = {"context_sensitivity_std_threshold": -10.0, "context_sensitivity_topk": 2}
# the space belongs to the word: without it the text is spelled otherwise alone than after a prompt
_SPACED = {
    "input_context_text": "The cat",
    "input_current_text": "The nurse was",
    "output_current_text": " on the mat",
    "decoder_input_output_separator": "",
}
_PLAIN = {"input_context_text": "The cat", "input_current_text": "The nurse was", "output_current_text": "on the mat"}

ASKED: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "default": (STORIES, _SAID),
    "pcxmi": (STORIES, {**_SAID, "context_sensitivity_metric": "pcxmi"}),
    "top-2": (STORIES, {**_SAID, **_TWO}),
    "gradient": (
        STORIES,
        {**_SAID, **_TWO, "attribution_method": "input_x_gradient", "attribution_aggregators": ["sum"]},
    ),
    "contrastive": (STORIES, {**_SAID, **_TWO, "attributed_fn": "contrast_prob_diff"}),
    "kl-target": (STORIES, {**_SAID, **_TWO, "attributed_fn": "kl_divergence"}),
    "given-foil": (
        STORIES,
        {
            **_SAID,
            "attributed_fn": "contrast_logits_diff",
            **_TWO,
            "contextless_output_next_tokens": ["help", "go"],
        },
    ),
    "template": (STORIES, {**_SAID, "input_template": "Once, {context} Then {current}"}),
    "generated": (STORIES, {**_STORY, "generation_kwargs": {"max_new_tokens": 6, "do_sample": False}}),
    "pre": (STORIES, {**_BOTH, **_TWO, "handle_output_context_strategy": "pre"}),
    "auto": (
        STORIES,
        {
            **_STORY,
            "output_template": "{context}. {current}",
            "handle_output_context_strategy": "auto",
            "generation_kwargs": {"max_new_tokens": 18, "do_sample": False},
        },
    ),
    "gpt2": (GPT2, {**_SPACED, **_TWO}),
    "gpt2-contrastive": (GPT2, {**_SPACED, **_TWO, "attributed_fn": "contrast_prob_diff"}),
    "gpt2-normalized": (GPT2, {**_SPACED, **_TWO, "normalize_attributions": True}),
    "gpt2-output-context": (
        GPT2,
        {
            **_SPACED,
            **_TWO,
            "output_context_text": " said that",
            "output_template": "{context}{current}",
            "handle_output_context_strategy": "pre",
        },
    ),
    "llama": (LLAMA, {**_PLAIN, **_TWO}),
    "two-sided": (T5, {**_TWO_SIDED, "handle_output_context_strategy": "pre"}),
    "two-sided-contrastive": (
        T5,
        {**_TWO_SIDED, "handle_output_context_strategy": "pre", "attributed_fn": "contrast_prob_diff"},
    ),
    "two-sided-source-only": (T5, {**_SIDES, "output_current_text": "the mat and job"}),
}


def make() -> Iterator[Document]:
    """One document with all of them."""
    made = Document("context")
    for label, (name, asked) in ASKED.items():
        case = {"id": label, "model": name, "arguments": {**QUIET, **asked}}
        try:
            made.cases.append({**case, "output": _answered(name, asked)})
        except (ValueError, RuntimeError, IndexError, AssertionError) as error:
            made.cases.append({**case, "raises": f"{type(error).__name__}: {str(error)[:120]}"})
    yield made


def _answered(name: str, asked: Mapping[str, object]) -> dict[str, object]:
    arguments = AttributeContextArgs(model_name_or_path=name, **{**QUIET, **json.loads(json.dumps(asked))})
    loaded = oracle.load(name, Method(str(arguments.attribution_method)))
    oracle.seed()
    # it would ask at the terminal where it is in doubt
    with contextlib.redirect_stdout(io.StringIO()):
        return attribute_context_with_model(arguments, loaded).to_dict()
