"""How commands speak: tables and text for people, one JSON document for programs, exit codes for scripts."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from interpd import errors

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_UNAVAILABLE = 4
EXIT_INTERRUPTED = 5

EXIT_DOC = """exit codes:
  0  it worked
  1  the service or a plugin failed
  2  the command line was wrong
  3  the request was refused: an invalid graph, an unknown name, a limit
  4  the service cannot be reached or cannot take the request now
  5  cancelled, or past its deadline"""


def exit_code(error: errors.InterpdError) -> int:
    """The exit code that says whose act ``error`` was."""
    if isinstance(error, errors.CallerError):
        return EXIT_REFUSED
    if isinstance(error, errors.Unavailable):
        return EXIT_UNAVAILABLE
    if isinstance(error, errors.Interrupted):
        return EXIT_INTERRUPTED
    return EXIT_FAILED


def print_json(document: Any) -> None:
    """Prints one JSON document on standard output. JSON has no NaN and no infinity: they become strings."""
    json.dump(_plain(document), sys.stdout, ensure_ascii=False, allow_nan=False, indent=2)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> None:
    """Prints a table on standard output; as plain aligned text where that is no terminal."""
    console = Console()
    if not console.is_terminal:
        # a pipe gets every column whole
        console = Console(width=10_000)
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table, markup=False)
    if note:
        console.print(note, markup=False, highlight=False)


def print_error(error: errors.InterpdError, *, as_json: bool) -> int:
    """Prints what went wrong on standard error and gives the exit code."""
    if as_json:
        document: dict[str, Any] = {"error": error.reason, "message": error.message, "facts": error.facts}
        if isinstance(error, errors.InvalidGraph):
            document["violations"] = [{"code": v.code, "path": v.path, "message": v.message} for v in error.violations]
        json.dump(document, sys.stderr, ensure_ascii=False)
        sys.stderr.write("\n")
    else:
        sys.stderr.write(f"interpd: {error.message}\n")
        if isinstance(error, errors.Unavailable):
            sys.stderr.write(f"interpd: worth another try in {error.retry_after_s:g} s\n")
    return exit_code(error)
