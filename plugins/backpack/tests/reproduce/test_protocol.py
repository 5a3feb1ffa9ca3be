"""``interpd reproduce backpack --model``: the papers' protocol on a model and data of one's own."""

import json

import pytest
from backpack_tests.tiny import tiny_backpack

from interpd.cli.main import main

WORDS = ("nurse", "doctor", "developer", "teacher", "cat", "dog", "robot", "bread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a random Backpack of 12 senses."""
    folder = tmp_path_factory.mktemp("model")
    backpack, tokenizer = tiny_backpack(num_senses=12)
    backpack.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data of everything but texts, and of one task."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "similarity").mkdir()
    pairs = [f"{one}\t{other}\t{len(one)}.{len(other)}" for one in WORDS for other in WORDS[::2] if one != other]
    (folder / "similarity/rg.txt").write_text("\n".join((pairs * 3)[:65]))
    (folder / "topics.json").write_text(json.dumps({"food": ["fish", "bread"], "arts": ["music", "film"]}))
    lines = [json.dumps({"prefix": "The nurse said that", "suffix1": " he", "suffix2": " she"})]
    for name in ("train", "eval", "negatives"):
        (folder / f"gender.{name}.jsonl").write_text("\n".join(lines))
    for name in ("background", "held-out"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"text": "the cat ate fish and bread ."}))
    return folder


@pytest.fixture(scope="module")
def folder(model, data, tmp_path_factory):
    """What the command wrote."""
    folder = tmp_path_factory.mktemp("reproduction")
    command = ["reproduce", "backpack", "--quick", "--model", str(model), "--data", str(data), "--out", str(folder)]
    assert main(command) == 0
    return folder


@pytest.mark.slow
def test_every_part_whose_data_are_there_is_beside_the_paper(folder):
    page, numbers = (folder / "report.md").read_text(), json.loads((folder / "numbers.json").read_text())
    assert numbers["similarity"]["sets"]["rg"]["n_pairs"] == 65
    assert "0.6530" in page  # RG65, min
    assert numbers["bias"]["professions"] == ["developer", "teacher", "nurse"]
    assert "2.16" in page
    assert {row["variant"] for row in numbers["topics"]["rows"]} == {"unedited", *(f"strength {n}" for n in (1, 2, 3))}
    assert [row[:2] for row in numbers["senses"]] == [
        [word, end] for word in ("nurse", "developer") for end in ("most", "least")
    ]
    assert [row[0] for row in numbers["examples"]] == ["gender"]
    assert "+13.9" in page


@pytest.mark.slow
def test_what_lacks_data_is_skipped_with_the_reason(folder):
    page, numbers = (folder / "report.md").read_text(), json.loads((folder / "numbers.json").read_text())
    skipped = numbers["skipped"]
    assert "there is no texts in" in skipped["Language modelling (Table 2)"]
    # the tokenizer knows none of these words
    assert "Knowledge editing (section 6.3)" in skipped
    assert len(skipped) == 2
    assert "tweet-topic-21-multi): skipped" in page
    assert "MAUVE" in page


def test_data_without_a_model_are_refused(tmp_path, capsys):
    assert main(["reproduce", "backpack", "--data", str(tmp_path), "--out", str(tmp_path)]) == 3
    assert "name one with --model" in capsys.readouterr().err
