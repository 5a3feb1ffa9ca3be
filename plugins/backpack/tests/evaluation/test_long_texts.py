"""Texts longer than the model's positions, tokenised piece by piece as the tokenizer does it at once."""

import pytest

from interpd.errors import CallerError, InvalidRequest
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.long_texts import long_text_ids

LONG = "The nurse said that she was happy , not tired .  The dog ran\nin Paris and\n\nthe cat ate bread . " * 9


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", [LONG, LONG[:90], "robots " * 60, "The dog ran"])
def test_pieces_have_the_tokens_of_the_whole(here, text, special):
    whole = here.tokenizer(text, add_special_tokens=special)["input_ids"]
    assert list(Asking(here.model).text_tokens(text, special=special)) == whole


def words(text, special):
    """A tokenizer of at most eight words, which marks the beginning of every text."""
    ids = (1, *(len(word) for word in text.split(" ")))
    if len(ids) > 9:
        raise InvalidRequest("too long")
    return ids


def test_a_tokenizer_that_reads_pieces_otherwise_is_refused():
    with pytest.raises(CallerError, match="pieces of a text otherwise than the whole"):
        long_text_ids(words, "ab cd ef gh " * 9, 9, special=False)


def test_a_text_that_cannot_be_cut_is_refused():
    with pytest.raises(CallerError, match="no white space"):
        long_text_ids(words, "a" * 100, 9, special=False)
    with pytest.raises(InvalidRequest, match="too long"):
        long_text_ids(lambda text, special: words("a " * 9, special), "abc", 9, special=False)
