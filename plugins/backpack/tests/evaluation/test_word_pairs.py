"""Files of word pairs in the forms in which they are published."""

import numpy as np
import pytest

from interpd.errors import InvalidRequest
from interpd_backpack.evaluation.word_pairs import read_word_pairs

SIMLEX = "word1\tword2\tPOS\tSimLex999\tconc(w1)\told\nold\tnew\tA\t1.58\t2.72\t7\nsmart\tclever\tA\t9.2\t1.75\t7\n"
FORMS = {
    "SimLex-999.txt": (SIMLEX, [1.58, 9.2]),
    "SimVerb-3500.txt": ("old\tnew\tV\t6.81\tSYNONYMS\nsmart\tclever\tV\t1.5\tNONE\n", [6.81, 1.5]),
    "rg65.csv": ("old;new;3.94\nsmart;clever;0.02\n", [3.94, 0.02]),
    "wordsim353.csv": ("Word 1,Word 2,Human (mean)\nold,new,6.77\nsmart,clever,7.35\n", [6.77, 7.35]),
    "EN-RG-65.txt": ("old\tnew\t3.94\r\nsmart\tclever\t3\r\n", [3.94, 3.0]),
    "spaces.txt": ("# comment\nold  new 3.94\n\nsmart clever -1e-1\n", [3.94, -0.1]),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_published_form_is_read(tmp_path, name):
    text, ratings = FORMS[name]
    (tmp_path / name).write_text(text, newline="")
    found = read_word_pairs(tmp_path / name)
    assert found.pairs == (("old", "new"), ("smart", "clever"))
    assert found.ratings.tolist() == ratings
    assert found.name == name.rsplit(".", 1)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no word pairs"),
        ("a b 1\nc d\n", "line 2 is no word pair: 'c d'"),
        ("a b 1\nc d nan\n", "line 2: the rating is nan"),
        ("word1 word2 score\n", "no word pairs"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(InvalidRequest, match=said):
        read_word_pairs(tmp_path / "pairs.txt")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match=r"nowhere.*cannot be read"):
        read_word_pairs(tmp_path / "nowhere.txt")


SIZES = {
    **{"MC-30": 30, "MEN-TR-3k": 3000, "MTurk-287": 287, "MTurk-771": 771, "RG-65": 65, "RW-STANFORD": 2034},
    **{"SIMLEX-999": 999, "SimVerb-3500": 3500, "VERB-143": 144, "WS-353-ALL": 353, "WS-353-REL": 252},
    **{"WS-353-SIM": 203, "YP-130": 130},
}


def test_the_collection_of_thirteen_files_is_read_whole(shared):
    files = sorted((shared / "data" / "word-similarity").glob("*.txt"))
    found = {one.stem.removeprefix("EN-"): read_word_pairs(one) for one in files}
    assert {name: len(pairs) for name, pairs in found.items()} == SIZES
    assert all(np.isfinite(pairs.ratings).all() for pairs in found.values())
    simlex = found["SIMLEX-999"]
    assert simlex.pairs[1] == ("smart", "intelligent")
    assert simlex.ratings[1] == 9.2
