"""The parts of texts that tokens make."""

import pytest

from interpd_backpack.variants.continuations import Continuation, Prompted, Variants, compared
from interpd_backpack.words import laid_out


@pytest.mark.parametrize(
    ("text", "strings", "parts"),
    [
        ("The nurse said.", ("<s>", "The", "nurse", "said", "."), ("<s>", "The", " nurse", " said", ".")),
        ("The nurse", ("The", " nurse"), ("The", " nurse")),
        ("a\n\nb", ("a", "\n\n", "b"), ("a", "\n\n", "b")),
        ("a é", ("a", " \ufffd", "\ufffd"), ("a", " \ufffd", "\ufffd")),
        ("", (), ()),
    ],
)
def test_tokens_make_the_parts_of_a_text(text, strings, parts):
    assert laid_out(text, strings) == parts


def test_continuations_are_compared_as_diff_does():
    found = compared((1, 2, 3, 4), (1, 9, 2, 3))
    assert (found.first_difference, found.marks, found.share_kept) == (1, (False, True, False, False), 0.75)
    assert compared((1, 2), (1, 2, 3)).first_difference == 2
    assert compared((1, 2), (1, 2)).first_difference is None
    assert compared((), ()).share_kept == 1.0


def test_marks_are_of_words_without_the_blanks_before_them():
    first, second = (
        Continuation(ids, strings, "".join(strings), "length")
        for ids, strings in (((1, 2, 3), (" a", " b", " c")), ((1, 5, 3), (" a", " x", " c")))
    )
    found = Variants(("one", "two"), ("", ""), (Prompted("p", (0,)),), ((first, second),))
    page = found.to_html()
    assert '<td class="w">a b c</td>' in page
    assert '<td class="w">a <mark class="p" style="--a:.25">x</mark> c</td>' in page
