"""What Inseq's commands take, read from its own parsers, into ``options.json``.

Run it in an environment that has Inseq 0.7.1: ``python options.py``. The kinds are ``str``, ``int``, ``float``,
``bool`` (with or without a value), ``none`` (no value), ``json`` and ``list of ...``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from inseq.commands.attribute import AttributeExtendedArgs, AttributeWithInputsArgs
from inseq.commands.attribute_context.attribute_context_args import AttributeContextArgs
from inseq.commands.attribute_dataset.attribute_dataset_args import LoadDatasetArgs
from inseq.utils.argparse import InseqArgumentParser

COMMANDS = {
    "attribute": AttributeWithInputsArgs,
    "attribute-dataset": (AttributeExtendedArgs, LoadDatasetArgs),
    "attribute-context": AttributeContextArgs,
}


def options(classes: Any) -> dict[str, str]:
    """Each option of a command, and what it takes."""
    actions = InseqArgumentParser(classes)._actions
    known = [action for action in actions if not isinstance(action, argparse._HelpAction)]
    return {name: kind(action) for action in known for name in action.option_strings}


def kind(action: argparse.Action) -> str:
    """What an option takes."""
    if action.nargs == 0:
        return "none"
    if action.nargs == "?":
        return "bool"
    one = getattr(action.type, "__name__", str(action.type))
    return f"list of {one}" if action.nargs == "+" else "json" if one == "loads" or "dict" in one else one


if __name__ == "__main__":
    found = {command: options(classes) for command, classes in COMMANDS.items()}
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
