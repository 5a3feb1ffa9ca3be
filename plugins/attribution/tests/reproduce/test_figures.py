"""Pictures of a report."""

from xml.etree import ElementTree

import numpy as np

from interpd_attribution.reproduce.figures import heatmaps, scatter


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
