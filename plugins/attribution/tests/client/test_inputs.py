"""Inputs and continuations: exact ids, whatever they were written as."""

import numpy as np
import pytest

from interpd.testing.tiny_models import tiny_model
from interpd_attribution import worker
from interpd_client import CallerError, local

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


def test_what_a_tokenizer_adds_may_be_left_out(llama):
    model = llama.client_model
    plain = model.attribute("The cat", " sat", add_special_tokens=False, **METHOD)
    assert len(plain.source) < len(model.attribute("The cat", " sat", **METHOD).source)


def test_a_chat_is_what_its_template_makes_of_it(llama):
    model, chat = llama.client_model, [{"role": "user", "content": "The cat"}, {"role": "user", "content": "A dog"}]
    out = model.attribute(chat, " sat", **METHOD)
    assert ids(out.source) == list(model.tokenize(chat).ids)
    plain = model.attribute(ids(out.source), ids(out.generated), **METHOD)
    np.testing.assert_array_equal(out.target_attributions, plain.target_attributions)
    assert len(model.attribute([chat, chat], generation={"max_new_tokens": 1}, **METHOD)) == 2
    turns = model.attribute(chat, " sat", features="turn", **METHOD)
    assert len(turns.source) < len(out.source)
    unopened = model.attribute(chat, " sat", add_generation_prompt=False, **METHOD)
    assert len(unopened.source) < len(out.source)


@pytest.mark.slow
def test_a_model_with_several_end_tokens_stops_at_each_and_keeps_each_in_baselines():
    tiny = tiny_model("gpt2")
    prompt, asked = [5, 40, 77], {"method": "feature_ablation", "baseline": "zeros"}
    with local(tiny.model, plugins={"attribution": worker}, name="plain", progress=False) as client:
        likely = ids(client.model("plain").attribute(prompt, generation={"max_new_tokens": 3}, **asked).generated)
    tiny.model.generation_config.eos_token_id = [320, 40, likely[0]]
    with local(tiny.model, plugins={"attribution": worker}, name="ends", progress=False) as client:
        model = client.model("ends")
        out = model.attribute(prompt, generation={"max_new_tokens": 3}, **asked)
        assert ids(out.generated) == likely[:1] != likely
        forced = model.attribute(prompt, likely, **asked)
        assert ids(forced.generated) == likely
        changed = model.attribute(prompt, likely, include_eos_baseline=True, **asked)
    # the end inside the prompt stays as it is, so that nothing is lost without it
    assert forced.scores[1, 0] == 0.0
    assert changed.scores[1, 0] != 0.0
    np.testing.assert_allclose(forced.scores[[0, 2], 0], changed.scores[[0, 2], 0])


def test_a_generation_goes_on_behind_a_prefix(t5, gpt2):
    out = t5.client_model.attribute([5, 40, 77], [50, 60], generation={"max_new_tokens": 2}, **METHOD)
    assert ids(out.generated)[:2] == [50, 60]
    assert len(out.generated) == 4
    assert out.info["generate_from_target_prefix"] is True
    out = gpt2.client_model.attribute([5, 40], [77], generation={"max_new_tokens": 2}, **METHOD)
    assert ids(out.source) == [5, 40]
    assert len(out.generated) == 3


def test_one_continuation_for_several_inputs_is_refused(gpt2):
    with pytest.raises(CallerError, match="give a list with one for each"):
        gpt2.client_model.attribute(["a", "b"], "c")
    with pytest.raises(CallerError, match="3 of them for 2 inputs"):
        gpt2.client_model.attribute(["a", "b"], ["c", "d", "e"])


def test_errors_say_which_of_several_inputs_they_are_about(gpt2):
    model = gpt2.client_model
    long = [5] * (model.info.max_positions + 1)
    with pytest.raises(CallerError, match=r"input 1: the prompt has .* tokens"):
        model.attribute([[5, 40], long], [[7], [7]], **METHOD)
    with pytest.raises(CallerError, match=r"input 1: the prompt has .* tokens"):
        model.attribute([[5, 40], long], generation={"max_new_tokens": 1}, **METHOD)
    with pytest.raises(CallerError, match=r"input 1: .*put the border between two tokens"):
        model.attribute(["The cat", "The ca"], [" sat", "t sat"], **METHOD)
    with pytest.raises(CallerError, match=r"input 1: .*attributed are positions"):
        model.attribute([[5, 40], [5]], [[7, 8], [7]], attr_pos_start=2, **METHOD)
    with pytest.raises(CallerError, match="input 1 is empty"):
        model.attribute(["The cat", "", "A dog"], generation={"max_new_tokens": 1}, **METHOD)
    with pytest.raises(CallerError, match=r"^the prompt has"):
        model.attribute(long, [7], **METHOD)
