"""Texts cut into words, sentences, fields, turns; and the tokens that belong to them."""

from itertools import pairwise

import pytest

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_attribution import features
from interpd_attribution.features import Segments, Sides, TextTemplate, named, nested, segments_of
from interpd_attribution.features.covering import Part, covered, offsets
from interpd_attribution.features.splits import lines, paragraphs, sentences, words


def tokens(*pieces):
    """Tokens that are these pieces of a text."""
    spans, at = [], 0
    for piece in pieces:
        spans.append((at, at + len(piece)))
        at += len(piece)
    return Tokens(tuple(range(len(pieces))), pieces, tuple(spans), "".join(pieces))


def texts(split, text):
    return [text[part.start : part.stop].strip() for part in split(text)]


def test_words_keep_what_is_within_them():
    text = "Don't  re-use (this), naïve_1 日本語 🙂!"
    found = ["Don't", "re-use", "(", "this", "),", "naïve_1", "日", "本", "語", "🙂!"]
    assert texts(words, text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("Dr. Smith met J. Doe. They spoke.", ["Dr. Smith met J. Doe.", "They spoke."]),
        ("It cost 3.5 e.g. here. Well... maybe.", ["It cost 3.5 e.g. here.", "Well... maybe."]),
        ("一つ。二つ！", ["一つ。", "二つ！"]),
        ("Title\n\nText", ["Title", "Text"]),
        ("", []),
    ],
)
def test_sentences_end_where_they_do(text, found):
    assert texts(sentences, text) == found


def test_paragraphs_and_lines():
    text = "\n\nOne\ntwo\n \nThree\n\n\n"
    assert texts(paragraphs, text) == ["One\ntwo", "Three"]
    assert texts(lines, text) == ["One", "two", "Three"]


@pytest.mark.parametrize("split", [words, sentences, paragraphs, lines])
def test_nothing_of_a_text_is_left_out(split):
    text = "  One two.  Three!\n\n Four \n"
    parts = split(text)
    assert (parts[0].start, parts[-1].stop) == (0, len(text))
    assert all(one.stop == other.start for one, other in pairwise(parts))


def test_pieces_of_a_word_are_one_feature(gpt2):
    found = named("word").of(gpt2("The nurse said that"))
    assert found == Segments((0, 1, 1, 2, 3), ("The", "nurse", "said", "that"))


def test_special_tokens_stand_by_themselves(llama, t5):
    assert named("word").of(llama("The nurse said")).labels == ("<s>", "The", "nurse", "said")
    assert named("word", special=False).of(llama("The nurse said")).of == (-1, 0, 1, 1, 2)
    assert named("word").of(t5("The nurse")).labels == ("The", "nurse", "</s>")


def test_named_tokens_are_left_out(llama):
    found = named("word", skip=("<s>", "se")).of(llama("The nurse said"))
    assert found == Segments((-1, 0, 1, -1, 2), ("The", "nurse", "said"))


def test_a_token_of_two_words_belongs_to_the_longer_one():
    found = named("word").of(tokens("in", " of these", "x"))
    # "of" has no token of its own, and is one feature with the word that got it
    assert found == Segments((0, 1, 1), ("in", "of thesex"))


def test_a_token_of_two_words_of_equal_length_belongs_to_the_first():
    found = named("word").of(tokens("a", "b cd", "ef", " g"))
    assert found.labels == ("ab", "cdef", "g")
    assert found.of == (0, 1, 1, 2)
    assert named("word").of(tokens("x", "bc de", "f")).of == (0, 0, 1)


def test_white_space_belongs_to_what_follows():
    found = named("word").of(tokens("a", "  ", " b", "\n\n"))
    assert found == Segments((0, 1, 1, 1), ("a", "b"))


def test_all_tokens_of_a_character_are_one_feature(gpt2, real_gpt2):
    asked = features.regex("[🙂日本語]|[a-z]+")
    found = asked.of(real_gpt2("two 🙂 日本語"))
    assert found.labels == ("two", "🙂", "日", "本", "語")
    # 日 and 本 are one token and more: " �" "�" "�" ...
    assert found.of == tuple(sorted(found.of))
    assert len(found.of) > len(found)


def test_ids_alone_find_their_characters(gpt2, llama, t5, real_gpt2):
    for spell in (gpt2, llama, t5, real_gpt2):
        for text in ("The nurse said that", "the doctor said  that he was tired."):
            told = spell(text)
            assert named("word").of(spell(told.ids)).labels == named("word").of(told).labels


def test_ids_that_share_a_character_find_it(real_gpt2):
    told = real_gpt2("two 🙂 日本語, new")
    again = real_gpt2(told.ids)
    assert offsets(again)[0] == (0, 3)
    assert tuple(offsets(again)[-2:]) == told.offsets[-2:]
    assert named("word").of(again).labels[0] == "two"
    assert named("word").of(again).labels[-2:] == (",", "new")


def test_special_tokens_that_are_written_out_are_no_text(gpt2):
    told = gpt2("The nurse</s>he was")
    assert named("word").of(told).labels == ("The", "nurse", "</s>", "he", "was")
    assert named("sentence", special=False).of(told).of == (0, 0, 0, -1, 0, 0)
    assert features.regex(r"\w+").of(told).labels == ("The", "nurse", "</s>", "he", "was")


def test_strings_that_are_not_in_the_text_are_refused():
    strange = Tokens((0, 1), ("a", "c"), ((0, 0), (0, 0)), "ab")
    with pytest.raises(CallerError, match=r"token 'c' is not in the prompt's text behind 'a'.*Segments"):
        named("word").of(strange)


def test_parts_must_be_in_order():
    for wrong in ([Part(0, 2), Part(1, 3)], [Part(0, 9)], [Part(1, 1)]):
        with pytest.raises(CallerError, match="one behind the other"):
            covered(tokens("abc"), wrong)


def test_a_part_without_a_token_is_refused():
    with pytest.raises(CallerError, match="feature 'gap' has no token"):
        covered(tokens("a", " b"), [Part(0, 1), Part(1, 2, "gap")])


def test_patterns_keep_matches_or_what_is_between():
    text = tokens("one", " --", " two", " --", " three")
    assert features.regex("o[a-z]*").of(text) == Segments((0, -1, 1, -1, -1), ("one", "o"))
    between = features.regex("--", keep="between").of(text)
    assert between == Segments((0, -1, 1, -1, 2), ("one", "two", "three"))
    with pytest.raises(CallerError, match="matches nothing"):
        features.regex("zzz").of(text)
    with pytest.raises(CallerError, match="no regular expression"):
        features.regex("(").of(text)
    with pytest.raises(CallerError, match="keep is 'all'"):
        features.regex("a", keep="all")


def test_documents_are_found_in_order():
    text = tokens("Doc: ", "A b", " c.", " Doc: ", "D", ". Q", "?")
    found = features.documents(["A b c.", "D."]).of(text)
    assert found == Segments((-1, 0, 0, -1, 1, 1, -1), ("A b c.", "D."))
    assert features.documents(["A b c."], ["first"]).of(text).labels == ("first",)
    with pytest.raises(CallerError, match="'X' is not in the prompt"):
        features.documents(["A b c.", "X"]).of(text)
    with pytest.raises(CallerError, match="1 labels for 2 features"):
        features.documents(["a", "b"], ["only"])


def test_turns_of_a_chat_are_its_contents():
    text = tokens("<user>", "Hi", " there", "</user>", "<bot>", "Hello", "</bot>")
    messages = [{"role": "user", "content": " Hi there "}, {"role": "assistant", "content": "Hello"}]
    found = segments_of("turn", text, start=5, messages=messages[:1])
    assert found == Segments((-1, 0, 0, -1, -1, 1, 2), ("user:  Hi there", "Hello", "</bot>"))
    assert features.turns([("user", "Hi there"), ("assistant", "Hello")]).of(text).of == (-1, 0, 0, -1, -1, 1, -1)
    with pytest.raises(CallerError, match="give the prompt as messages"):
        segments_of("turn", text, start=5)


def test_examples_are_numbered_and_the_last_is_the_query():
    text = tokens("2+2", "=4", "\n\n", "3+3", "=6", "\n\n", "4+4=")
    found = features.examples().of(text)
    assert found == Segments((0, 0, -1, 1, 1, -1, 2), ("example 1", "example 2", "query"))


def test_spans_of_characters_and_of_positions():
    text = tokens("The", " cat", " sat", " down")
    assert features.spans([(0, 7), (8, 11)], ["who", "what"]).of(text) == Segments((0, 0, 1, -1), ("who", "what"))
    assert features.positions(text, [(0, 2), (3, 4)]) == Segments((0, 0, -1, 1), ("The cat", "down"))
    for wrong in ([(0, 5)], [(2, 2)], [(0, 2), (1, 3)]):
        with pytest.raises(CallerError, match="none empty, outside or taken twice"):
            features.positions(text, wrong)


def test_fields_of_a_template_are_features(gpt2):
    template = TextTemplate("{who} said that {what}.", who="The nurse", what="he was")
    assert template.text == "The nurse said that he was."
    found = template.features.of(gpt2(template.text))
    assert found.labels == ("who", "what")
    assert found.of == (0, 0, 0, -1, -1, 1, 1, -1)
    assert template.features_with(literals=True).of(gpt2(template.text)).labels == ("who", "said that", "what", ".")


def test_a_field_twice_is_one_feature():
    template = TextTemplate("{a} {b} {a}", a="x", b="y")
    assert template.features.of(tokens("x", " y", " x")) == Segments((0, 1, 0), ("a", "b"))


def test_a_list_in_a_template_is_several_features():
    template = TextTemplate("{docs}\nQ: {q}", docs=["One.", "Two."], q="Why?")
    found = template.features.of(tokens("One", ".", "\n", "Two", ".", "\nQ:", " Why", "?"))
    assert found == Segments((0, 0, -1, 1, 1, -1, 2, 2), ("docs 1", "docs 2", "q"))


def test_a_template_is_found_within_a_chat():
    template = TextTemplate("{a}!", a="x")
    assert template.features.of(tokens("<user>", "x", "!", "</user>")).of == (-1, 0, -1, -1)
    with pytest.raises(CallerError, match="not this template's text"):
        template.features.of(tokens("y"))


@pytest.mark.parametrize(
    ("template", "fields", "said"),
    [
        ("{a}", {}, "'a' has no text"),
        ("{a}", {"a": "x", "b": "y"}, "'b' has no place"),
        ("{a}", {"a": " "}, "expected a text that is not empty"),
        ("{a}", {"a": []}, "empty list"),
        ("{a.b}", {"a": "x"}, "no plain name"),
        ("{a:>3}", {"a": "x"}, "no plain name"),
        ("{", {}, "is no template"),
    ],
)
def test_templates_that_cannot_be_are_refused(template, fields, said):
    with pytest.raises(CallerError, match=said):
        TextTemplate(template, **fields)


def test_attributed_tokens_are_features_of_their_own(llama):
    whole = llama("The nurse said that tire")
    found = segments_of("word", whole, start=5)
    assert found.of == (0, 1, 2, 2, 3, 4, 5)
    assert found.labels == ("<s>", "The", "nurse", "said", "that", "tire")


def test_prompts_of_ids_take_the_characters_of_their_text(llama):
    prompt = llama("The nurse said")
    whole = llama((*prompt.ids, 118, 92))
    found = segments_of("word", whole, start=len(prompt.ids), prompt=prompt)
    assert found.labels == ("<s>", "The", "nurse", "said", *whole.strings[-2:])


def test_both_sides_have_features(t5):
    source = t5("The nurse and the doctor")
    both = Tokens(source.ids, source.strings, source.offsets, source.text, tokens("<pad>", "Die", "Amme"))
    found = segments_of("word", both, start=1)
    assert found.sides == (("The", "nurse", "and", "the", "doctor", "</s>"), ("<pad>", "Die", "Amme"))
    apart = segments_of(Sides(source="sentence", target="word"), both, start=2)
    assert apart.sides == (("The nurse and the doctor", "</s>"), ("<pad>", "Die", "Amme"))
    with pytest.raises(CallerError, match="one side"):
        segments_of(Sides(), source, start=3)


def test_given_features_are_taken_as_they_are():
    text = tokens("a", "b", "c")
    whole = Segments((0, 0, 1), ("ab", "c"))
    assert segments_of(whole, text, start=2) == whole
    assert segments_of(Segments((0, 0), ("ab",)), text, start=2) == whole
    with pytest.raises(CallerError, match="1 positions, but the prompt has 2"):
        segments_of(Segments((0,), ("a",)), text, start=2)


def test_tokens_are_the_plain_features():
    assert segments_of("token", tokens("a", "b", "c"), start=2) == Segments((0, 1, 2), ("a", "b", "c"))


@pytest.mark.parametrize(("asked", "said"), [("words", "there are no features 'words'"), (3, "3 are no features")])
def test_unknown_features_are_refused(asked, said):
    with pytest.raises(CallerError, match=said):
        segments_of(asked, tokens("a", "b"), start=1)


def test_levels_lie_within_one_another():
    text = tokens("A b", ".", " C", " d.", " e")
    documents, inner, word = nested([features.documents(["A b. C d."]), "sentence", "word"], text, start=4)
    assert documents.of == (0, 0, 0, 0, 1)
    assert inner.of == (0, 0, 1, 1, 2)
    assert word.parents(inner) == (0, 0, 1, 1, 2)
    with pytest.raises(CallerError, match="at least one level"):
        nested([], text, start=1)


def test_the_token_that_a_decoder_starts_with_is_not_in_its_text():
    told = Tokens((1, 5, 6), ("<pad>", "The", "nur"), ((0, 0),) * 3, "The nur")
    assert list(offsets(told)) == [(0, 0), (0, 3), (3, 7)]
    assert named("word").of(told).labels == ("<pad>", "The", "nur")
