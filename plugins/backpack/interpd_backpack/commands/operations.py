"""Operations of edits on the command line, and in JSON files that name words."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from interpd.errors import CallerError, InvalidRequest
from interpd_backpack.commands.arguments import Group, word
from interpd_backpack.edits import (
    ALL,
    MaskWeights,
    Operation,
    ProjectOut,
    Remove,
    ReplaceAssociation,
    Scale,
    Token,
    Topic,
    Transplant,
)
from interpd_backpack.edits.operations import OPERATIONS
from interpd_backpack.evaluation.files import read_json

ABOUT = """\
WORDS are parted by commas, or all; so are SENSES. Operations act in the order in which they stand. Those of
--operations FILE come first: JSON, a list of objects such as
  {"operation": "scale", "tokens": ["nurse"], "senses": [10], "factor": 0.2}
with all fields of the edit language (interpd_backpack/edits/README.md); a number for a word is a token id, vectors are
lists of numbers. {"name": ..., "operations": [...]} names the edit, too.
"""


def _words(text: str) -> Any:
    if text == ALL:
        return ALL
    found = tuple(_word(one) for one in text.split(",") if one.strip())
    if not found:
        raise InvalidRequest(f"{text!r} names no word")
    return found


def _word(text: str) -> str | int:
    try:
        return word(text)
    except argparse.ArgumentTypeError as error:
        raise InvalidRequest(str(error)) from None


def _senses(text: str) -> Any:
    if text == ALL:
        return ALL
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise InvalidRequest(f"senses are {ALL} or numbers from 0, parted by commas, got {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(f"expected a number, got {text!r}") from None


def _strength(text: str) -> Any:
    """0 to 3, or factors that are parted by commas."""
    if "," in text:
        return tuple(map(_number, text.split(",")))
    return int(text) if text.isdecimal() else (_number(text),)


def _replace(target: str, old: str, new: str) -> Operation:
    return ReplaceAssociation(_word(target), remove=_word(old), add=_word(new))


def _project(tokens: str, one: str, other: str, senses: str) -> Operation:
    return ProjectOut(_words(tokens), (_word(one), _word(other)), _senses(senses))


FLAGS: Mapping[str, tuple[tuple[str, ...], str, Callable[..., Operation]]] = {
    "--scale": (
        ("WORDS", "SENSES", "FACTOR"),
        "multiply these senses",
        lambda tokens, senses, factor: Scale(_words(tokens), _senses(senses), _number(factor)),
    ),
    "--remove": (
        ("WORDS", "SENSES"),
        "make these senses zero",
        lambda tokens, senses: Remove(_words(tokens), _senses(senses)),
    ),
    "--replace": (
        ("WORD", "OLD", "NEW"),
        "what all senses of WORD say of OLD they say of NEW instead",
        _replace,
    ),
    "--transplant": (
        ("INTO", "OUT_OF", "SENSES"),
        "give a word these senses of another one",
        lambda into, out_of, senses: Transplant(_word(into), _word(out_of), _senses(senses)),
    ),
    "--project-out": (
        ("WORDS", "ONE", "OTHER", "SENSES"),
        "take the direction from one word to another out of these senses",
        _project,
    ),
    "--topic": (
        ("WORDS", "STRENGTH"),
        "scale all senses by how much they speak for these words; 0 to 3, or factors",
        lambda bag, strength: Topic(_words(bag), _strength(strength)),
    ),
    "--topic-annealed": (
        ("WORDS", "STRENGTH"),
        "the same, less the more has been said of it",
        lambda bag, strength: Topic(_words(bag), _strength(strength), anneal=True),
    ),
    "--mask-weights": (
        ("WORDS", "SENSES", "FACTOR"),
        "multiply the weights that are given to these senses",
        lambda tokens, senses, factor: MaskWeights(_words(tokens), _senses(senses), _number(factor)),
    ),
}
"""Of each flag its values, what it does, and the operation that it makes."""


def add_operations(parser: argparse.ArgumentParser) -> Group:
    """Adds the flags that make operations, and the file of them; gives the group."""
    group = parser.add_argument_group("operations", ABOUT)
    for flag, (values, text, _) in FLAGS.items():
        group.add_argument(flag, nargs=len(values), action=_Append, dest="made", default=[], metavar=values, help=text)
    group.add_argument("--operations", metavar="FILE", help="operations as JSON; - reads standard input")
    return group


class _Append(argparse.Action):
    """Keeps the flags of one ``dest`` in the order in which they stand."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        flag = self.option_strings[0]
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), (flag, values)])


def operations_of(args: argparse.Namespace) -> tuple[tuple[Operation, ...], str]:
    """The operations of a file and then of the command line, and the name that the file gives.

    Raises ``CallerError``, naming the operation that cannot be.
    """
    found, name = _of_file(args.operations) if args.operations is not None else ([], "")
    for flag, values in args.made:
        try:
            found.append(FLAGS[flag][2](*values))
        except CallerError as error:
            raise InvalidRequest(f"{flag} {' '.join(values)}: {error}") from error
    if not found:
        raise InvalidRequest(f"say what the edit does: {', '.join(FLAGS)}, or --operations FILE")
    return tuple(found), name


def _of_file(path: str) -> tuple[list[Operation], str]:
    content = _read(path)
    name = ""
    if isinstance(content, Mapping):
        if unknown := sorted(content.keys() - {"name", "operations"}):
            raise InvalidRequest(f"{path}: expected name and operations, got {unknown[0]!r}, too")
        content, name = content.get("operations"), content.get("name", "")
    if not isinstance(content, list) or not isinstance(name, str):
        raise InvalidRequest(f"{path}: expected a list of operations, or an object of a name and operations")
    return [_parsed(one, f"{path}, operation {number}") for number, one in enumerate(content)], name


def _read(path: str) -> Any:
    if path != "-":
        return read_json(Path(path))
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        raise InvalidRequest(f"standard input is no JSON: {error}") from None


def _parsed(content: Any, where: str) -> Operation:
    if not isinstance(content, Mapping) or content.get("operation") not in OPERATIONS:
        known = ", ".join(OPERATIONS)
        raise InvalidRequest(f"{where}: expected an object with an 'operation' of {known}, got {content!r}")
    kind = OPERATIONS[content["operation"]]
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(content.keys() - known - {"operation"}):
        raise InvalidRequest(f"{where}: {kind.kind} has no {unknown[0]!r}; it has {', '.join(sorted(known))}")
    try:
        return kind(**{name: _made(value) for name, value in content.items() if name != "operation"})
    except (CallerError, TypeError) as error:
        raise InvalidRequest(f"{where}: {error}") from error


def _made(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() - {"id", "text"} or not isinstance(value.get("id"), int):
            raise InvalidRequest(f"a token is a word, an id or an object of id and text, got {value!r}")
        return Token(value["id"], value.get("text", ""))
    return tuple(map(_made, value)) if isinstance(value, list) else value
