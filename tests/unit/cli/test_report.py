"""What a report writes: a page, pictures, numbers."""

import json

import numpy as np

from interpd.cli import Report


def test_a_report_says_what_it_writes(tmp_path, capsys):
    report = Report("On things")
    report.heading("One")
    report.table(("a", "longer"), [(1, 2.5), ("three", "x")])
    report.figure("picture", "<svg/>", "points")
    report.findings({"it is so": True, "it is not": False})
    report.numbers["table"] = {"nan": float("nan"), "array": np.array([1.5, np.inf]), 3: (np.float32(0.5), True)}
    report.save(tmp_path)
    assert (tmp_path / "picture.svg").read_text() == "<svg/>"
    page = (tmp_path / "report.md").read_text()
    said = capsys.readouterr().out
    assert page.startswith("# On things\n\n## One\n")
    assert "| a     | longer |\n|-------|--------|\n| 1     | 2.5    |\n| three | x      |" in page
    assert page.replace("# On things\n\n", "").replace("![points](picture.svg)\n\n", "") == said[:-1]
    assert "* NO : it is not" in page
    assert json.loads((tmp_path / "numbers.json").read_text()) == {
        "table": {"nan": None, "array": [1.5, None], "3": [0.5, True]}
    }
