"""Prompts as tokens: text, chat and ids; what has no tokens is refused."""

import pytest

from interpd.config import ModelSpec
from interpd.engine.tokens import begins_twice, special_ids, tokenize
from interpd.errors import InvalidRequest
from interpd.graph.ir import Prompt
from interpd.testing.tiny_models import tiny_tokenizer

PLAIN = tiny_tokenizer()
CHAT = tiny_tokenizer(with_bos=True, with_chat=True)
TURNS = tiny_tokenizer(with_bos=True)
TURNS.chat_template = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}[end]\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def tokens(tokenizer, **prompt):
    return tokenize(tokenizer, Prompt(**prompt), n_vocab=321)


def test_offsets_point_into_the_text():
    found = tokens(PLAIN, text="Elena Marsh was born")
    assert "".join(found.text[start:end] for start, end in found.offsets) == "Elena Marsh was born"
    assert len(found.ids) == len(found.strings) == len(found.offsets)


def test_special_tokens_are_known_by_their_roles():
    assert special_ids(PLAIN) == {"bos": PLAIN.bos_token_id, "eos": PLAIN.eos_token_id}
    assert special_ids(None) == {}


def test_special_tokens_lie_nowhere_in_the_text():
    found = tokens(CHAT, text="Lily")
    assert (found.strings[0], found.offsets[0]) == ("<s>", (0, 0))
    assert tokens(CHAT, text="Lily", add_special_tokens=False).ids == found.ids[1:]


def test_strings_keep_the_spaces_that_the_tokenizer_keeps():
    assert "".join(tokens(PLAIN, text="in the park").strings) == "in the park"


def test_chat_messages_are_rendered_and_the_turn_of_the_assistant_opened():
    found = tokens(CHAT, messages=(("user", "Hello"),))
    assert found.text == "<s><user> Hello\n<assistant>"
    assert found.ids.count(CHAT.bos_token_id) == 1


def test_a_turn_of_the_assistant_is_not_opened_twice():
    found = tokens(CHAT, messages=(("user", "Hello"), ("assistant", "Hi")))
    assert found.text == "<s><user> Hello\n<assistant> Hi\n"


@pytest.mark.parametrize(
    "messages",
    [
        (("user", "Hello"),),
        (("system", "Be brief."), ("user", "Hello")),
        (("user", "Hello"), ("assistant", "Hi"), ("user", "Bye")),
        (("user", "Hello"), ("assistant", "Hi")),
    ],
)
def test_a_chat_has_the_tokens_that_its_template_gives(messages):
    turns = [{"role": role, "content": content} for role, content in messages]
    for options in (
        {"add_generation_prompt": True},
        {"add_generation_prompt": False},
        {"continue_final_message": True},
    ):
        expected = TURNS.apply_chat_template(turns, tokenize=True, return_dict=False, **options)
        found = tokens(TURNS, messages=messages, **options)
        assert found.ids == tuple(expected)
        assert "".join(found.text[start:end] for start, end in found.offsets) == found.text
        # no second beginning beside that of the template
        assert found.ids.count(TURNS.bos_token_id) == 1


def test_how_a_chat_ends_may_be_said():
    chat = (("user", "Hello"), ("assistant", "Hi"))
    assert tokens(TURNS, messages=chat[:1]).text.endswith("[assistant] ")
    assert tokens(TURNS, messages=chat[:1], add_generation_prompt=False).text.endswith("Hello[end]\n")
    assert tokens(TURNS, messages=chat).text.endswith("Hi[end]\n")
    assert tokens(TURNS, messages=chat, continue_final_message=True).text.endswith("[assistant] Hi")


def test_a_beginning_that_is_written_out_beside_the_tokenizers_own_is_noticed():
    assert begins_twice(CHAT, tokens(CHAT, text="<s>Lily"))
    for prompt in ({"text": "Lily"}, {"text": "<s>Lily", "add_special_tokens": False}, {"messages": (("user", "Hi"),)}):
        assert not begins_twice(CHAT, tokens(CHAT, **prompt))
    assert not begins_twice(None, tokens(None, token_ids=(0, 0)))


def test_ids_are_taken_as_they_are():
    found = tokens(CHAT, token_ids=(5, 300, 5))
    assert (found.ids, found.offsets) == ((5, 300, 5), ((0, 0),) * 3)
    assert found.text == CHAT.decode([5, 300, 5])


def test_an_empty_text_is_its_special_tokens_or_nothing():
    assert tokens(CHAT, text="").ids == (CHAT.bos_token_id,)
    with pytest.raises(InvalidRequest, match="the prompt has no tokens"):
        tokens(PLAIN, text="")


@pytest.mark.parametrize("ids", [(321,), (-1,), (1, 2, 10**9), (True,), (1.5,), ()])
def test_ids_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(InvalidRequest, match=r"outside the vocabulary of 321|no tokens"):
        tokens(PLAIN, token_ids=ids)


@pytest.mark.parametrize(("prompt", "got"), [({}, "none"), ({"text": "a", "token_ids": (1,)}, "text and token_ids")])
def test_a_prompt_is_exactly_one_thing(prompt, got):
    with pytest.raises(InvalidRequest, match=f"got {got}"):
        tokens(PLAIN, **prompt)


def test_a_tokenizer_without_a_template_refuses_chat():
    with pytest.raises(InvalidRequest, match="no chat template"):
        tokens(PLAIN, messages=(("user", "Hello"),))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7].content }}", "refuses these messages: "),
        ("{{ messages[0].content + 1 }}", "refuses these messages: "),
        ("{{ 1 / 0 }}", "refuses these messages: "),
        ("{% for message in messages %}", "refuses these messages: "),
        ("{{ messages.__class__.__mro__ }}", "refuses these messages: "),
    ],
)
def test_what_a_template_raises_is_the_callers(template, message):
    strict = tiny_tokenizer()
    strict.chat_template = template
    with pytest.raises(InvalidRequest, match=message):
        tokens(strict, messages=(("user", "Hello"),))


def test_a_message_that_the_template_leaves_out_cannot_be_continued():
    quiet = tiny_tokenizer()
    quiet.chat_template = "{{ messages[0].content }}"
    with pytest.raises(InvalidRequest, match=r"refuses these messages: .*final message"):
        tokens(quiet, messages=(("user", "Hello"), ("assistant", "Hi there")), continue_final_message=True)


def test_a_model_without_a_tokenizer_takes_ids_only():
    assert tokens(None, token_ids=(3, 4)).strings == ("<3>", "<4>")
    with pytest.raises(InvalidRequest, match="no tokenizer: give the prompt as token_ids"):
        tokens(None, text="Hello")


def test_a_sentencepiece_like_tokenizer_puts_bos_first(shared):
    from interpd.worker.loading import load_model

    tokenizer = load_model(ModelSpec(str(shared / "models" / "stories260K"))).tokenizer
    found = tokenize(tokenizer, Prompt(text="Once upon a time"), n_vocab=512)
    assert found.ids[0] == 1
    assert found.strings[:3] == ("<s>", "Once", "upon")
    assert [found.text[start:end] for start, end in found.offsets] == ["", "Once", " upon", " a", " time"]


def test_words_that_the_tokenizer_does_not_know_are_told():
    from transformers import AutoTokenizer

    from interpd import zoo
    from interpd.engine.tokens import unknown_words

    facts = AutoTokenizer.from_pretrained(zoo.path("facts"))
    known, unknown = (
        tokenize(facts, Prompt(text=text), n_vocab=len(facts))
        for text in ("Elena Marsh was born in", "Elena Mash was bron in")
    )
    assert unknown_words(facts, known) == ()
    assert unknown_words(facts, unknown) == ("Mash", "bron")
    assert unknown_words(None, known) == ()
