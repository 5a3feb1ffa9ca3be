"""The table of an evaluation."""

import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from interpd.errors import CallerError
from interpd_attribution.evaluation import Evaluation
from interpd_attribution.evaluation.drawing import terminal
from interpd_attribution.evaluation.metrics import METRICS

VALUES = [
    [[0.1, 0.3, np.nan], [2.0, 4.0, 6.0], [1.0, 1.0, 1.0]],
    [[0.5, 0.2, np.nan], [1.0, 1.0, 1.0], [0.0, 2.0, 4.0]],
]


@pytest.fixture
def table():
    return Evaluation(("saliency", "random"), ("comprehensiveness", "infidelity", "gini"), VALUES, {"target": "logit"})


def test_a_cell_is_a_mean_with_its_standard_error(table):
    found = table["saliency", "infidelity"]
    assert (found.mean, found.n) == (4.0, 3)
    assert found.standard_error == pytest.approx(2 / math.sqrt(3))
    assert found.interval == pytest.approx((4 - 1.96 * 2 / math.sqrt(3), 4 + 1.96 * 2 / math.sqrt(3)))


def test_inputs_of_which_a_metric_is_not_defined_do_not_count(table):
    assert table["random", "comprehensiveness"].n == 2
    assert table["random", "comprehensiveness"].mean == pytest.approx(0.35)


def test_methods_are_compared_input_by_input(table):
    found = table.difference("saliency", "random", "comprehensiveness")
    assert (round(found.mean, 6), found.n) == (-0.15, 2)
    assert found.standard_error == pytest.approx(0.25)
    assert str(found) == "-0.15 ± 0.25, 2 inputs"


def test_one_input_has_no_standard_error_to_show():
    table = Evaluation(("saliency",), ("infidelity",), [[[2.5]]])
    assert repr(table["saliency", "infidelity"]) == "<figure: 2.5, 1 input>"
    console = Console(file=io.StringIO(), width=60)
    console.print(terminal(table, 60))
    for shown in (console.file.getvalue(), table.html()):
        assert "2.5" in shown
        assert "nan" not in shown


def test_the_best_follows_from_the_metric(table):
    assert (table.best("comprehensiveness"), table.best("infidelity")) == ("random", "random")
    with pytest.raises(CallerError, match="no better and worse"):
        table.best("gini")


def test_rows_are_cells(table):
    rows = table.rows()
    assert len(rows) == 6
    assert set(rows[0]) == {"method", "metric", "mean", "standard_error", "low", "high", "n", "better"}
    assert [row["better"] for row in rows[:3]] == ["high", "low", ""]


def test_a_file_gives_the_table_back(table, tmp_path):
    path = tmp_path / "table.json"
    table.save(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    again = Evaluation.load(path)
    np.testing.assert_array_equal(again.values, table.values)
    assert (again.methods, again.metrics, again.info) == (table.methods, table.metrics, table.info)
    with pytest.raises(CallerError, match="overwrite=True"):
        table.save(path)


@pytest.mark.parametrize("text", ["no json", "{}", '{"format": "interpd-attribution-evaluation", "version": 1}'])
def test_other_files_are_refused(text, tmp_path):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(CallerError):
        Evaluation.load(tmp_path / "other.json")


def test_the_terminal_shows_all_cells_and_which_way_is_better(table):
    console = Console(file=io.StringIO(), width=100)
    console.print(terminal(table, 100))
    text = console.file.getvalue()
    for said in ("comprehensiveness ↑", "infidelity ↓", "gini", "0.35 ± 0.15", "logit on 3 inputs"):
        assert said in text


def test_what_is_too_wide_for_a_terminal_is_cut_between_methods():
    names = tuple(f"method_{number}" for number in range(9))
    table = Evaluation(names, ("infidelity",), np.arange(18.0).reshape(9, 1, 2))
    console = Console(file=io.StringIO(), width=60)
    console.print(terminal(table, 60))
    text = console.file.getvalue()
    assert all(f"{name} " in text for name in names)
    assert text.count("infidelity") == 3
    assert max(map(len, text.splitlines()[1:-3])) <= 60


def test_html_marks_the_best_and_escapes_names():
    table = Evaluation(("a<b", "c"), ("infidelity",), [[[1.0, 2.0]], [[3.0, 4.0]]])
    text = table.html(page=True)
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert len(re.findall("<b>", text)) == 1


def test_values_cannot_be_written_to_and_have_to_fit(table):
    with pytest.raises(ValueError, match="read-only"):
        table.values[0, 0, 0] = 1.0
    with pytest.raises(CallerError, match=r"\[1, 1, 'inputs'\]"):
        Evaluation(("a",), ("gini",), np.zeros((2, 1, 3)))


def test_every_metric_of_the_workers_is_described():
    from interpd_attribution.worker.evaluation import metrics as of_workers

    assert {name for name, about in METRICS.items() if about.is_of_workers} == set(of_workers.METRICS)
