"""``interpd serve``: the daemon in the foreground. Every key of the configuration has its flag here."""

import argparse
import asyncio
from types import GenericAlias
from typing import Any

from interpd.cli.ask import PackageMissing
from interpd.config import KeyInfo, keys, load_config


def add_parser(commands: Any) -> None:
    """Adds ``serve`` and its flags."""
    parser = commands.add_parser(
        "serve",
        help="start the daemon",
        description="Starts Ray, loads the models and serves them over gRPC until SIGTERM or Ctrl-C. "
        "Prints 'listening on HOST:PORT' when every configured model is ready.",
    )
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: ./interpd.toml if it exists)")
    for info in keys():
        if info.flag:
            parser.add_argument(info.flag, **_argument(info))
    parser.set_defaults(run=run)


def _argument(info: KeyInfo) -> dict[str, Any]:
    """How argparse reads the flag of one key. Absent flags leave no trace, so that the file can decide."""
    settings: dict[str, Any] = {"dest": info.name, "default": argparse.SUPPRESS, "help": info.doc.replace("%", "%%")}
    if isinstance(info.type, GenericAlias):
        shapes = {"models": "SOURCE[@REVISION][=NAME]", "adapters": "MODEL:NAME=SOURCE[@REVISION]"}
        return settings | {"action": "append", "metavar": shapes.get(info.name, "NAME")}
    if info.type is bool:
        return settings | {"action": argparse.BooleanOptionalAction}
    settings["help"] += f" (default: {info.default})"
    return settings | {"type": info.type, "metavar": info.type.__name__.upper()}


def run(args: argparse.Namespace) -> int:
    """Serves until told to stop. Raises ``PackageMissing`` where only the light base is installed."""
    names = {info.name for info in keys()}
    config = load_config({name: value for name, value in vars(args).items() if name in names}, path=args.config)
    try:
        from interpd import daemon
    except ModuleNotFoundError as error:
        raise PackageMissing(f"the daemon needs {error.name!r}; pip install 'interpd[daemon]'") from error
    return asyncio.run(daemon.serve(config))
