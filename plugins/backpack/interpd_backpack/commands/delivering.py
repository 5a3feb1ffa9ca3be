"""Where results go: a terminal, standard output for programs, files. Files appear whole or not at all."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from interpd.cli import print_json
from interpd.errors import InvalidRequest
from interpd_backpack.commands.arguments import Group

if TYPE_CHECKING:
    from interpd_backpack.edits import Edit
    from interpd_backpack.views import Shown

KINDS = (".html", ".json")
Show = Callable[[str], None]


def add_output(parser: argparse.ArgumentParser) -> Group:
    """Adds ``--save``; gives the group."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--save", metavar="FILE", help="write the result here, too: a page (.html) or all numbers (.json)"
    )
    add_overwrite(group)
    return group


def add_overwrite(group: Group) -> None:
    """Adds the permission to replace what is there."""
    group.add_argument("--overwrite", action="store_true", help="replace what is there")


def check_output(args: argparse.Namespace) -> None:
    """Raises ``InvalidRequest`` for a file that cannot be written, before anything is computed."""
    if args.save is None:
        return
    path = Path(args.save)
    if path.suffix.lower() not in KINDS:
        raise InvalidRequest(f"--save {args.save!r}: expected a name that ends with {' or '.join(KINDS)}")
    if path.is_dir():
        raise InvalidRequest(f"--save {args.save!r} is a folder; nothing was run")
    _check_place("--save", path, overwrite=args.overwrite)


def check_folder(flag: str, folder: str | None, *, overwrite: bool) -> None:
    """Raises ``InvalidRequest`` for a folder that cannot be written, before anything is computed."""
    if folder is None:
        return
    if Path(folder).exists() and not Path(folder).is_dir():
        raise InvalidRequest(f"{flag} {folder!r} is a file, expected a folder; nothing was run")
    _check_place(flag, Path(folder), overwrite=overwrite)


def _check_place(flag: str, path: Path, *, overwrite: bool) -> None:
    if not path.absolute().parent.is_dir():
        raise InvalidRequest(
            f"{flag} {str(path)!r}: there is no folder {str(path.absolute().parent)!r}; nothing was run"
        )
    if path.exists() and not overwrite:
        raise InvalidRequest(f"{flag} {str(path)!r} exists; --overwrite replaces it; nothing was run")


def deliver(args: argparse.Namespace, result: "Shown", *, show: Callable[[], None] | None = None) -> int:
    """Writes, prints or shows a result, as the options say; the exit code 0.

    ``show``: how a terminal shows it, where that is not all of it.
    """
    if args.save is not None:
        is_page = Path(args.save).suffix.lower() == ".html"
        write(Path(args.save), result.to_html(page=True) if is_page else result.to_json() + "\n")
    if args.json:
        print_json(result.to_dict())
    else:
        (show or result.show)()
    return 0


def write(path: Path, text: str) -> None:
    """Writes a file in one step."""
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.absolute().parent)
    try:
        # halves of characters, which tokens may be, have no UTF-8
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)


def save_edit(edit: "Edit", folder: str) -> None:
    """Writes an edit's folder, and says so."""
    save_folder(Path(folder), edit.save)
    told(f"the edit {edit.name!r} is in {folder}: {edit.digest}")


def save_folder(folder: Path, save: Callable[[Path], object]) -> None:
    """A folder that ``save`` fills; one that is there gets the new files in the place of its own of these names."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
    try:
        save(aside)
        aside.chmod(0o755)
        if not folder.exists():
            os.rename(aside, folder)
            return
        for file in aside.iterdir():
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def told(text: str) -> None:
    """Says something on standard error; standard output has results only."""
    sys.stderr.write(f"interpd: {text}\n")


@contextmanager
def progress_line(args: argparse.Namespace) -> Iterator[Show | None]:
    """What shows how far the work is, on one line that is written over; ``None`` where nobody looks."""
    from interpd_client.progress import find_screen  # the client is not needed to declare commands

    screen = find_screen(False if args.json else None)
    if screen is None:
        yield None
        return
    try:
        yield lambda text: screen.draw(f"interpd: {text}")
    finally:
        screen.clear()
