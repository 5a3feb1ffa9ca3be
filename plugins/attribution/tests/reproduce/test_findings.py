"""``interpd reproduce attribution --quick`` finds what the full size finds."""

import json

import pytest

from interpd.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the command wrote."""
    folder = tmp_path_factory.mktemp("reproduction")
    assert main(["reproduce", "attribution", "--quick", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def numbers(folder):
    return json.loads((folder / "numbers.json").read_text())


def test_a_planted_bias_is_found_by_contrast(numbers):
    gender = numbers["gender"]
    assert all(gender["findings"].values()), gender["findings"]
    assert gender["follows_planted"]["tau"] > 0.9
    assert [len(row) for row in gender["correlations"].values()] == [4, 4, 4, 4]


def test_facts_are_early_at_the_subject_and_late_at_the_end(numbers):
    facts = numbers["facts"]
    assert all(facts["findings"].values()), facts["findings"]
    assert min(one["pearson"] for one in facts["agreement"]["integrated"].values()) > 0.9


def test_ten_methods_and_more_are_compared_on_both_models(numbers):
    for name in ("facts", "translate"):
        table = numbers[f"faithfulness_{name}"]
        assert len(table) == 15
        assert table["feature ablation"]["comprehensiveness"]["mean"] > table["random"]["comprehensiveness"]["mean"]
        assert table["feature ablation"]["tau_loo"]["mean"] > 0.99


def test_the_report_shows_its_figures_and_the_papers_numbers(folder):
    page = (folder / "report.md").read_text()
    for figure in folder.glob("*.svg"):
        assert f"]({figure.name})" in page
    assert len(list(folder.glob("*.svg"))) == 6
    assert "-0.44*" in page
    assert "differs from the paper" in page
