"""Commands of plugins: entry points of the group ``interpd.commands``, loaded only when they may be meant.

An entry point names a function that takes the parser of its command, adds arguments and a description, and sets ``run``
to a function from the parsed arguments to an exit code. plugins/README.md describes it for authors.
"""

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from interpd import zoo
from interpd.cli.ask import BadAddress, PackageMissing, WrongCommandLine
from interpd.errors import Broken
from interpd.plugin import parts


def add_parsers(commands: Any, common: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Adds the commands of plugins that ``argv`` may mean; why others are not there.

    Raises ``Broken`` when the one that is meant cannot be used.
    """
    meant = next((word for word in argv if not word.startswith("-")), None)
    if meant in commands.choices:
        return []
    known = parts.names(parts.COMMANDS)
    problems = []
    for name in [meant] if meant in known else known:
        try:
            if name in commands.choices:
                raise Broken(_taken(name))
            _add(commands, name, parser_of(name, common))
        except Broken as error:
            if name == meant:
                raise
            problems.append(error.message)
    return problems


def looked_at(taken: Collection[str]) -> Iterator[tuple[str, str]]:
    """Every command, client part, reproduction and bundled model of plugins, and what is wrong with it (or nothing).

    ``taken``: the names of interpd's own commands.
    """
    for name in parts.names(parts.COMMANDS):
        own = argparse.ArgumentParser(add_help=False)
        problem = _problem(lambda name=name, own=own: parser_of(name, own))
        yield f"command {name!r}", _taken(name) if name in taken else problem
    for name in parts.names(parts.CLIENT):
        yield f"client part {name!r}", _problem(lambda name=name: parts.loaded(parts.part(parts.CLIENT, name)))
    for name in parts.names(parts.REPRODUCTIONS):
        yield f"reproduction {name!r}", _problem(lambda name=name: parts.loaded(parts.part(parts.REPRODUCTIONS, name)))
    for name in parts.names(parts.ZOO):
        own = f"{parts.part(parts.ZOO, name)}: interpd has a model {name!r} of its own; it needs another name"
        yield f"bundled model {name!r}", own if name in zoo.own() else _problem(lambda name=name: zoo.path(name))


def parser_of(name: str, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of a plugin's command, as its plugin made it. Raises ``Broken``."""
    one = parts.part(parts.COMMANDS, name)
    declare = parts.loaded(one)
    parser = argparse.ArgumentParser(prog=f"interpd {name}", parents=[common], add_help=False)
    parts.guarded(one, lambda: declare(parser))
    run = parser.get_default("run")
    if not callable(run):
        raise Broken(f"{one}: {one.target} sets no run; it needs parser.set_defaults(run=function)")
    # what the command line says in its own way passes
    passing = (PackageMissing, BadAddress, WrongCommandLine, OSError, SystemExit)
    parser.set_defaults(run=lambda args: parts.guarded(one, lambda: run(args), passing=passing))
    return parser


def _add(commands: Any, name: str, parser: argparse.ArgumentParser) -> None:
    text = parser.description or ""
    commands.add_parser(
        name,
        parents=[parser],
        help=text.split("\n")[0].replace("%", "%%"),
        description=text,
        epilog=parser.epilog,
        formatter_class=parser.formatter_class,
    )


def _taken(name: str) -> str:
    one = parts.part(parts.COMMANDS, name)
    return f"{one}: the command {name!r} is one of interpd's own; it needs another name"


def _problem(load: Callable[[], object]) -> str:
    try:
        load()
    except Broken as error:
        return error.message
    return ""
