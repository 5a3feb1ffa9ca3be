"""Arguments that the commands share, and the values that they take."""

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from interpd.cli import flags
from interpd.errors import InvalidRequest
from interpd_backpack.edits import Edit, OrderMatters
from interpd_backpack.evaluation.files import Document, read_documents, read_text

Group = Any
"""A parser, or a group of one: argparse has no public name for what both are."""
Act = Callable[[argparse.Namespace], int]

ID = "id:"
WORDS = (
    "Words are tokenised with a space before them, as in the middle of a sentence; '=The' is the very text,\n"
    "and id:2141 a token id."
)
POSITION_WORDS = ("all", "before_target")


def command(commands: Any, name: str, text: str, act: Act, *, examples: str, local: bool = False) -> Any:
    """The parser of a command; ``local`` ones ask no daemon, and take of the common flags only ``--json``."""
    common = argparse.ArgumentParser(add_help=False) if local else flags(is_nested=True)
    if local:
        common.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document instead of tables"
        )
    parser = commands.add_parser(
        name,
        parents=[common],
        help=text,
        description=text,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(act=act)
    return parser


def add_pieces(group: Group, *choices: str) -> None:
    """Adds what is done with words of several tokens."""
    group.add_argument(
        "--pieces",
        choices=("refuse", *choices),
        default="refuse",
        help="what is done with words of several tokens (default: %(default)s)",
    )


def add_edits(group: Group, what: str) -> None:
    """Adds ``--edit``, a folder that ``interpd backpack edit new`` wrote; again for further ones."""
    group.add_argument("--edit", action="append", default=[], metavar="FOLDER", help=what)


def edits_of(args: argparse.Namespace) -> list[Edit]:
    """The edits that ``--edit`` names. Raises ``CallerError`` for folders without one."""
    return [Edit.load(folder) for folder in args.edit]


def one_after_the_other(edits: Sequence[Edit], *, tell: bool = True) -> Edit | None:
    """All edits as one; ``None`` where there is none. ``tell``: operations whose order matters, on standard error.

    Raises ``CallerError`` for edits of different models.
    """
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always", OrderMatters)
        found = reduce(add, edits) if edits else None
    for one in met if tell else ():
        sys.stderr.write(f"interpd: conflict: {one.message}\n")
    return found


def word(text: str) -> str | int:
    """A type: a word, or with ``id:`` before it a token id."""
    if not text.startswith(ID):
        return text
    if not text.removeprefix(ID).isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number behind id:; the text itself is written '={text}'"
        )
    return int(text.removeprefix(ID))


def number(least: float = -math.inf, most: float = math.inf) -> Callable[[str], float]:
    """A type: finite numbers of a range."""

    def a_number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not (math.isfinite(found) and least <= found <= most):
            bounds = [f"{least:g} or more"] if math.isfinite(least) else []
            bounds += [f"{most:g} or less"] if math.isfinite(most) else []
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number{', ' * bool(bounds)}{', '.join(bounds)}")
        return found

    return a_number


def position(text: str) -> int | str:
    """A type: a number, which counts from the end where it is negative, or words for several."""
    if text in POSITION_WORDS:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number or one of {', '.join(POSITION_WORDS)}") from None


def lines_of(path: str, what: str) -> tuple[str, ...]:
    """The lines of a text file, empty ones and those from ``#`` on left out. Raises ``InvalidRequest`` for none."""
    lines = (line.strip() for line in read_text(Path(path)).split("\n"))
    found = tuple(line for line in lines if line and line[0] != "#")
    if not found:
        raise InvalidRequest(f"{path} has no {what}: write one on each line")
    return found


def texts_of(given: Sequence[str], files: Sequence[str]) -> tuple[str | Document, ...]:
    """Texts of the command line, then those of files, which know their places there.

    Raises ``InvalidRequest`` for an empty one, and for a file in the place of a text.
    """
    if len(given) == 1 and not files and Path(given[0]).is_file():
        raise InvalidRequest(f"{given[0]!r} is a file, expected a text: --texts {given[0]} reads what is in it")
    if "" in given:
        raise InvalidRequest(f"text number {given.index('') + 1} of {len(given)} is empty")
    return (*given, *read_documents(files))
