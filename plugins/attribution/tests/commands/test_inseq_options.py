"""Every option of Inseq's commands, as its users write it (``golden/options.json``, by ``golden/options.py``)."""

import argparse
import json

import pytest
from attribution_golden import reading

from interpd.errors import InvalidRequest
from interpd_attribution.commands import asking, attribute, attribute_context, attribute_dataset
from interpd_attribution.commands.values import method_options

COMMANDS = {"attribute": attribute, "attribute-dataset": attribute_dataset, "attribute-context": attribute_context}
OPTIONS = json.loads((reading.DATA.parent / "options.json").read_text())
VALUES = {
    "str": [["word"]],
    "int": [["3"]],
    "float": [["0.5"]],
    "bool": [[], ["True"], ["false"]],
    "none": [[]],
    "json": [['{"max_new_tokens": 3}']],
    "list of str": [["a"], ["a", "b"]],
    "list of int": [["1"], ["1", "2"]],
}
OF_FEW = {"--handle_output_context_strategy": [["auto"], ["manual"], ["pre"]]}


def parsed(command, *argv):
    parser = argparse.ArgumentParser(exit_on_error=False)
    COMMANDS[command].declare(parser)
    return parser.parse_args(argv)


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_of_inseq_is_known_with_every_kind_of_value(command):
    nothing = vars(parsed(command))
    for name, kind in OPTIONS[command].items():
        for value in OF_FEW.get(name, VALUES[kind]):
            found = vars(parsed(command, name, *value))
            assert list(found) == list(nothing), name
            # what is said has an effect, unless it is what holds unasked
            assert found != nothing or value in (["false"], ["manual"]) or name in ("--show_viz", "--add_output_info")


def test_what_is_true_unasked_can_be_false():
    for words in (["--no_show_viz"], ["--show_viz", "False"], ["--show-viz", "no"]):
        assert not parsed("attribute-context", *words).show_viz
    for words in (["--no_add_output_info"], ["--add_output_info", "0"]):
        assert not parsed("attribute-context", *words).with_info


def test_yes_and_no_are_words():
    assert not parsed("attribute", "--attribute_target", "false").attribute_target
    assert parsed("attribute", "--attribute-target", "--hide", "yes").attribute_target
    with pytest.raises(argparse.ArgumentError, match="'perhaps': expected true or false"):
        parsed("attribute", "--hide", "perhaps")


def test_options_may_stand_where_inseqs_calls_have_them():
    text = '{"attribution_args": {"method": "riemann_left"}, "step_scores_args": {"top_k": 2}, "n_steps": 3}'
    assert method_options(text) == {"method": "riemann_left", "top_k": 2, "n_steps": 3}
    with pytest.raises(argparse.ArgumentTypeError, match="'top_k' is there twice"):
        method_options('{"top_k": 1, "step_scores_args": {"top_k": 2}}')
    with pytest.raises(argparse.ArgumentTypeError, match="expected an object of options"):
        method_options('{"attribution_args": 3}')


@pytest.mark.parametrize("name", asking.INSTEAD)
def test_what_stands_elsewhere_is_told_where(name):
    args = argparse.Namespace(attribution_kwargs={name: True})
    with pytest.raises(InvalidRequest, match=f"'{name}' cannot stand there; "):
        asking.check_elsewhere(args)
