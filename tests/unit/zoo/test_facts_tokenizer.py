"""What later plugins rely on in the tokenizer."""

import pytest

from interpd import zoo
from interpd.zoo.facts.world import load_world


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(zoo.path("facts"))


@pytest.fixture(scope="module")
def sentences():
    world = load_world(zoo.path("facts") / "world.json")
    pairs = world.prompts(held_out=True)[::7]
    return [(world.prompt(fact, template), fact) for fact, template in pairs]


def test_decoding_gives_the_sentence_back(tokenizer, sentences):
    for prompt, fact in sentences:
        text = f"{prompt} {fact.object}. It is kept in the hall."
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_answer_adds_exactly_one_token(tokenizer, sentences):
    for prompt, fact in sentences:
        before, after = tokenizer(prompt)["input_ids"], tokenizer(f"{prompt} {fact.object}")["input_ids"]
        assert after[:-1] == before
        assert tokenizer.decode(after[-1:]) == fact.object


def test_offsets_cut_out_the_words(tokenizer, sentences):
    for prompt, fact in sentences:
        text = f"{prompt} {fact.object}."
        offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        words = [text[start:end] for start, end in offsets]
        assert words == ["", *prompt.split(), fact.object, "."]


def test_bos_is_first_so_that_no_subject_is_at_token_zero(tokenizer, sentences):
    for prompt, _ in sentences:
        ids = tokenizer(prompt)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.bos_token_id not in ids[1:]


def test_unknown_words_become_unk(tokenizer):
    assert tokenizer("Elena zzz")["input_ids"][-1] == tokenizer.unk_token_id


def test_padding_is_on_the_right(tokenizer):
    ids = tokenizer(["Elena", "Elena Marsh speaks"], padding=True)["input_ids"]
    assert ids[0][-2:] == [tokenizer.pad_token_id] * 2
