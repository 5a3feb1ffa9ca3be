"""Generations, steps and streams."""

import pytest

import interpd_client as interpd
from interpd.graph.ir import Generation, Steps


def test_settings_travel_with_the_request(model, transport):
    with model.generate("a", max_new_tokens=4, do_sample=True, seed=7, stop_strings=".", timeout_s=9.0) as g:
        g.save(last=g.logits[:, -1])
    (request,) = transport.requests
    assert request.generation == Generation(4, do_sample=True, seed=7, stop_strings=(".",))
    assert request.deadline_s is not None
    assert not request.stream_tokens


def test_text_and_tokens_of_the_only_prompt(model):
    with model.generate("a", max_new_tokens=3) as g:
        pass
    assert g.result.text == " word word word"
    assert g.result.token_ids == (0, 1, 2)


def test_several_prompts_have_no_single_text(model):
    with model.generate(max_new_tokens=2) as g:
        g.prompt("a")
        g.prompt("b")
    assert [one.text for one in g.result.generated] == [" word word"] * 2
    with pytest.raises(ValueError, match="continued 2 prompts; look at `result.generated`"):
        g.result.text  # noqa: B018


def test_reads_and_writes_act_where_they_stand(model):
    g = model.generate("a", max_new_tokens=9)
    g.embed  # noqa: B018
    with g.steps(2, 5):
        g.layers[0].resid_post[:, -1] = 0.0
        with g.at(3):
            g.logits[:, -1]
        g.ln_final  # noqa: B018
    steps = [(node.op, node.steps) for node in g._recording.nodes]
    assert steps == [
        ("site.read", None),
        ("site.read", Steps(2, 5)),
        ("tensor.setitem", None),
        ("site.write", Steps(2, 5)),
        ("site.read", Steps(3, 4)),
        ("site.read", Steps(3, 4)),
        ("tensor.getitem", None),
        ("site.read", Steps(2, 5)),
    ]


def test_empty_steps_are_refused(model):
    g = model.generate("a", max_new_tokens=9)
    with pytest.raises(ValueError, match="wanted 0 <= start < stop"), g.steps(5, 5):
        pass


def test_a_stream_gives_text_that_knows_its_token(model):
    stream = model.stream("a", max_new_tokens=3)
    tokens = list(stream)
    assert "".join(tokens) == " word word word"
    assert [(token.step, token.token_id, token.invoke) for token in tokens] == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]
    assert stream.result.text == " word word word"


def test_a_closed_stream_has_no_result(model):
    stream = model.stream("a", max_new_tokens=3)
    assert next(stream) == " word"
    stream.close()
    assert list(stream) == []
    with pytest.raises(RuntimeError, match="closed before its end"):
        stream.result  # noqa: B018


def test_tokens_are_handed_to_the_callback(model, transport):
    seen = []
    with model.generate("a", max_new_tokens=2, on_token=seen.append):
        pass
    assert [event.text for event in seen] == [" word", " word"]
    assert transport.requests[0].stream_tokens


def test_generate_text_is_one_call(model):
    assert model.generate_text("a", max_new_tokens=2) == " word word"


def test_unknown_settings_are_refused(model):
    with pytest.raises(TypeError, match="no option 'temprature'; did you mean 'temperature'"):
        model.generate("a", max_new_tokens=2, temprature=1.0)
    with pytest.raises(TypeError, match="no option 'keep'; did you mean 'keep_s'"):
        model.trace("a", keep=3.0)


def test_a_position_of_the_prompt_at_every_step_is_told_to_act_at_step_0(model):
    with pytest.raises(interpd.PositionOutOfRange, match=r"one position, that of the new token.*`with g.at\(0\):`"):
        with model.generate("a b c", max_new_tokens=3) as g:
            g.layers[0].resid_post[:, 2] += 1.0
    with model.generate("a b c", max_new_tokens=3) as g, g.at(0):
        g.layers[0].resid_post[:, 2] += 1.0


def test_the_tokens_so_far_are_those_of_the_steps_that_stand_around_them(model):
    g = model.generate("a", max_new_tokens=9)
    with g.steps(2, 5):
        so_far = g.prefix_ids
    assert [(node.op, node.steps) for node in g._recording.nodes] == [("tokens.prefix_ids", Steps(2, 5))]
    assert str(so_far.type) == "int64[batch=1 key_pos=?]"
