"""What is compared: exact token ids, the places of the contexts, and what is generated."""

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_attribution.pecore import ContextArguments, attribute_context
from interpd_attribution.pecore.pieces import part_of, pieces_of
from interpd_attribution.pecore.sequences import compared

STORY = {"input_context_text": "The cat", "input_current_text": "The nurse was"}
SAID = {**STORY, "output_current_text": "on the mat"}


def spelled(words, text, specials=()):
    """Tokens of a text that is cut where ``words`` say."""
    offsets, at = [], 0
    for word in words:
        offsets.append((0, 0) if word in specials else (at, at + len(word)))
        at += 0 if word in specials else len(word)
    return Tokens(tuple(range(len(words))), tuple(words), tuple(offsets), text)


def test_a_part_has_the_tokens_of_its_characters_and_the_blanks_before_it():
    text = "a b  cd e"
    pieces = pieces_of(spelled(["<s>", "a", " b", " ", " c", "d", " e"], text, specials=["<s>"]))
    part = part_of(pieces, text, (5, 7))
    assert part.positions == (3, 4, 5)
    assert part.tokens == (" ", " c", "d")
    assert part_of(pieces, text, (0, 1)).positions == (1,)
    assert part_of(pieces, text, (5, 5)).positions == ()


def test_halves_of_a_character_are_both_in_its_part():
    tokens = Tokens((0, 1, 2), ("a", "\ufffd", "\ufffd"), ((0, 1), (1, 2), (1, 2)), "aé")
    part = part_of(pieces_of(tokens), "aé", (1, 2))
    assert (part.positions, part.tokens) == ((1, 2), ("\ufffd", "\ufffd"))


def test_the_output_is_the_same_tokens_with_and_without_the_context(served):
    for name in ("tiny-gpt2", "tiny-llama"):
        both = compared(served(name), ContextArguments(**SAID))
        within, without = both.contextual, both.contextless
        assert within.target[within.start :] == without.target[without.start :]
        model = served(name)
        assert within.target == model.tokenize("The cat The nurse was on the mat").ids
        assert without.target == model.tokenize("The nurse was on the mat").ids
        assert [within.target[place] for place in both.input_context.positions] == list(
            model.tokenize("The cat").ids[-len(both.input_context.positions) :]
        )


def test_what_is_generated_stays_the_very_tokens(served):
    model = served("tiny-gpt2")
    asked = ContextArguments(**STORY, generation_kwargs={"max_new_tokens": 5, "do_sample": True, "seed": 3})
    both = compared(model, asked)
    result = model.generate("The cat The nurse was", max_new_tokens=5, do_sample=True, seed=3).run()
    assert both.contextual.target[both.contextual.start :] == result.token_ids
    assert both.contextless.target[both.contextless.start :] == result.token_ids
    assert both.output_current_text == result.text.strip()
    assert both.text == "The cat The nurse was" + result.text


def test_both_sides_of_an_encoder_decoder_model(served):
    model = served("tiny-t5")
    asked = ContextArguments(
        input_context_text="The cat",
        input_current_text="The nurse",
        output_context_text="The job",
        output_current_text="the mat",
    )
    both = compared(model, asked)
    tokens = model.tokenize("The cat The nurse", target="The job the mat")
    assert (both.contextual.source, both.contextual.target) == (tokens.ids, tokens.target.ids)
    # position 0 of the decoder is its start token
    assert both.output_context.positions[0] == 1
    assert both.contextless.source == model.tokenize("The nurse").ids
    assert both.contextless.start == 1


def test_generation_behind_an_output_context_begins_with_it(served):
    model = served("tiny-t5")
    asked = ContextArguments(
        input_current_text="The nurse",
        output_context_text="The job",
        contextless_input_current_text="The cat",
        generation_kwargs={"max_new_tokens": 3, "do_sample": True, "seed": 1},
    )
    both = compared(model, asked)
    assert both.contextual.target[: both.contextual.start] == model.tokenize("The nurse", target="The job").target.ids
    assert both.contextless.source == model.tokenize("The cat").ids
    assert both.contextless.target[:1] == both.contextual.target[:1]


def test_what_a_decoder_only_model_thought_before_is_a_context(served):
    asked = {
        "input_current_text": "The nurse was",
        "output_context_text": "the job",
        "output_current_text": "on the mat",
    }
    model = served("tiny-gpt2")
    both = compared(model, ContextArguments(**asked))
    assert both.input_context is None
    assert both.contextual.target == model.tokenize("The nurse was the job on the mat").ids
    assert both.contextless.target == model.tokenize("The nurse was on the mat").ids
    assert both.output_context.tokens == (" the", " job")
    (one, *_) = attribute_context(model, **asked, context_sensitivity_topk=1).cci_scores
    assert one.input_context_scores is None
    assert len(one.output_context_scores) == 2


def test_special_tokens_are_written_out_or_added(served):
    asked = {**SAID, "input_template": "<s>{context} {current}", "context_sensitivity_topk": 1}
    twice = attribute_context(served("tiny-llama"), **asked)
    assert twice.info["sequences"]["contextual"]["target"][:2] == [2, 2]
    assert "twice" in twice.info["warnings"][0]
    once = attribute_context(served("tiny-llama"), **asked, add_special_tokens=False)
    assert once.info["sequences"]["contextual"]["target"][:2] == [2, 56]
    assert once.info["warnings"] == []


class Someone:
    """Answers what it is asked."""

    def __init__(self, context="", token=""):
        self.context, self.token, self.asked = context, token, []

    def output_context(self, output, candidate):
        self.asked.append((output, candidate))
        return self.context

    def next_token(self, before, token):
        self.asked.append((before, token))
        return self.token


SPLIT = {**STORY, "output_template": "{context} {current}", "generation_kwargs": {"max_new_tokens": 8}}


def test_where_a_generated_context_ends_somebody_is_asked(served):
    model = served("tiny-gpt2")
    with pytest.raises(CallerError, match="nobody to ask"):
        compared(model, ContextArguments(**SPLIT))
    said = model.tokenize(model.generate("The cat The nurse was", max_new_tokens=8).run().token_ids).strings
    someone = Someone("".join(said[:2]).strip())
    both = compared(model, ContextArguments(**SPLIT), someone)
    ((output, _),) = someone.asked
    assert both.output_context_text == someone.context
    assert output.endswith(both.output_current_text)
    places = (*both.output_context.positions, *both.current.positions)
    assert sorted(set(places)) == sorted(places)
    inside = someone.context + said[2].strip()[:-1]
    with pytest.raises(CallerError, match="inside of a token"):
        compared(model, ContextArguments(**SPLIT), Someone(inside))


def test_an_output_that_is_not_two_texts_is_refused_where_nobody_is_asked(served):
    asked = ContextArguments(**SPLIT, handle_output_context_strategy="auto")
    with pytest.raises(CallerError, match="where does the context end"):
        compared(served("tiny-gpt2"), asked)


def test_an_answer_that_is_no_beginning_is_refused(served):
    with pytest.raises(CallerError, match="does not begin with"):
        compared(served("tiny-gpt2"), ContextArguments(**SPLIT), Someone("zebra"))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"input_current_text": ""}, "is empty"),
        ({"input_context_text": None}, "there is no context"),
        ({"input_template": "{current}"}, "no place for {context}"),
        ({"input_context_text": None, "input_template": "{context} {current}"}, "give input_context_text"),
        ({"input_template": "{context}"}, "no place for {current}"),
        ({"input_template": "{current} {other}"}, "expected {current} and {context}"),
        ({"input_template": "{current} {current}"}, "2 times"),
        ({"input_template": "{current"}, "is no template"),
        ({"input_template": "{current!r}"}, "nothing else in it"),
        ({"output_context_text": "x", "output_template": "{current} {context}"}, "stands before"),
        ({"output_template": "{context} {current}", "handle_output_context_strategy": "pre"}, "is needed"),
        ({"handle_output_context_strategy": "guess"}, "expected one of"),
        ({"contextless_output_current_text": "x"}, "has no {current}"),
        ({"contextless_input_current_text": "{context}"}, "without one"),
        ({"context_sensitivity_metric": "probability"}, "two contexts"),
        ({"context_sensitivity_topk": 0}, "expected 1 or more"),
        ({"attribution_selectors": (1,)}, "one for each"),
        ({"contextless_output_next_tokens": ("a",)}, "contrasts nothing"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(wrong, why):
    with pytest.raises(CallerError, match=why):
        ContextArguments(**{**SAID, **wrong})


def test_what_is_generated_needs_a_bound(served):
    with pytest.raises(CallerError, match="max_new_tokens"):
        compared(served("tiny-gpt2"), ContextArguments(**STORY))


def test_an_output_that_begins_inside_of_a_token_is_refused(served):
    asked = ContextArguments(
        input_context_text="on t",
        input_current_text="wa",
        input_template="{current} {context}",
        output_current_text="he mat",
        decoder_input_output_separator="",
    )
    with pytest.raises(CallerError, match="inside of a token"):
        compared(served("tiny-gpt2"), asked)


def test_given_words_are_foils_without_special_tokens(served):
    """Inseq spells them with BOS, and contrasts with that."""
    model = served("tiny-llama")
    asked = {**SAID, "attributed_fn": "contrast_prob_diff", "context_sensitivity_topk": 1}
    found = attribute_context(model, **asked, contextless_output_next_tokens=["nurse"])
    assert found.cci_scores[0].contrast_token == "▁nur"
    someone = Someone(token="nurse")
    asked_for = attribute_context(model, **asked, ask=someone, asks_next_tokens=True)
    assert asked_for.cci_scores == found.cci_scores
    number = attribute_context(model, **asked, contextless_output_next_tokens=[model.tokenize("nurse").ids[1]])
    assert number.cci_scores == found.cci_scores
    with pytest.raises(CallerError, match="2 of them for 1 sensitive tokens"):
        attribute_context(model, **asked, contextless_output_next_tokens=["a", "b"])


def test_tokens_are_written_with_a_mark_for_the_space_before_them(served):
    for name, first in (("tiny-gpt2", "The"), ("tiny-llama", "The")):
        found = attribute_context(served(name), **SAID)
        assert found.input_context_tokens == (first, "▁ca", "t")
        assert found.output_current_tokens == ("▁on", "▁the", "▁", "m", "at")


def test_cues_of_all_tokens_are_those_of_each_alone(served):
    model = served("tiny-gpt2")
    asked = {**SAID, "context_sensitivity_std_threshold": None, "attributed_fn": "contrast_logits_diff"}
    together = attribute_context(model, **asked)
    assert len(together.cci_scores) == len(together.cti_scores)
    for number in (0, 2):
        one = together.cci_scores[number]
        position = together.info["sequences"]["contextual"]["start"] + one.cti_idx
        ids = together.info["sequences"]["contextual"]["target"][: position + 1]
        foil = model.tokenize(one.contextless_output).ids[-1]
        with model.trace(ids) as t:
            out = t.op(
                "attribution.saliency",
                target="contrast_logits_diff",
                start=position,
                contrast_ids=(*ids[:-1], foil),
                contrast_force_inputs=foil == ids[-1],
            )
            t.save(out=out)
        alone = np.asarray(t.result["out"].scores)[: len(one.input_context_scores), 0]
        np.testing.assert_allclose(one.input_context_scores, alone, atol=1e-6, rtol=1e-4)
