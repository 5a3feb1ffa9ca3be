"""How commands reach a daemon: through the client package, which the light base does not require."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interpd_client import Client


class PackageMissing(Exception):
    """A package that this command needs is not installed."""


def connect(args: argparse.Namespace) -> "Client":
    """A client of the daemon that ``--address`` names. Raises ``PackageMissing``."""
    try:
        import interpd_client
    except ModuleNotFoundError as error:
        raise PackageMissing("this command talks to a daemon; pip install interpd-client") from error
    return interpd_client.connect(args.address, timeout_s=args.timeout, progress=None if not args.json else False)
