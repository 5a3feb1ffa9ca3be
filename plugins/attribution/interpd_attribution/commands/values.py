"""Values on the command line: JSON objects, counts; and options that are known under both spellings."""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

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


def at_least(smallest: int) -> Callable[[str], int]:
    """A type of numbers: whole ones, none below ``smallest``."""

    def count(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = smallest - 1
        if found < smallest:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, {smallest} or more")
        return found

    return count


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise argparse.ArgumentTypeError(f"{twice[0]!r} is there twice")
    return dict(pairs)
