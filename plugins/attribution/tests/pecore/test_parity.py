"""Inseq's PECoRe (``../golden/data/context.json``): which tokens are sensitive, how much, and to what."""

import json

import numpy as np
import pytest
from attribution_golden import reading

from interpd_attribution.pecore import attribute_context

CASES = {case["id"]: case for case in json.loads((reading.DATA / "context.json").read_text())["cases"]}
ATOL, RTOL = 1e-6, 1e-4
CTI_ATOL = 1e-5
"""Divergences are differences of logarithms in float32 there."""

QUICK = ("gpt2-contrastive", "gpt2-output-context", "llama", "two-sided-contrastive")
TINY = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name, case in CASES.items()
    if case["model"].startswith("tiny")
]
REAL = [name for name, case in CASES.items() if not case["model"].startswith("tiny")]


def is_shifted(case, side):
    """Whether Inseq's scores of that context are those of the tokens one to the left: it counts from position 0, where
    BOS or the decoder's start is."""
    return case["model"] in ("stories260K", "tiny-llama") or (case["model"] == "tiny-t5" and side == "output")


def letters(tokens):
    return [token.replace("▁", " ").replace("Ġ", " ").strip() for token in tokens]


def arguments_of(case):
    """What Inseq was asked, without what says how it shows the answer."""
    return {name: value for name, value in case["arguments"].items() if name not in ("show_viz", "add_output_info")}


def check(case, found):
    told = case["output"]
    assert letters(found.output_current_tokens) == letters(told["output_current_tokens"])
    assert found.output_current.strip() == told["output_current"].strip()
    np.testing.assert_allclose(found.cti_scores, told["cti_scores"], atol=CTI_ATOL, rtol=RTOL)
    assert [one.cti_idx for one in found.cci_scores] == [one["cti_idx"] for one in told["cci_scores"]]
    for ours, theirs in zip(found.cci_scores, told["cci_scores"], strict=True):
        assert ours.contextual_output == theirs["contextual_output"]
        for side in ("input", "output"):
            check_side(case, side, getattr(ours, f"{side}_context_scores"), theirs[f"{side}_context_scores"])
            tokens = told[f"{side}_context_tokens"]
            assert tokens is None or letters(getattr(found, f"{side}_context_tokens")) == letters(tokens)


def check_side(case, side, ours, theirs):
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert len(ours) == len(theirs)
        ours, theirs = (ours[:-1], theirs[1:]) if is_shifted(case, side) else (ours, theirs)
        np.testing.assert_allclose(ours, theirs, atol=ATOL, rtol=RTOL)


@pytest.mark.parametrize("name", TINY)
def test_numbers_are_those_of_inseq(served, name):
    case = CASES[name]
    found = attribute_context(served(case["model"]), **arguments_of(case))
    check(case, found)
    if case["arguments"].get("attributed_fn"):
        (foils, theirs) = ([one.contrast_token for one in found.cci_scores], case["output"]["cci_scores"])
        assert letters(foils) == letters(one["contrast_token"] for one in theirs)


def test_a_divergence_is_taken_where_the_output_stands_without_contexts(served):
    """Inseq generates two tokens there, counts on the second being EOS, and compares the prediction of the second."""
    model, found = served("tiny-t5"), {}
    asked = {**arguments_of(CASES["two-sided-contrastive"]), "attributed_fn": "kl_divergence"}
    (one,) = attribute_context(model, **asked).cci_scores
    within = model.tokenize("The cat and the teacher The nurse was tired", target="The Thememe the mat and job")
    without = model.tokenize("The nurse was tired", target="the mat and job")
    position = len(within.target.ids) - len(without.target.ids) + 1
    for place in (1, 2):
        with model.trace(list(within.ids), target=list(within.target.ids[1 : position + 1])) as t:
            found[place] = t.op(
                "attribution.saliency",
                target="kl_divergence",
                start=position,
                contrast_ids=without.target.ids,
                contrast_source_ids=without.ids,
                contrast_positions=(place,),
                contrast_force_inputs=True,
            )
            t.save(out=found[place])
        found[place] = np.asarray(t.result["out"].scores)[: len(one.input_context_scores), 0]
    np.testing.assert_allclose(one.input_context_scores, found[1], atol=ATOL, rtol=RTOL)
    assert not np.allclose(one.input_context_scores, found[2], rtol=0.01)


@pytest.mark.slow
def test_tokens_that_a_tokenizer_adds_are_no_output(served):
    """Inseq counts BOS of a target as its first token, and the last one as EOS, where the tokenizer writes none."""
    bart = attribute_context(
        served("g2p-bart-us"),
        input_context_text="nurse",
        input_current_text="purse",
        input_template="{context}{current}",
        output_current_text="pˈɜɹs",
    )
    assert bart.output_current_tokens == tuple("pˈɜɹs")
    pegasus = attribute_context(
        served("aren-transliteration"),
        input_context_text="بغداد",
        input_current_text="محمود",
        input_template="{context}{current}",
        output_current_text="mahmud",
    )
    assert pegasus.output_current_tokens == tuple("mahmud")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_numbers_of_a_trained_model_are_those_of_inseq(served, name):
    case = CASES[name]
    found = attribute_context(served(case["model"]), **arguments_of(case))
    if name == "given-foil":
        # Inseq spells the words with BOS, and BOS is what it contrasts with
        assert [one.contrast_token for one in found.cci_scores] == ["▁he", "▁g"]
        assert [one["contrast_token"] for one in case["output"]["cci_scores"]] == ["<s>", "<s>"]
        return
    check(case, found)
