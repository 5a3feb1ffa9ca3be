"""Results of context attribution: files and pictures."""

import dataclasses
import json

import pytest
from attribution_golden import reading

from interpd.errors import CallerError
from interpd_attribution.pecore import ContextAttribution, ContextualCues
from interpd_attribution.pecore.reading import Marking
from interpd_attribution.pecore.screen import rendered

EVIL = '<script>x</script>"'


def cases():
    told = json.loads((reading.DATA / "context.json").read_text(encoding="utf-8"))
    return [case["output"] for case in told["cases"]]


@pytest.fixture
def found():
    """Two contexts, two sensitive tokens, hostile words."""
    cues = (
        ContextualCues(1, " she", -2.0, "a b she", " he", "b he", (0.1, -0.9, 0.2), (0.8, 0.1)),
        ContextualCues(0, "b", 1.5, "a b", "b", "b", (0.3, 0.1, 0.2), (0.1, 0.0)),
    )
    return ContextAttribution(
        input_context="a\n" + EVIL,
        input_context_tokens=("a", "▁", EVIL),
        output_context="x y",
        output_context_tokens=("x", " y"),
        output_current="b she",
        output_current_tokens=("b", " she", "\u202e"),
        cti_scores=(1.5, -2.0, 0.0),
        cci_scores=cues,
        info={"input_current_text": "now", "attribution_method": "saliency", "attribution_topk": 2},
    )


def test_files_of_inseq_are_read_and_written_as_they_are(tmp_path):
    for number, told in enumerate(cases()):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(told))
        found = ContextAttribution.load(path)
        assert found.to_dict() == told
        assert list(found.to_dict())[: len(told)] == list(told)


def test_a_result_survives_its_file(found, tmp_path):
    for name in ("out.json", "out.json.gz"):
        path = found.save(tmp_path / name)
        assert ContextAttribution.load(path) == found
        with pytest.raises(CallerError, match="exists"):
            found.save(path)
        found.save(path, overwrite=True, with_info=False)
        assert ContextAttribution.load(path).info is None


def test_a_file_that_inseq_showed_first_has_each_contexts_own_scores(found, tmp_path):
    """Showing appends the scores of the one context to those of the other, in place."""
    told = found.to_dict()
    one = told["cci_scores"][0]
    one["input_context_scores"] += one["output_context_scores"]
    one["output_context_scores"] += one["input_context_scores"]
    assert ContextAttribution.from_dict(told) == found


@pytest.mark.parametrize("wrong", [{}, {"cti_scores": [1.0]}, {"other": 1}, {"cci_scores": [{"a": 1}]}])
def test_other_files_are_refused(found, wrong):
    told = {**found.to_dict(), **wrong} if wrong else {}
    with pytest.raises(CallerError):
        ContextAttribution.from_dict(told)


def test_cues_stand_out_among_those_of_both_contexts(found):
    one = found.cci_scores[0]
    assert one.cues(None) == (("input", 1), ("output", 0), ("input", 2), ("input", 0), ("output", 1))
    assert one.cues(1.0) == (("input", 1), ("output", 0))
    assert one.cues(1.0, 1) == (("input", 1),)
    assert found.input_context_scores == (one.input_context_scores, found.cci_scores[1].input_context_scores)


def test_the_page_has_words_as_words_and_no_script(found):
    page = found.html(page=True)
    assert "<script" not in page
    assert "http" not in page
    assert "&lt;script&gt;x&lt;/script&gt;&quot;" in page
    assert "\\u202e" in page
    assert page.count("<details open>") == 1
    assert "instead of <mark><bdi> he" in page
    # what would have come anyway is no alternative
    assert page.count("instead of") == 1


def test_marks_are_those_of_the_limits(found):
    def n_marks(html):
        # sensitive tokens are marked in the output and at the head of their cues
        return html.count('class="cue"') - 4

    assert n_marks(found.html(attribution_std_threshold=None, attribution_topk=None)) == 9
    assert n_marks(found.html()) == 2 + 1
    assert n_marks(found.html(attribution_std_threshold=None, attribution_topk=1)) == 2
    with pytest.raises(TypeError, match="no option 'topk'"):
        found.html(topk=1)


def printed(found, *, is_plain):
    parts = rendered(found, Marking(1.0, None), is_plain=is_plain).renderables
    return [str(part.renderable if hasattr(part, "renderable") else part) for part in parts]


def test_where_there_are_no_colours_marks_are_brackets_with_numbers(found):
    lines = printed(found, is_plain=True)
    assert "output: [b 1.5] [she -2]\\u202e" in lines


def test_a_terminal_shows_the_same(found):
    lines = printed(found, is_plain=False)
    assert lines[0].startswith("Context attribution")
    assert "input context: a↵" + EVIL in lines
    assert "output: b she\\u202e" in lines
    assert "→  she  -2  instead of  he" in lines
    assert "→ b  1.5" in lines


def test_nothing_sensitive_is_said(found):
    assert "no token is sensitive" in dataclasses.replace(found, cci_scores=()).html()
