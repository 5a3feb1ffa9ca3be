"""``interpd reproduce``: results of papers, computed again by plugins (entry points of ``interpd.reproductions``).

An entry point names a function that takes a ``Reproduction``, and by name ``model`` and ``data`` where it can be of
another model and of data that are not bundled; plugins/README.md describes it for authors.
"""

import argparse
import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpd.cli.ask import PackageMissing, connect
from interpd.cli.output import EXIT_OK, print_table
from interpd.errors import Broken, InvalidRequest
from interpd.plugin import parts

if TYPE_CHECKING:
    from interpd_client import Client


@dataclass(frozen=True)
class Reproduction:
    """What a reproduction was asked for, and where it finds models."""

    out: Path
    """A folder, which is there: for the report, its numbers and its figures."""
    is_quick: bool = False
    """A reduced size, to see that everything works: the numbers are coarse."""
    address: str = ""
    """Of a daemon; empty: models run in this process."""
    timeout_s: float | None = None

    @contextmanager
    def client(self, *models: str, plugins: Sequence[str] = ()) -> Iterator["Client"]:
        """A client of these models, in this process or of the daemon.

        Args:
            models: Bundled names, folders or ids of the hub. A daemon must have loaded them under these names.
            plugins: Those that the models need. A daemon must have been started with them.

        Raises ``PackageMissing`` where models cannot run in this process.
        """
        if self.address:
            with connect(argparse.Namespace(address=self.address, timeout=self.timeout_s, json=False)) as client:
                yield client
            return
        try:
            import interpd_client

            client = interpd_client.local(*models, plugins=plugins)
        except ImportError as error:
            raise PackageMissing(f"{error}; or name a daemon that serves {', '.join(models)} with --address") from error
        with client:
            yield client


def add_parsers(commands: Any, _: argparse.ArgumentParser) -> None:
    """Adds the command of this file. It has no daemon by default, so it takes none of the common flags."""
    text = "compute results of papers again; without a name: list what can be"
    parser = commands.add_parser("reproduce", help=text, description=text)
    parser.add_argument("name", metavar="NAME", nargs="?", help="which, of those that plugins offer")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder of the report (default: reproduction-NAME)")
    parser.add_argument("--quick", action="store_true", help="a reduced size: coarse numbers, to see that it works")
    parser.add_argument(
        "--model", metavar="MODEL", help="of this model, where NAME can: a folder, an id of the hub, or a daemon's name"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of data that are not bundled, where NAME can")
    parser.add_argument(
        "--address", default="", metavar="HOST:PORT", help="take the models of a daemon (default: run them here)"
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="give up on a request after so many seconds")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs one reproduction, or lists all."""
    names = parts.names(parts.REPRODUCTIONS)
    if args.name is None:
        note = "" if names else "no installed plugin offers any"
        print_table("", ("reproduction", "from", "what"), [_row(name) for name in names], note)
        return EXIT_OK
    if args.name not in names:
        near = difflib.get_close_matches(args.name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidRequest(f"no reproduction is called {args.name!r}; there are: {', '.join(names) or 'none'}{hint}")
    one = parts.part(parts.REPRODUCTIONS, args.name)
    reproduce = parts.loaded(one)
    options = _options(args, reproduce)
    out = args.out or Path(f"reproduction-{args.name}")
    out.mkdir(parents=True, exist_ok=True)
    asked = Reproduction(out, args.quick, args.address, args.timeout)
    parts.guarded(one, lambda: reproduce(asked, **options), passing=(PackageMissing, OSError, SystemExit))
    return EXIT_OK


def _options(args: argparse.Namespace, reproduce: Callable[..., object]) -> dict[str, Any]:
    """Those that are given, by name. Raises ``InvalidRequest`` for one that the function does not take."""
    given = {name: getattr(args, name) for name in ("model", "data") if getattr(args, name) is not None}
    taken = inspect.signature(reproduce).parameters
    if unknown := [name for name in given if name not in taken]:
        raise InvalidRequest(f"the reproduction {args.name!r} takes no --{unknown[0]}: it is of what is bundled")
    if "data" in given and not given["data"].is_dir():
        raise InvalidRequest(f"--data: there is no folder {str(given['data'])!r}")
    return given


def _row(name: str) -> tuple[str, str, str]:
    """(name, distribution, the first line of the function's docstring or what is wrong with it)."""
    try:
        one = parts.part(parts.REPRODUCTIONS, name)
        what = (inspect.getdoc(parts.loaded(one)) or "").split("\n")[0]
    except Broken as error:
        return name, "", error.message
    return name, f"{one.distribution} {one.version}", what
