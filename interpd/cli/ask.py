"""How commands reach a daemon: through the client package, which the light base does not require."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from interpd.config import Config
from interpd.errors import CallerError

if TYPE_CHECKING:
    from interpd_client import Client


class PackageMissing(Exception):
    """A package that this command needs is not installed."""


class BadAddress(Exception):
    """What ``--address`` says is no address."""


class WrongCommandLine(Exception):
    """Options that cannot be, whatever the daemon has; ``error`` says why."""

    def __init__(self, error: CallerError) -> None:
        super().__init__(error.message)
        self.error = error


@contextmanager
def checking() -> Iterator[None]:
    """A block that looks at options alone: its ``CallerError`` comes out as ``WrongCommandLine``, exit code 2."""
    try:
        yield
    except CallerError as error:
        raise WrongCommandLine(error) from error


def flags(*, is_nested: bool = False) -> argparse.ArgumentParser:
    """The flags of every command but ``serve``, as a parent of its parser.

    Args:
        is_nested: For the parser of a command below a command: flags that are absent there leave the outer ones alone.
    """

    def default(value: object) -> object:
        return argparse.SUPPRESS if is_nested else value

    address = f"localhost:{Config().port}"
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--address", default=default(address), metavar="HOST:PORT", help=f"the daemon (default: {address})"
    )
    parent.add_argument(
        "--timeout", type=float, default=default(None), metavar="S", help="give up after so many seconds"
    )
    parent.add_argument(
        "--json", action="store_true", default=default(False), help="one JSON document instead of tables"
    )
    return parent


def connect(args: argparse.Namespace) -> "Client":
    """A client of the daemon that ``--address`` names. Raises ``PackageMissing``, ``BadAddress``."""
    try:
        import interpd_client
    except ModuleNotFoundError as error:
        raise PackageMissing("this command talks to a daemon; pip install interpd-client") from error
    progress = None if not args.json else False
    try:
        return interpd_client.connect(args.address, timeout_s=args.timeout, progress=progress)
    except ValueError as error:
        raise BadAddress(f"argument --address: {error}") from error
