import pytest

from interpd.errors import PositionOutOfRange
from interpd.graph import positions
from interpd.graph.run import Tokens

TEXT = "Ada Marsh met Ada"
TOKENS = Tokens(
    ids=(0, 1, 2, 3, 4, 1),
    strings=("<s>", "Ada", " Mar", "sh", " met", " Ada"),
    offsets=((0, 0), (0, 3), (3, 7), (7, 9), (9, 13), (13, 17)),
    text=TEXT,
)


def test_a_word_is_all_tokens_that_cover_it():
    assert positions.of_text(TOKENS, "Marsh") == (2, 3)
    assert positions.of_text(TOKENS, "Ada Marsh") == (1, 2, 3)
    assert positions.of_text(TOKENS, "ar") == (2,)


def test_first_last_and_every_occurrence():
    assert positions.first(TOKENS, "Ada") == (1,)
    assert positions.last(TOKENS, "Ada") == (5,)
    assert positions.every(TOKENS, "Ada") == ((1,), (5,))
    assert positions.every(TOKENS, "Eve") == ()


def test_an_ambiguous_word_lists_the_tokens():
    with pytest.raises(PositionOutOfRange) as error:
        positions.of_text(TOKENS, "Ada")
    assert str(error.value) == (
        "the prompt contains 'Ada' 2 times: say which, occurrence=0 is the first and -1 the last; "
        "its tokens are 0:'<s>' 1:'Ada' 2:' Mar' 3:'sh' 4:' met' 5:' Ada'"
    )


@pytest.mark.parametrize(("text", "words"), [("Eve", "does not contain 'Eve'"), ("", "does not contain ''")])
def test_an_absent_word_is_refused(text, words):
    with pytest.raises(PositionOutOfRange, match=words):
        positions.of_text(TOKENS, text)


def test_an_occurrence_that_does_not_exist_is_refused():
    with pytest.raises(PositionOutOfRange, match="2 times, there is no occurrence 2"):
        positions.of_text(TOKENS, "Ada", 2)


def test_characters_outside_the_text_are_refused():
    with pytest.raises(PositionOutOfRange, match=r"characters 3..99 do not lie in a text of 17"):
        positions.of_characters(TOKENS, 3, 99)


def test_prompts_of_ids_have_no_characters():
    tokens = Tokens((1, 2), ("a", "b"), ((0, 0), (0, 0)), "ab")
    with pytest.raises(PositionOutOfRange, match="given as token ids"):
        positions.of_text(tokens, "a")
