"""What a report writes: a page, pictures, numbers."""

import json
from xml.etree import ElementTree

import numpy as np

from interpd_attribution.reproduce.figures import heatmaps, scatter
from interpd_attribution.reproduce.report import Report


def test_a_report_says_what_it_writes(tmp_path, capsys):
    report = Report("On things")
    report.heading("One")
    report.table(("a", "longer"), [(1, 2.5), ("three", "x")])
    report.figure("picture", scatter({"all": [(0.2, 0.9)]}, "x", "y"), "points")
    report.findings({"it is so": True, "it is not": False})
    report.numbers["table"] = {"nan": float("nan"), "array": np.array([1.5, np.inf]), 3: (np.float32(0.5), True)}
    report.save(tmp_path)
    page = (tmp_path / "report.md").read_text()
    said = capsys.readouterr().out
    assert page.startswith("# On things\n\n## One\n")
    assert "| a     | longer |\n|-------|--------|\n| 1     | 2.5    |\n| three | x      |" in page
    assert page.replace("# On things\n\n", "").replace("![points](picture.svg)\n\n", "") == said[:-1]
    assert "* NO : it is not" in page
    assert json.loads((tmp_path / "numbers.json").read_text()) == {
        "table": {"nan": None, "array": [1.5, None], "3": [0.5, True]}
    }


def test_a_heatmap_has_a_cell_for_each_number_that_is_known():
    svg = heatmaps({"A & B": np.array([[1.0, np.nan], [-0.5, 0.0]])}, ("first", "second"), ("0", "1"), "block")
    root = ElementTree.fromstring(svg)
    cells = [one.get("fill") for one in root.findall("{*}rect")][1:]
    assert cells == ["rgb(194, 65, 12)", "rgb(142, 166, 236)", "rgb(255, 255, 255)"]
    assert [one.text for one in root.findall("{*}text")].count("A & B") == 1


def test_small_numbers_can_be_read_and_labels_fit():
    rows = ("a short one", "a label that is a good deal longer")
    root = ElementTree.fromstring(heatmaps({"CAT": np.array([[1.2e-4], [-3e-7]])}, rows, ("0",), "block"))
    texts = [one.text for one in root.findall("{*}text")]
    assert {"CAT (×10⁻⁴)", "1.20", "0.00"} <= set(texts)
    (longest,) = (one for one in root.findall("{*}text") if one.text == rows[1])
    assert float(longest.get("x")) > 7 * len(rows[1])


def test_points_lie_where_they_should():
    root = ElementTree.fromstring(scatter({"one": [(0.0, 0.0)], "two": [(1.0, 1.0)]}, "x", "y"))
    dots = [(float(one.get("cx")), float(one.get("cy"))) for one in root.findall("{*}circle")]
    assert dots[0] == (52.0, 320.0)
    assert dots[2] == (352.0, 20.0)
