"""Foils as the constants of a method: spelling, alignment, labels."""

import importlib.metadata

import pytest
from attribution_golden import reading

from interpd.errors import CallerError
from interpd_attribution import contrast
from interpd_attribution.contrast import Contrast, Spelling, aligned, by_equal_tokens, contrast_of

VOCABULARY = ["<s>", "The", "nurse", "doctor", "said", "that", "she", "he", "left", "they", "stayed", "home"]
PROMPT = (0, 1, 2, 4, 5)
TARGET = (*PROMPT, 6, 8)


def ids_of(text):
    return tuple(map(VOCABULARY.index, text.split())) if isinstance(text, str) else tuple(text)


SPELLING = Spelling(
    continued=lambda text: (*PROMPT, *ids_of(text)),
    whole=lambda text: (0, *ids_of(text)),
    source=ids_of,
    strings=lambda ids: [VOCABULARY[id_] for id_ in ids],
)

SPELLING_OF_IDS = Spelling(SPELLING.continued, tuple, SPELLING.source, SPELLING.strings)


def resolved(asked, start=5, stop=7):
    return contrast_of(asked).resolved(TARGET, start, stop, SPELLING)


def test_a_text_is_another_continuation():
    found = resolved("he left")
    assert found.constants == {"contrast_ids": (*PROMPT, 7, 8)}
    assert found.positions == ((5, 6),)
    assert resolved([7, 8]) == found


def test_differing_tokens_are_shown_with_their_foils():
    assert resolved("he left").labels([("she", 6), ("left", 8)]) == [("he → she", -1), ("left", 8)]
    both = resolved(["he left", "they left"])
    assert both.labels([("she", 6), ("left", 8)]) == [("he | they → she", -1), ("left", 8)]


def test_several_foils_stand_behind_one_another():
    found = resolved(["he left", "they stayed home"])
    assert found.constants == {
        "contrast_ids": (*PROMPT, 7, 8, *PROMPT, 9, 10, 11),
        "contrast_lengths": (7, 8),
        "contrast_positions": (5, 6, 5, 6),
    }
    assert found.positions == ((5, 6), (5, 6))


def test_a_longer_foil_is_counted_from_the_beginning_of_the_continuation():
    found = resolved("he left home")
    assert found.positions == ((5, 6),)
    assert found.constants["contrast_positions"] == (5, 6)
    assert found.labels([("she", 6), ("left", 8)]) == [("he → she", -1), ("left", 8)]
    assert "'he left home' is longer than the continuation" in found.warnings[0]
    assert "its last 1 tokens stand for nothing" in found.warnings[0]
    # what comes behind the attributed ones is there on both sides
    early = resolved("he left", stop=6)
    assert (early.positions, early.warnings) == (((5,),), ())
    whole = SPELLING.continued("he left home")
    assert contrast_of(Contrast(whole, whole=True)).resolved(TARGET, 5, 7, SPELLING_OF_IDS).positions == ((6, 7),)
    assert not resolved(Contrast("they stayed home", as_wholes=True)).warnings


def test_foils_that_cannot_differ_or_be_spelled_are_told_of():
    assert resolved("she left").warnings == (
        "contrast: the foil 'she left' is the target itself, so they differ in nothing",
    )
    unknown = Spelling(
        lambda text: (*PROMPT, 12, 8), SPELLING.whole, ids_of, lambda ids: [[*VOCABULARY, "<unk>"][id_] for id_ in ids]
    )
    (said,) = contrast_of("it left").resolved(TARGET, 5, 7, unknown).warnings
    assert "cannot spell the foil 'it left': its tokens are ['<unk>', 'left']" in said
    assert not contrast_of("<unk> left").resolved(TARGET, 5, 7, unknown).warnings
    assert not resolved("he left").warnings


def test_a_whole_foil_has_a_prompt_of_its_own():
    found = resolved(Contrast("The doctor said that he left", whole=True, force_inputs=True))
    assert found.constants == {
        "contrast_ids": (0, 1, 3, 4, 5, 7, 8),
        "contrast_force_inputs": True,
        "contrast_shared": 2,
    }


def test_how_much_is_shared_can_be_said():
    assert "contrast_shared" not in resolved(Contrast("he left", force_inputs=True, shared=0)).constants
    assert resolved(Contrast("he left", force_inputs=True, shared=3)).constants["contrast_shared"] == 3
    assert resolved(Contrast(["he left", "she stayed"], force_inputs=True)).constants["contrast_shared"] == 5
    with pytest.raises(CallerError, match="shared is 6, but the foils begin with 5"):
        resolved(Contrast("he left", force_inputs=True, shared=6))


def test_another_source_alone_contrasts_the_target_with_itself():
    found = resolved(Contrast(source="The doctor", force_inputs=True))
    assert found.constants == {"contrast_source_ids": (1, 3), "contrast_force_inputs": True}
    assert found.labels([("she", 6), ("left", 8)]) == [("she", 6), ("left", 8)]


def test_wholes_of_any_length_are_contrasted():
    found = resolved(Contrast("they stayed home", as_wholes=True))
    assert found.constants == {
        "contrast_ids": (*PROMPT, 9, 10, 11),
        "contrast_start": 5,
        "contrast_force_inputs": True,
        "contrast_shared": 5,
    }
    assert found.labels([("she left", -1)]) == [("she left", -1)]
    with pytest.raises(CallerError, match="foils begin with the 5 tokens"):
        resolved(Contrast("The doctor said that he", whole=True, as_wholes=True))
    with pytest.raises(CallerError, match="no tokens behind the prompt"):
        resolved(Contrast("", as_wholes=True))


def test_given_pairs_come_first():
    found = resolved(Contrast("they stayed home", alignments=[(5, 5)]))
    assert found.constants["contrast_positions"] == (5, 7)
    lists = Contrast(["they stayed home", "he left"], alignments=[[(5, 5)], []])
    assert resolved(lists).constants["contrast_positions"] == (5, 7, 5, 6)
    assert "contrast_positions" not in resolved(Contrast("he left", alignments=[(5, 5)])).constants


@pytest.mark.parametrize(
    ("alignments", "said"),
    [
        ([(5, 8)], r"alignment \(5, 8\): something predicts the foil's positions 1 to 7"),
        ([(5, 0)], r"alignment \(5, 0\)"),
        ([[(5, 5)], [(5, 5)]], "2 lists of pairs for 1 foils"),
        ([[5, 5, 5]], "is no pair of positions"),
        ("best", "no aligner 'best'; there are auto"),
    ],
)
def test_alignments_that_cannot_be_are_refused(alignments, said):
    with pytest.raises(CallerError, match=said):
        resolved(Contrast("they stayed home", alignments=alignments))


def test_a_short_foil_needs_pairs():
    short = Contrast([0, 7], whole=True)
    with pytest.raises(CallerError, match=r"too few .* alignments='auto'"):
        short.resolved(TARGET, 5, 7, SPELLING_OF_IDS)
    as_inseq = Contrast([0, 7], whole=True, beyond="last").resolved(TARGET, 5, 7, SPELLING_OF_IDS)
    assert as_inseq.positions == ((1, 1),)


def test_equal_tokens_find_one_another():
    target, foil = ["<s>", "she", "left", "home"], ["<s>", "then", "they", "left", "her", "home"]
    assert by_equal_tokens(target, foil) == [(0, 1), (1, 1), (2, 3), (3, 5)]
    # nothing stands for "left": what comes in its place
    assert by_equal_tokens(["<s>", "she", "left", "home"], ["<s>", "she", "home"])[2:] == [(2, 2), (3, 2)]
    assert by_equal_tokens(["<s>", "home", "x"], ["<s>", "home"])[2] == (2, 1)


def test_tokens_are_aligned_by_themselves():
    found = resolved(Contrast("they she left", alignments="auto"))
    assert found.positions == ((6, 7),)
    assert resolved(Contrast("left", alignments="auto")).positions == ((5, 5),)


def test_functions_and_installed_aligners_are_taken(monkeypatch):
    def first_to_first(target, foil):
        assert (target[5], foil[5]) == ("she", "they")
        return [(5, 5)]

    class Point:
        name = "first"

        def load(self):
            return first_to_first

    monkeypatch.setattr(contrast, "entry_points", lambda group: [Point()] if group == contrast.GROUP else [])
    for aligner in (first_to_first, "first"):
        assert resolved(Contrast("they stayed home", alignments=aligner)).positions == ((5, 7),)
    assert importlib.metadata.entry_points(group=contrast.GROUP) is not None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"source": "a", "whole": True},
        {"source": "a", "alignments": "auto"},
        {"foils": "a", "as_wholes": True, "alignments": "auto"},
        {"foils": "a", "as_wholes": True, "force_inputs": False},
        {"foils": "a", "beyond": "first"},
    ],
)
def test_what_cannot_go_together_is_refused(options):
    with pytest.raises(CallerError):
        Contrast(**options)


def test_no_foil_is_refused():
    with pytest.raises(CallerError, match="there is no foil"):
        resolved(Contrast([]))


@pytest.mark.parametrize("name", reading.TINY)
def test_alignments_are_inseqs(name):
    """Given pairs and those that are filled in; two sequences, of which one may be shorter."""
    golden = reading.golden(f"{name}.scores")
    known = [case for case in golden.cases if not case.raises and case.alignments]
    assert len(known) >= 5
    for case in known:
        n_foil, n_target = (len(case.sequence(which).ids) for which in (case.contrast, "target"))
        given = [tuple(pair) for pair in case.told.get("arguments", {}).get("given", ())]
        found = aligned(given, (case.start, n_target), n_foil, beyond="last")
        assert list(zip(range(case.start, n_target), found, strict=True)) == list(case.alignments), case.id
