"""Texts longer than the model's positions, tokenised piece by piece as the tokenizer does it at once."""

import re

import pytest

from interpd.errors import CallerError, InvalidRequest
from interpd.graph.run import Tokens
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.long_texts import long_text_ids

LONG = "The nurse said that she was happy , not tired .  The dog ran\nin Paris and\n\nthe cat ate bread . " * 9


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", [LONG, LONG[:90], "robots " * 60, "The dog ran"])
def test_pieces_have_the_tokens_of_the_whole(here, text, special):
    whole = here.tokenizer(text, add_special_tokens=special)["input_ids"]
    assert list(Asking(here.model).text_tokens(text, special=special)) == whole


def tokenizer(pattern, *, begins="", most=40):
    """A tokenizer that cuts by a pattern and takes so many tokens; ``begins`` is put before every text."""

    def tokenize(text, special):
        found = list(re.finditer(pattern, begins + text))
        if len(found) > most:
            raise InvalidRequest("too long")
        places = [tuple(max(0, at - len(begins)) for at in one.span()) for one in found]
        return Tokens(tuple(sum(map(ord, one.group())) for one in found), ("",) * len(found), tuple(places), text)

    return tokenize


@pytest.mark.parametrize("begins", ["", " "])
@pytest.mark.parametrize("pattern", [r" ?\w+|\s+", r"\w|\W+", "(?s)."])
def test_tokenizers_of_every_kind_read_pieces_as_the_whole(pattern, begins):
    whole = tokenizer(pattern, begins=begins, most=10**6)(LONG, False).ids
    assert long_text_ids(tokenizer(pattern, begins=begins), LONG, 40, special=False) == whole


def test_texts_without_white_space_are_read_as_well():
    text = "".join(chr(0x4E00 + number * 37 % 999) for number in range(200))
    assert long_text_ids(tokenizer("."), text, 40, special=False) == tokenizer(".", most=999)(text, False).ids


def test_a_tokenizer_whose_tokens_have_no_places_is_refused():
    def tokenize(text, special):
        found = tokenizer(r"\w+")(text, special)
        return Tokens(found.ids, found.strings, ((0, 0),) * len(found.ids), text)

    with pytest.raises(CallerError, match="pieces of a text otherwise than the whole"):
        long_text_ids(tokenize, LONG, 40, special=False)


def test_what_is_refused_for_other_reasons_is_refused_with_them():
    def tokenize(text, special):
        raise InvalidRequest("this model has no tokenizer")

    with pytest.raises(InvalidRequest, match="no tokenizer"):
        long_text_ids(tokenize, LONG, 40, special=False)
