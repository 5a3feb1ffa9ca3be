"""``interpd attribute-dataset``: each row as if alone; nothing is lost when some fail or a run ends early."""

import json

import numpy as np
import pytest

from interpd_attribution.attributions import Attributions
from interpd_attribution.dataset.partial import Partial

TEXTS = ["the cat sat", "the dog", "on the mat"]
SHORT = ("--max-new-tokens", 3, "--hide")


@pytest.fixture
def texts(tmp_path):
    """A dataset of three rows."""
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS))
    return path


@pytest.fixture
def questions(tmp_path):
    """A dataset of which the second row has no answer, and the third answers nothing."""
    path = tmp_path / "questions.jsonl"
    rows = [{"q": "the cat", "a": " sat on"}, {"q": "the dog"}, {"q": "the mat", "a": " sat on", "no": " ran on"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def same(one, other):
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-6)


def test_each_row_is_attributed_as_if_it_were_alone(line_gpt2, gpt2, texts, tmp_path):
    output, page = tmp_path / "out.json", tmp_path / "out.html"
    code, out, err = line_gpt2("attribute-dataset", "-d", texts, "-o", output, "--viz-path", page, *SHORT)
    assert (code, out, err) == (0, "", "")
    found = Attributions.load(output)
    for text, one in zip(TEXTS, found, strict=True):
        same(one, gpt2.attribute(text, generation={"max_new_tokens": 3}))
    assert found.info["dataset"]["n_rows"] == 3
    assert page.read_text().count("3 of 3, row 2: saliency of probability; raw scores<") == 1
    assert not list(tmp_path.glob("*.partial"))


def test_a_row_that_fails_does_not_lose_the_others(line_gpt2, gpt2, questions, tmp_path):
    output = tmp_path / "out.json"
    ask = ("attribute-dataset", "-d", questions, "-in", "q", "-gen", "a", "--hide", "-o", output)
    code, _, err = line_gpt2(*ask)
    assert code == 1
    assert f"row 1 ({questions}, line 2): field 'a' is missing" in err
    assert "1 row failed, 2 have results; --resume tries them again" in err
    found = Attributions.load(output)
    assert [one.info["dataset_row"] for one in found] == [0, 2]
    same(found[1], gpt2.attribute("the mat", " sat on"))
    assert found.info["dataset"]["failed"] == {"1": "field 'a' is missing"}


def test_a_run_that_ended_early_is_gone_on_with(line_gpt2, texts, tmp_path):
    output = tmp_path / "out.json"
    ask = ("attribute-dataset", "-d", texts, "-o", output, *SHORT)
    assert line_gpt2(*ask)[0] == 0
    whole = Attributions.load(output)
    # as if the last row had never been reached
    whole[:2].save(output, overwrite=True)
    assert line_gpt2(*ask)[0] == 2
    assert line_gpt2(*ask, "--resume")[0] == 0
    again = Attributions.load(output)
    assert again[0].info["run_id"] == whole[0].info["run_id"]
    assert again[2].info["run_id"] != whole[2].info["run_id"]
    same(again[2], whole[2])
    code, _, err = line_gpt2(*ask, "--resume", "-a", "input_x_gradient")
    assert code == 3
    assert "made with other settings (method was 'saliency')" in err


def test_what_an_interrupted_run_has_is_told(line_gpt2, texts, tmp_path, monkeypatch):
    output = tmp_path / "out.json"
    add = Partial.add

    def interrupted(self, found):
        add(self, found)
        raise KeyboardInterrupt

    monkeypatch.setattr(Partial, "add", interrupted)
    code, _, err = line_gpt2("attribute-dataset", "-d", texts, "-o", output, *SHORT)
    assert code == 130
    assert f"interrupted; rows with a result: 1, in {output}.partial; --resume goes on with them" in err


def test_results_go_to_standard_output_with_the_rows_that_failed(line_gpt2, questions, tmp_path):
    code, out, _ = line_gpt2("attribute-dataset", "-d", questions, "-in", "q", "-gen", "a", "--json")
    assert code == 1
    document = json.loads(out)
    assert len(document["sequences"]) == 2
    assert document["failed"] == {"1": "field 'a' is missing"}


def test_a_request_that_no_row_can_answer_is_refused(line_gpt2, texts):
    code, _, err = line_gpt2("attribute-dataset", "-d", texts, "-a", "salience", *SHORT)
    assert code == 3
    assert "no attribution method 'salience'" in err
    code, _, err = line_gpt2("attribute-dataset", "-d", texts, "--target", "probabilty", *SHORT)
    assert code == 1
    assert "row 2" in err


def test_contrasts_are_a_field(line_gpt2, gpt2, questions, tmp_path):
    ask = ("-in", "q", "-gen", "a", "--contrast-field", "no", "--target", "contrast_prob_diff", "--hide")
    output = tmp_path / "out.json"
    assert line_gpt2("attribute-dataset", "-d", questions, *ask, "-o", output)[0] == 1
    (found,) = Attributions.load(output)
    same(found, gpt2.attribute("the mat", " sat on", contrast=" ran on", target="contrast_prob_diff"))


def test_aggregated_rows_are_written_aggregated(line_gpt2, texts, tmp_path):
    output = tmp_path / "out.json"
    ask = ("-a", "input_x_gradient", "--attribution-aggregators", "sum", "--normalize-attributions", *SHORT)
    assert line_gpt2("attribute-dataset", "-d", texts, *ask, "-o", output)[0] == 0
    for one in Attributions.load(output):
        np.testing.assert_allclose(np.nansum(np.abs(one.scores), 0), 1, rtol=1e-5)


def test_tables_are_shown_as_rows_come(line_gpt2, texts):
    code, out, _ = line_gpt2("attribute-dataset", "-d", texts, "--max-new-tokens", 1)
    assert code == 0
    assert out.count("Target attribution") == 3
