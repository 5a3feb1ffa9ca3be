"""Every block of the README runs, in order, on the bundled models; names in its tables are there."""

import ast
import dataclasses
import inspect
import re
import shlex
from argparse import ArgumentParser
from itertools import groupby, pairwise, takewhile
from pathlib import Path

import numpy as np
import pytest

import interpd_attribution.features as features_module
import interpd_client as interpd
from interpd import zoo
from interpd_attribution import files, worker
from interpd_attribution.aggregation.registry import BUILT_IN, built_in_aggregators, unregister
from interpd_attribution.asked import COMMON
from interpd_attribution.attribution import Attribution
from interpd_attribution.commands import attribute, attribute_dataset
from interpd_attribution.contrast import Contrast
from interpd_attribution.evaluation.metrics import METRICS
from interpd_attribution.features.baseline import KINDS
from interpd_attribution.views import Views
from interpd_attribution.views.look import Look
from interpd_client.options import RunOptions

README = Path(__file__).resolve().parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
OTHER_MODEL = "path/to/model"
"""In blocks that load a model of their own."""


def blocks(language, text=TEXT):
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text[: block.start(1)].count("\n"), block.group(1)) for block in found]


def run(names, wanted):
    for first_line, code in blocks("python", TEXT.replace('"n_steps": 256', '"n_steps": 2')):
        if wanted(code):
            exec(compile("\n" * first_line + code, str(README), "exec"), names)


@pytest.fixture(scope="module")
def client():
    with interpd.local("facts", "translate", plugins={"attribution": worker}) as client:
        yield client


@pytest.fixture
def in_force(client, monkeypatch, tmp_path):
    """Where blocks run: in a folder of their own, with that client for the daemon's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interpd, "connect", lambda there: client)
    monkeypatch.setattr(client, "close", lambda: None)
    yield {}
    for name in ("positive", "median"):
        unregister(name)


@pytest.mark.slow
def test_the_readme_runs(in_force, capsys):
    run(in_force, lambda code: OTHER_MODEL not in code)
    printed = capsys.readouterr().out
    assert same_words(printed, blocks("text")[0][1])
    assert "▁Glimmer | ▁Jorvik → ▁Mirefield\n" in printed
    assert "('layer',) (7, 1, 6)\n" in printed
    assert "about " in printed


def same_words(printed, shown):
    """Whether the output begins with what the page shows: words to the letter, numbers nearly."""
    words = [[word for word in text.split() if "──" not in word] for text in (printed, shown)]
    return all(
        one == other or np.isclose(float(one), float(other), atol=2e-3) for one, other in zip(*words, strict=False)
    )


def defines_only(code):
    return all(isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef) for node in ast.parse(code).body)


@pytest.mark.slow
def test_functions_of_the_readme_do_what_they_say(in_force, client, capsys):
    run(in_force, defines_only)
    model, texts = client.model("facts"), ["Elena Marsh was born in Mirefield.", "Hugo Bishop was born in Glimmer."]
    question, whole = "Elena Marsh was born in", " ".join([*texts, "Elena Marsh was born in"])
    for out in in_force["which_document"](model, texts, question, " Mirefield", "Hugo Bishop was born in"):
        assert len(out.source) >= len(texts) + 1
    assert in_force["which_words"](model, texts, whole, " Mirefield")
    assert "→" in in_force["why_not"](model, question, " Mirefield", " Glimmer.").generated[0].text
    Path("asked.jsonl").write_text('{"question": "Elena Marsh was born in", "answer": " Mirefield"}\n')
    assert [row for row, _ in in_force["summed"](model, "asked.jsonl")] == [0]
    assert in_force["compared"](model, [question])
    assert "comprehensiveness" in capsys.readouterr().out


@pytest.mark.slow
def test_the_calls_of_inseq_on_the_readme_run(in_force):
    for _, code in blocks("python"):
        if OTHER_MODEL in code:
            exec(code.replace(OTHER_MODEL, str(zoo.path("facts"))), in_force)
    assert len(in_force["out"][0].generated) == 5


def test_commands_of_the_readme_are_understood():
    found = [shlex.split(line) for _, code in blocks("sh") for line in code.replace("\\\n", " ").splitlines()]
    for program, command, *words in found:
        assert program == "interpd"
        parser = ArgumentParser()
        {"attribute": attribute, "attribute-dataset": attribute_dataset}[command].declare(parser)
        said = list(takewhile(lambda word: not word.startswith("#"), words))
        options = {option for action in parser._actions for option in action.option_strings}
        assert {word for word in said if word.startswith("-")} <= options | {"--address"}


def test_the_daemon_of_the_page_has_its_models():
    asked = {name for _, code in blocks("python") for name in re.findall(r'client\.model\("(\w+)"\)', code)}
    serve = re.search(r"`interpd serve ([^`]+)`", TEXT)[1].split()
    served = {value for option, value in pairwise(serve) if option == "--model"}
    assert {"facts", "translate"} <= asked <= served
    assert serve[-2:] == ["--plugin", "attribution"]


def names(begin, column=0):
    """The names in a column of the table that has a row of this beginning."""
    tables = [list(rows) for is_row, rows in groupby(TEXT.splitlines(), lambda line: line.startswith("|")) if is_row]
    rows = next(rows for rows in tables if any(row.startswith(begin) for row in rows))
    cells = [re.split(r"(?<!\\)\|", row)[column + 1] for row in rows[2:]]
    return [name for cell in cells for name in re.findall(r"`(\w+)", cell)]


def parameters(function):
    return set(inspect.signature(function).parameters)


def fields(cls):
    return {field.name for field in dataclasses.fields(cls)}


def test_options_are_all_on_the_page():
    of_runs = set(RunOptions.__annotations__)
    told = set(names("| `method`"))
    assert told - of_runs == set(COMMON)
    assert told & of_runs


@pytest.mark.parametrize(
    ("begin", "known"),
    [
        ("| field | what |", fields(Attribution) | {"generated"}),
        ("| aggregator | does |", set(built_in_aggregators())),
        ("| `Contrast(foil", fields(Contrast)),
        ("| | features |", set(vars(features_module)) | {"TextTemplate"}),
        ("| `show()`", set(vars(Views)) | fields(Look) | {"page"}),
        ("| `compress`", parameters(files.write) | {"float32", "float16", "float8", "gz"}),
        ("| metric | definition |", set(METRICS)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_in_tables_are_there(begin, known):
    told = set(names(begin))
    assert told
    assert told <= known


def test_nothing_is_left_out_of_tables():
    assert set(names("| aggregator | does |")) == set(built_in_aggregators())
    assert set(names("| metric | definition |")) == set(METRICS)
    assert {f"`{name}`" for name in BUILT_IN} <= set(re.findall(r"`\w+`", TEXT))
    assert all(f'`"{kind}"`' in TEXT for kind in KINDS)
    options = set().union(*(item.options for item in built_in_aggregators().values())) - {"aggregate_fn"}
    assert options - set(names("| aggregator | does |", column=2)) <= {"normalize", "rescale"}


def test_methods_step_functions_and_attributes_that_are_named_exist(client):
    part = client.model("facts").attribute
    ours = set(part.methods()) | set(part.step_functions())
    said = set(re.findall(r'\b(?:method|target)"?[=:] ?"(\w+)', TEXT)) - {"token"}  # of ``Sides``
    assert len(said) > 5
    assert said <= ours
    assert all(hasattr(part, name) for name in re.findall(r"\.attribute\.(\w+)\(", TEXT))
