"""The command line ``interpd``: one file per group of commands, each a thin face on the daemon or the client."""

from interpd.cli.main import main

__all__ = ["main"]
