"""Command lines that cannot be meant: refused before a model is asked, in words that say what to do."""

import argparse
import json

import pytest

from interpd_attribution.commands import attribute, attribute_dataset

BOTH = {"attribute": attribute, "attribute-dataset": attribute_dataset}


def parsed(command, *argv):
    parser = argparse.ArgumentParser()
    BOTH[command].declare(parser)
    return parser.parse_args([str(word) for word in argv])


@pytest.mark.parametrize("command", BOTH)
def test_both_spellings_mean_the_same(command):
    kebab = parsed(command, "--step-scores", "entropy", "--attribution-kwargs", '{"n_steps": 3}', "--save-path", "f")
    snake = parsed(command, "--step_scores", "entropy", "--attribution_kwargs", '{"n_steps": 3}', "--save_path", "f")
    assert vars(kebab) == vars(snake)
    assert kebab.attribution_kwargs == {"n_steps": 3}
    assert kebab.step_scores == ["entropy"]


@pytest.mark.parametrize("command", BOTH)
def test_help_shows_each_option_once_and_gives_examples(command, line, capsys):
    with pytest.raises(SystemExit):
        line(command, "--help")
    shown = capsys.readouterr().out
    assert "--step-scores" in shown
    assert "--step_scores FUNCTION" not in shown
    for group in ("model:", "attribution:", "aggregation:", "output:", "examples:"):
        assert f"\n{group}\n" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attribution-kwargs", "n_steps=3"], "is no JSON"),
        (["--attribution-kwargs", "[1]"], "is JSON, but no object of options"),
        (["--generation-kwargs", '{"seed": 1, "seed": 2}'], "'seed' is there twice"),
        (["-bs", "0"], "expected a whole number, 1 or more"),
    ],
)
def test_values_that_cannot_be_read_are_refused(words, said, capsys):
    with pytest.raises(SystemExit):
        parsed("attribute", "-i", "x", *words)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what the model is given: -i TEXT"),
        (["-i", "a", ""], "-i number 2 of 2 is empty: give at least"),
        (["-i", "a", "-g", ""], "-g number 1 of 1 is empty: without -g the model answers first"),
        (["-i", "a", "b", "-g", "c"], "1 -g for 2 -i: give one for each, or none"),
        (["-i", "a", "b", "c", "--contrast", "d", "e"], "2 --contrast for 3 -i"),
        (["-i", "a", "--attribution-kwargs", '{"method": "lime"}'], "'method' has an option of its own, -a"),
        (["-i", "a", "--attribution-kwargs", '{"show_progress": false}'], "cannot stand there; a terminal shows it"),
        (["-i", "a", "--normalize-attributions", "--rescale-attributions"], "exclude each other"),
        (["-i", "a", "--attribution-selectors", "1"], "1 --attribution-selectors for 0 --attribution-aggregators"),
        (["-i", "a", "--reduce", "sum", "--granular"], "before --granular could; choose one"),
        (["-i", "a", "--reduce", "sum", "--attribution-aggregators", "mean"], "before --attribution-aggregators could"),
        (["-i", "a", "--generation-kwargs", '{"max_tokens": 3}'], "no option 'max_tokens'; did you mean 'max_new_tok"),
        (["-i", "a", "--generation-kwargs", '{"num_beams": 3}'], "no beams are searched here"),
        (
            ["-i", "a", "--generation-kwargs", '{"max_length": 3}'],
            "'max_length'; it counts the input, too; say max_new",
        ),
        (["-i", "a", "--generation-kwargs", '{"beams": 3}'], "no option 'beams'; there are: max_new_tokens"),
        (["-i", "a", "--generation-kwargs", '{"do_sample": 1}'], "do_sample is 1, expected bool"),
        (["-i", "a", "--generation-kwargs", '{"max_new_tokens": true}'], "max_new_tokens is True, expected int"),
        (["-i", "a", "--generation-kwargs", '{"max_new_tokens": 3}', "--max-new-tokens", "3"], "is given twice"),
        (["-i", "a", "-g", "b", "--max-new-tokens", "3"], "what is attributed is given, so that nothing is generated"),
        (["-i", "a", "--generate-from-target-prefix"], "say what is continued, -g TEXT"),
        (
            ["-i", "a", "-o", "no/such/folder/out.json"],
            "-o/--save-path 'no/such/folder/out.json': there is no such folder; nothing was run",
        ),
        (["-i", "a", "--save_path", "."], "-o/--save-path '.' is a folder; nothing was run"),
        (["-i", "a", "--viz-path", "."], "is a folder; nothing was run"),
        (["-i", "a", "--device", "cpu"], "--device is for loading a model, which the daemon has done"),
        (["-i", "a", "--model-kwargs", '{"dtype": "float16"}'], "--model-kwargs is for loading a model"),
        (["-i", "a", "--in-process"], "--in-process: say which model to load"),
    ],
)
def test_what_contradicts_itself_is_refused_before_a_model_is_asked(line, words, said):
    code, out, err = line("attribute", *words)
    assert code == 2
    assert said in err
    assert out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say which dataset: -d FILE"),
        (["-d", "json"], "say which dataset: -d FILE"),
        (["-d", "owner/name", "--files", "a.txt"], "'owner/name' is neither"),
        (["--files", "a.txt", "--split", "test"], "--split is for datasets of the hub, and these are files: a.txt"),
        (["-d", ".", "--dir", "."], "'.' is a file or folder; give --files and --dir without it"),
        (["--files", "a.txt", "--resume"], "--resume goes on with the file of --save-path: say which, -o FILE"),
        (["--files", "a.txt", "--generate-from-target-prefix"], "of a dataset -gen FIELD"),
    ],
)
def test_what_is_no_dataset_is_refused(line, words, said):
    code, _, err = line("attribute-dataset", *words)
    assert code == 2
    assert said in err


def test_a_file_that_is_not_there_is_refused(line):
    code, _, err = line("attribute-dataset", "-d", "nothing.jsonl")
    assert code == 3
    assert "there is no file 'nothing.jsonl'" in err


def test_a_wrong_command_line_is_told_to_programs_too(line):
    code, out, err = line("attribute", "-i", "a", "b", "-g", "c", "--json")
    assert (code, out) == (2, "")
    assert json.loads(err)["message"] == "1 -g for 2 -i: give one for each, or none"


def test_what_is_no_address_is_refused(line):
    code, _, err = line("attribute", "-i", "a", "--address", "nowhere")
    assert code == 2
    assert "argument --address: " in err
