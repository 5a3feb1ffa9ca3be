"""Values on the command line: JSON objects, yes and no; and options that are known under both spellings."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from interpd_attribution.inseq_words import NESTED

YES, NO = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")

Group = Any
"""A parser, or a group of one: argparse has no public name for what both are."""


def option(group: Group, *names: str, **settings: Any) -> None:
    """Adds an option; ``--long-names`` are known as ``--long_names``, too, as Inseq writes them.

    ``dest`` must be among the settings where the first long name does not say it.
    """
    action = group.add_argument(*names, **settings)
    snakes = [f"--{name[2:].replace('-', '_')}" for name in names if name.startswith("--") and "-" in name[2:]]
    if snakes:
        hidden = {**settings, "dest": action.dest, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
        group.add_argument(*snakes, **hidden)


def flag(group: Group, *names: str, **settings: Any) -> None:
    """Adds an option that is on when it is there; a value may follow it, as in Inseq's ``--attribute_target True``."""
    given = {"nargs": "?", "type": yes_or_no, "const": True, "default": False, "metavar": "BOOL"}
    option(group, *names, **{**given, **settings})


def yes_or_no(text: str) -> bool:
    """What ``text`` says. Raises ``ArgumentTypeError``."""
    if text.lower() in (*YES, *NO):
        return text.lower() in YES
    raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")


def method_options(text: str) -> dict[str, Any]:
    """The options that ``text``, a JSON object, names, those among them that stand in ``NESTED`` objects.

    Raises ``ArgumentTypeError``.
    """
    found = json_object(text)
    for name in NESTED:
        more = found.pop(name, {})
        if not isinstance(more, dict):
            raise argparse.ArgumentTypeError(f"{name!r} is {more!r}, expected an object of options")
        for key, value in more.items():
            if found.setdefault(key, value) != value:
                raise argparse.ArgumentTypeError(f"{key!r} is there twice, as {found[key]!r} and in {name!r}")
    return found


def json_object(text: str) -> dict[str, Any]:
    """The options that ``text``, a JSON object, names. Raises ``ArgumentTypeError``."""
    example = """write a JSON object in single quotes, such as '{"n_steps": 20}'"""
    try:
        found = json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON ({error}); {example}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is JSON, but no object of options; {example}")
    return found


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise argparse.ArgumentTypeError(f"{twice[0]!r} is there twice")
    return dict(pairs)
