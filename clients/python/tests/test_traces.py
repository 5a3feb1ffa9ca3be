"""What a trace sends, when, and how results come back."""

import threading

import numpy as np
import pytest

import interpd_client as interpd
from interpd_client.testing import FakeTransport, fake_manifest


@pytest.mark.parametrize("prompt", [5, None, {"a": 1}, b"text"])
def test_what_is_no_prompt_is_named(model, prompt):
    with pytest.raises(TypeError, match="a prompt is a text, a list of token ids or a list of chat messages, got"):
        model.trace().prompt(prompt)


def test_special_tokens_are_an_option_of_the_trace(model, transport):
    with model.trace("a", add_special_tokens=False) as t:
        t.save(h=t.embed)
    assert model.generate("a", max_new_tokens=1, add_special_tokens=False).request.prompts == t.request.prompts
    assert [request.prompts[0].add_special_tokens for request in transport.requests] == [False]


def test_nothing_is_sent_before_the_block_ends(model, transport):
    with model.trace("a b") as t:
        t.save(h=t.layers[0].resid_post)
        assert transport.requests == []
    assert len(transport.requests) == 1


def test_an_exception_inside_the_block_sends_nothing(model, transport):
    with pytest.raises(ZeroDivisionError), model.trace("a b") as t:
        t.save(h=t.layers[0].resid_post / (1 // 0))
    assert transport.requests == []


def test_results_have_the_structure_of_what_was_saved(model):
    with model.trace("a b") as t:
        h = t.layers[0].resid_post
        t.save(one=h, top=h.topk(5), many=[h, h + 1], named={"x": h})
    result = t.result
    assert list(result) == ["one", "top", "many", "named"]
    assert result["one"].shape == (1, 2, 8)
    assert result["top"].indices.shape == (1, 2, 5)
    assert [array.shape for array in result["many"]] == [(1, 2, 8)] * 2
    assert result["named"]["x"].dtype == np.float32


def test_the_result_before_the_end_says_when_it_comes(model):
    with pytest.raises(RuntimeError, match="sent when the `with` block ends"), model.trace("a") as t:
        t.save(h=t.embed)
        t.result  # noqa: B018


def test_a_trace_is_closed_after_its_block(model):
    with model.trace("a") as t:
        h = t.embed
        t.save(h=h)
    with pytest.raises(RuntimeError, match=r"used after the end of its trace.*`t.save\(h=value\)`.*t.result"):
        h + 1


def test_another_thread_may_not_write_a_trace(model):
    t = model.trace("a")
    errors = []

    def write():
        try:
            t.embed  # noqa: B018
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert errors == ["a trace is written by one thread; give each thread a trace of its own"]


def test_many_threads_share_one_client(client, transport):
    def work(number):
        with client.model("fake").trace("a b") as t:
            t.save(x=t.embed + number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(request.graph.nodes[1].inputs[1] for request in transport.requests) == list(range(8))


def test_a_name_is_saved_once(model):
    with pytest.raises(ValueError, match="'h' is saved already, at test_traces.py"), model.trace("a") as t:
        t.save(h=t.embed)
        t.save(h=t.logits)


def test_constants_are_not_saved(model):
    with pytest.raises(TypeError, match="wants a symbolic value, or a list, tuple or dict of them, got float"):
        model.trace("a").save(x=1.0)


def test_plugin_operations_are_called_by_name_and_by_attribute():
    schema = interpd_op("sae.encode")
    transport = FakeTransport(fake_manifest(ops=[schema]), answer=lambda request: {"a": 0, "b": 0})
    model = interpd.Client(transport).model("fake")
    t = model.trace("a")
    t.op("sae.encode", t.embed, width=3)
    t.ops.sae.encode(t.embed, width=3)
    first, second = (node for node in t._recording.nodes if node.op == "sae.encode")
    assert dict(first.params) == dict(second.params) == {"width": 3}
    with pytest.raises(interpd.UnknownName, match="did you mean 'sae.encode'"):
        t.op("sae.encod", t.embed)


def test_a_method_runs_although_nothing_uses_what_it_returns():
    transport = FakeTransport(fake_manifest(ops=[interpd_op("lrc.train", is_method=True)]))
    model = interpd.Client(transport).model("fake")
    with model.trace("a") as t:
        t.ops.lrc.train(t.embed, width=3)
        t.save(x=t.logits)
    assert [node.op for node in transport.requests[0].graph.nodes] == ["site.read", "lrc.train", "site.read"]


def test_methods_belong_to_the_prompt_that_they_are_called_on():
    transport = FakeTransport(fake_manifest(ops=[interpd_op("lrc.train", is_method=True)]))
    t = interpd.Client(transport).model("fake").trace()
    _, b = t.prompt("x"), t.prompt("y")
    b.ops.lrc.train(b.embed, width=3)
    assert t._recording.nodes[-1].invoke == 1
    with pytest.raises(interpd.InvalidGraph, match="2 prompts"):
        t.ops.lrc.train(b.embed, width=3)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("text", interpd.Prompt(text="text")),
        ([1, 2], interpd.Prompt(token_ids=(1, 2))),
        (np.array([1, 2]), interpd.Prompt(token_ids=(1, 2))),
        ([{"role": "user", "content": "hi"}], interpd.Prompt(messages=(("user", "hi"),))),
        ([("user", "hi")], interpd.Prompt(messages=(("user", "hi"),))),
        (interpd.Prompt(text="x", add_special_tokens=False), interpd.Prompt(text="x", add_special_tokens=False)),
    ],
    ids=["text", "ids", "array", "chat", "pairs", "prompt"],
)
def test_prompts_are_text_ids_or_chats(model, written, expected):
    assert model.trace(written).request.prompts == (expected,)


@pytest.mark.parametrize("written", [["a", "b"], [], [{"role": "user"}], 3.5])
def test_what_is_no_prompt_is_refused(model, written):
    with pytest.raises(TypeError):
        model.trace(written)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            "are texts \\(no images, audio or tool calls\\)",
        ),
        ({"role": "assistant", "content": None}, "are texts"),
        ({"role": "assistant", "content": "", "tool_calls": []}, "tool_calls cannot be taken"),
        (("user", 7), "are texts"),
        ({"content": "hi"}, "are texts"),
    ],
)
def test_what_a_template_cannot_be_given_as_text_is_refused(model, message, why):
    with pytest.raises(TypeError, match=why):
        model.trace([message])


def test_how_a_chat_ends_is_an_option_of_the_trace(model):
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "He"}]
    (prompt,) = model.trace(chat, continue_final_message=True).request.prompts
    assert prompt.continue_final_message
    (prompt,) = model.generate(chat[:1], max_new_tokens=1, add_generation_prompt=False).request.prompts
    assert prompt.add_generation_prompt is False
    with pytest.raises(TypeError, match="continue_final_message say how a chat ends, but the prompt is no list"):
        model.trace("text", continue_final_message=True)


def interpd_op(name, **options):
    from interpd.graph.schema import OpSchema, ParamSchema, PortSchema
    from interpd.graph.types import Dim, TensorType

    kind = TensorType("float", (Dim("batch"), Dim("pos"), Dim("d_model")))
    port = PortSchema("x", kind)
    return OpSchema(name, 1, "Test.", (port,), (ParamSchema("width", "int"),), (port,), plugin="test", **options)


def test_a_graph_is_written_as_the_file_that_the_command_line_reads(model):
    from interpd.wire.files import graph_from_json

    t = model.trace("a b")
    t.layers[1].resid_post[:, -1] *= 2.0
    t.save(top=t.logits[:, -1].topk(2))
    assert graph_from_json(t.to_json()) == t.request.graph


def test_a_graph_with_large_arrays_is_not_written(model):
    t = model.trace("a b")
    t.save(x=t.embed @ np.ones((8, 4096), dtype="float32"))
    with pytest.raises(interpd.InvalidGraph, match="too large to stand in a file"):
        t.to_json()
