"""``interpd reproduce backpack --quick``: what it claims holds, and its figures show its numbers."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from interpd.cli.main import main
from interpd_backpack.finding.finetuned import RADII
from interpd_backpack.reproduce.bias import share_gone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the command wrote."""
    folder = tmp_path_factory.mktemp("reproduction")
    assert main(["reproduce", "backpack", "--quick", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def numbers(folder):
    return json.loads((folder / "numbers.json").read_text())


def bars(folder, name):
    """What the bars of a figure say, by label and series."""
    root = ElementTree.fromstring((folder / f"{name}.svg").read_text())
    said = [title.text.rpartition(": ") for title in root.iter("{http://www.w3.org/2000/svg}title")]
    return {label: float(value) for label, _, value in said}


def test_what_is_claimed_holds(numbers):
    assert all(numbers["findings"].values()), numbers["findings"]
    assert len(numbers["findings"]) == 11


def test_senses_are_finetuned_inside_each_ball_and_gain_more(numbers):
    company = numbers["examples"]["company"]
    for method in ("senses", "all weights", "the transformer, all weights"):
        for one, radius in zip(company[method], RADII, strict=True):
            assert one["ratio"] <= 1 + radius
    gains = [one["evaluation"]["after"] - one["evaluation"]["before"] for one in company["senses"]]
    assert min(gains) > 0.3


def test_figures_show_the_numbers(folder, numbers):
    shown = bars(folder, "bias")
    assert shown["Backpack, here"] == pytest.approx(numbers["bias"]["here"]["Backpack"], rel=1e-5)
    assert shown["transformer, paper"] == 7.02
    assert bars(folder, "perplexity")["here, transformer"] == pytest.approx(numbers["perplexity"]["twin"], rel=1e-5)
    by_sense = bars(folder, "similarity")
    rho = numbers["similarity"]["similarity-verbs"]
    assert [by_sense[f"sense {sense}, verbs"] for sense in range(16)] == pytest.approx(
        [rho[f"sense {sense}"] for sense in range(16)], rel=1e-5
    )
    assert len(bars(folder, "topics")) == 8
    assert len(bars(folder, "examples-company")) == 9


def test_the_report_shows_its_figures_and_the_papers_numbers(folder):
    page = (folder / "report.md").read_text()
    figures = list(folder.glob("*.svg"))
    assert len(figures) == 6
    assert all(f"]({figure.name})" in page for figure in figures)
    for of_the_paper in ("20.1", "0.540", "35.3", "2.16", "+4.9"):
        assert of_the_paper in page
    assert "is not so here" in page


def test_what_is_gone_of_a_bias_is_a_share_of_what_is_above_one():
    assert share_gone(4.34, 2.16) == pytest.approx(0.653, abs=1e-3)
    assert np.isclose(share_gone(3.0, 3.0), 0.0)
