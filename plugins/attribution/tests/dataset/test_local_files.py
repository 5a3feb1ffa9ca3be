"""Datasets in files: the same rows out of every kind, and errors that name file and line."""

import gzip
import json
import sys

import pytest

from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd_attribution.dataset import read_rows

RECORDS = [{"q": "one, two", "a": "three"}, {"q": 'with "quotes"\nand lines', "a": "té"}]

FILES = {
    "data.json": json.dumps(RECORDS),
    "data.jsonl": "\n".join(map(json.dumps, RECORDS)) + "\n\n",
    "data.csv": 'q,a\n"one, two",three\n"with ""quotes""\nand lines",té\n',
    "data.tsv": 'q\ta\none, two\tthree\n"with ""quotes""\nand lines"\tté\n',
}


@pytest.fixture
def write(tmp_path):
    def written(name, content):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return written


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_rows(write, name, ending):
    rows = read_rows(write(name + ending, FILES[name]), input_field="q", generated_field="a")
    assert [(row.number, row.input, row.generated) for row in rows] == [
        (0, "one, two", "three"),
        (1, 'with "quotes"\nand lines', "té"),
    ]
    assert not any(row.problem for row in rows)


def test_lines_of_text_are_rows_and_empty_ones_are_none(write):
    rows = read_rows(write("data.txt", "first\r\n\r\n  second\u2028still\n"))
    assert [row.input for row in rows] == ["first", "  second\u2028still"]
    assert rows[1].place.endswith("data.txt, line 3")


def test_several_files_and_folders_are_read_one_behind_the_other(write, tmp_path):
    write("b.txt", "three")
    write("a.jsonl", '{"text": "one"}\n"two"\n')
    write("notes.md", "not a row")
    rows = read_rows(tmp_path)
    assert [(row.number, row.input) for row in rows] == [(0, "one"), (1, "two"), (2, "three")]


def test_what_spreadsheets_write_first_is_no_part_of_a_name(write):
    path = write("data.csv", "\ufeffq\nhello\n")
    assert read_rows(path, input_field="q")[0].input == "hello"


def test_options_say_how_files_are_written(write):
    path = write("data.csv", "q;a\nü;b\n".encode("latin-1"))
    rows = read_rows(path, input_field="q", options={"delimiter": ";", "encoding": "latin-1"})
    assert rows[0].input == "ü"
    nested = write("data.json", json.dumps({"data": {"train": ["x", "y"]}}))
    assert [row.input for row in read_rows(nested, options={"field": "data.train"})] == ["x", "y"]


def test_chats_and_token_ids_are_inputs(write):
    chat = [{"role": "user", "content": "hi"}]
    path = write("data.jsonl", json.dumps({"q": chat}) + "\n" + json.dumps({"q": [1, 2, 3]}))
    rows = read_rows(path, input_field="q")
    assert [row.input for row in rows] == [chat, [1, 2, 3]]
    assert not any(row.problem for row in rows)


def test_rows_without_a_text_say_so(write):
    records = [{"q": "good", "a": "b"}, {"q": None, "a": "b"}, {"q": "good"}, {"q": "", "a": "b"}, {"q": 3.5, "a": "b"}]
    path = write("data.json", json.dumps(records))
    rows = read_rows(path, input_field="q", generated_field="a")
    problems = [row.problem for row in rows]
    assert problems[:2] == ["", "field 'q' is missing"]
    assert problems[2:4] == ["field 'a' is missing", "field 'q' is empty"]
    assert problems[4] == "field 'q' is 3.5, expected a text, a list of token ids or of chat messages"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.jsonl", '{"q": "x"}\n{"q": \n', r"data.jsonl, line 2 is no JSON"),
        ("data.jsonl", '{"q": "x"}\n[1]\n', r"data.jsonl, line 2: list, expected an object with fields"),
        ("data.json", '{"q": "x"}', r"holds no list of rows; its fields are q"),
        ("data.json", "{", r"is no JSON: .*; files with an object on each line end in .jsonl"),
        ("data.csv", "q\na,b\n", r"data.csv, line 2 has more values than the first line has names"),
        ("data.csv", b"q\n\xff\n", r"data.csv cannot be read as csv: .*utf-8"),
        ("data.json", "[]", r"data.json has no rows"),
        ("data.pkl", "", r"what kind of file is that\? Known are .json, .jsonl"),
        ("data.jsonl", '{"text": "x"}', r"has no field 'q'; its fields are: text"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(write, name, content, said):
    with pytest.raises(InvalidRequest, match=said):
        read_rows(write(name, content), input_field="q")


def test_a_field_that_nobody_names_must_be_the_only_one(write):
    path = write("data.json", json.dumps(RECORDS))
    with pytest.raises(InvalidRequest, match=r"say which field of .* holds the texts, -in FIELD: q, a"):
        read_rows(path)


def test_a_field_for_continuations_that_is_not_there_is_refused_where_inseq_ignores_it(write):
    path = write("data.json", json.dumps(RECORDS))
    with pytest.raises(InvalidRequest, match=r"has no field 'answer'; its fields are: q, a"):
        read_rows(path, input_field="q", generated_field="answer")


def test_parquet_is_read_where_its_library_is_installed(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FeatureUnsupported, match="Parquet files need pyarrow; pip install pyarrow"):
        read_rows(write("data.parquet", b"PAR1"))


def test_files_that_are_not_there_and_options_that_are_none_are_refused(tmp_path, write):
    with pytest.raises(InvalidRequest, match=r"there is no file '.*nothing.json'"):
        read_rows(tmp_path / "nothing.json")
    with pytest.raises(InvalidRequest, match="files have no option 'sep'; there are: encoding, delimiter, field"):
        read_rows(write("data.csv", "q\nx\n"), options={"sep": ";"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="holds no file of a known kind"):
        read_rows(tmp_path / "empty")
