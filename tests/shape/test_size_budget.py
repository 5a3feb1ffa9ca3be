"""The size budget, measured on codebases that are a pleasure to read."""

import re
from math import ceil
from statistics import median

from shape_source import body_lines

MAX_FILE_LINES, MAX_MEDIAN_FILE_LINES, MAX_P90_FILE_LINES = 450, 130, 350
MAX_BODY_LINES, MAX_MEDIAN_BODY_LINES, MAX_P90_BODY_LINES = 60, 8, 30
MAX_POSITIONAL, MAX_PARAMETERS = 5, 8

# transformers calls its attention functions with six positional arguments
CALLED_BY_OTHERS = ("eager_attention",)

# a method's one call of the model: each word is a choice of a plugin's, and most calls give two or three
CALLED_BY_PLUGINS, MOST_WORDS = ("forward",), 9

# a name that says nothing about what is inside
EMPTY_NAMES = ("utils", "util", "helpers", "helper", "common", "misc", "base", "manager")


def p90(numbers):
    return sorted(numbers)[ceil(0.9 * len(numbers)) - 1]


def test_files_are_short(sources):
    assert not [(item.path, item.n_lines) for item in sources if item.n_lines > MAX_FILE_LINES]
    lengths = [item.n_lines for item in sources if item.n_lines]
    assert median(lengths) <= MAX_MEDIAN_FILE_LINES
    assert p90(lengths) <= MAX_P90_FILE_LINES


def test_functions_are_short(functions):
    too_long = [(path, fn.name, body_lines(fn)) for path, fn in functions if body_lines(fn) > MAX_BODY_LINES]
    assert not too_long
    lengths = [body_lines(function) for _, function in functions]
    assert median(lengths) <= MAX_MEDIAN_BODY_LINES
    assert p90(lengths) <= MAX_P90_BODY_LINES


def test_functions_take_few_parameters(functions):
    def counted(function):
        arguments = function.args
        positional = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args) if arg.arg not in ("self", "cls")]
        return len(positional), len(positional) + len(arguments.kwonlyargs)

    ours = [(path, function) for path, function in functions if function.name not in CALLED_BY_OTHERS]
    counts = [(path, function.name, *counted(function)) for path, function in ours]
    most = {name: MOST_WORDS for name in CALLED_BY_PLUGINS}
    assert not [item for item in counts if item[2] > MAX_POSITIONAL or item[3] > most.get(item[1], MAX_PARAMETERS)]


def test_everything_is_annotated(functions):
    def bare(function):
        arguments = function.args
        named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
        missing = [arg.arg for arg in named if arg and arg.annotation is None and arg.arg not in ("self", "cls")]
        return missing + ([] if function.returns is not None else ["return"])

    assert not [(path, function.name, bare(function)) for path, function in functions if bare(function)]


def test_files_are_named_after_what_they_hold(sources):
    paths = [item.path for item in sources]
    assert not [path for path in paths if re.split(r"[/.]", path)[-2] in EMPTY_NAMES]


def test_nothing_is_left_unfinished(sources):
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    assert not [(item.path, match[0]) for item in sources if (match := marks.search(item.text))]
