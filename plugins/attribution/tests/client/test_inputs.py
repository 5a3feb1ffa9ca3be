"""Inputs and continuations: exact ids, whatever they were written as."""

import numpy as np
import pytest

from interpd_client import CallerError

METHOD = {"method": "input_x_gradient", "reduce": "sum"}


def ids(tokens):
    return [token.id for token in tokens]


def test_text_is_continued_as_the_tokenizer_spells_the_whole(gpt2):
    model = gpt2.client_model
    out = model.attribute("The cat sat", " on the mat", **METHOD)
    assert ids(out.source) == list(model.tokenize("The cat sat").ids)
    assert ids(out.target) == list(model.tokenize("The cat sat on the mat").ids)


def test_a_border_inside_a_token_is_refused(gpt2):
    model = gpt2.client_model
    whole = model.tokenize("The cat sat").ids
    assert model.tokenize("The ca").ids != whole[: len(model.tokenize("The ca").ids)]
    with pytest.raises(CallerError, match="put the border between two tokens"):
        model.attribute("The ca", "t sat", **METHOD)


def test_a_whole_that_repeats_its_prompt_can_be_said_with_positions(gpt2):
    model, (prompt, whole) = gpt2.client_model, ([5, 40], [5, 40, 77, 120])
    with pytest.raises(CallerError, match="attr_pos_start"):
        model.attribute(prompt, whole)
    out = model.attribute([*prompt, *whole], "", attr_pos_start=2, **METHOD)
    assert ids(out.generated) == whole


def test_generated_ids_are_attributed_as_they_came(gpt2):
    """X-01: text of them would be spelled with other ids."""
    model = gpt2.client_model
    g = model.generate([5, 6, 7], max_new_tokens=4).run()
    assert model.tokenize(g.text).ids != g.token_ids
    out = model.attribute([5, 6, 7], generation={"max_new_tokens": 4}, **METHOD)
    assert ids(out.generated) == list(g.token_ids)
    forced = model.attribute([5, 6, 7], g.token_ids, **METHOD)
    np.testing.assert_array_equal(out.target_attributions, forced.target_attributions)
    assert out.info["constrained_decoding"] is False
    assert forced.info["constrained_decoding"] is True


def test_a_batch_generates_and_attributes_what_each_would_alone(gpt2):
    """X-02, X-03, X-12: inputs of different lengths, with and without a contrast."""
    model, prompts = gpt2.client_model, ["The cat", [5, 40, 77, 120, 33], "A dog and a cat sat"]
    asked = {**METHOD, "generation": {"max_new_tokens": 3}, "step_scores": ["entropy"]}
    out = model.attribute(prompts, **asked)
    for prompt, one in zip(prompts, out, strict=True):
        alone = model.attribute(prompt, **asked)
        assert one.target == alone.target
        np.testing.assert_allclose(one.target_attributions, alone.target_attributions, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(one.step_scores["entropy"], alone.step_scores["entropy"], rtol=1e-5)
    assert out.info["input_texts"] == [one.info["input_texts"][0] for one in out]


def test_a_tokenizer_that_adds_a_beginning_is_no_obstacle(llama):
    """X-04."""
    model = llama.client_model
    out = model.attribute("The cat", generation={"max_new_tokens": 2}, **METHOD)
    assert ids(out.source) == list(model.tokenize("The cat").ids)
    plain = model.attribute("The cat", " sat", add_special_tokens=False, **METHOD)
    assert len(plain.source) < len(model.attribute("The cat", " sat", **METHOD).source)


def test_a_generation_goes_on_behind_a_prefix(t5, gpt2):
    out = t5.client_model.attribute([5, 40, 77], [50, 60], generation={"max_new_tokens": 2}, **METHOD)
    assert ids(out.generated)[:2] == [50, 60]
    assert len(out.generated) == 4
    assert out.info["generate_from_target_prefix"] is True
    out = gpt2.client_model.attribute([5, 40], [77], generation={"max_new_tokens": 2}, **METHOD)
    assert ids(out.source) == [5, 40]
    assert len(out.generated) == 3


def test_arguments_stay_as_they_were(gpt2):
    """X-18."""
    generation, scores = {"max_new_tokens": 2}, ["entropy"]
    gpt2.client_model.attribute([5, 40], generation=generation, step_scores=scores, **METHOD)
    assert generation == {"max_new_tokens": 2}
    assert scores == ["entropy"]


def test_one_continuation_for_several_inputs_is_refused(gpt2):
    with pytest.raises(CallerError, match="give a list with one for each"):
        gpt2.client_model.attribute(["a", "b"], "c")
    with pytest.raises(CallerError, match="3 of them for 2 inputs"):
        gpt2.client_model.attribute(["a", "b"], ["c", "d", "e"])
