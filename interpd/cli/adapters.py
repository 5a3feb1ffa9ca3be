"""``interpd adapters``: PEFT adapters of a model, listed, loaded and taken away while it serves."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from interpd.cli.ask import connect, flags
from interpd.cli.inspect import the_model
from interpd.cli.output import EXIT_FAILED, EXIT_OK, print_json, print_table
from interpd.config import parse_model

if TYPE_CHECKING:
    from interpd.graph.schema import AdapterInfo


def add_parsers(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command of this file, and what it can do besides listing."""
    text = "PEFT adapters of a model: list them, load or unload one"
    parser = commands.add_parser("adapters", parents=[common], help=text, description=text)
    parser.add_argument("--model", help="the model (default: the only one)")
    parser.set_defaults(run=list_them)
    actions = parser.add_subparsers(metavar="ACTION", title="actions", description="none: list them")
    for name, run, text in (
        (
            "load",
            load,
            "load an adapter from a folder there or from the hub; replaces what has that name",
        ),
        ("unload", unload, "take an adapter away; runs that have it keep it"),
    ):
        action = actions.add_parser(name, parents=[flags(is_nested=True)], help=text, description=text)
        action.add_argument("--model", default=argparse.SUPPRESS, help="the model (default: the only one)")
        action.add_argument("what", metavar="SOURCE[@REVISION][=NAME]" if name == "load" else "NAME")
        action.set_defaults(run=run)


def list_them(args: argparse.Namespace) -> int:
    """Lists the adapters; one that could not be loaded makes the exit code 1."""
    with connect(args) as client:
        found = client.adapters(the_model(client, args.model))
    _show(args, [asdict(info) for info in found], found)
    return EXIT_FAILED if any(info.problem for info in found) else EXIT_OK


def load(args: argparse.Namespace) -> int:
    """Loads an adapter and waits until it can be used."""
    spec = parse_model(args.what)
    with connect(args) as client:
        model = the_model(client, args.model)
        info = client.load_adapter(spec.source, spec.name, model=model, revision=spec.revision)
    _show(args, asdict(info), [info])
    return EXIT_OK


def unload(args: argparse.Namespace) -> int:
    """Takes an adapter away."""
    with connect(args) as client:
        client.unload_adapter(args.what, model=the_model(client, args.model))
    if args.json:
        print_json({"unloaded": args.what})
    return EXIT_OK


def _show(args: argparse.Namespace, document: Any, infos: "list[AdapterInfo] | tuple[AdapterInfo, ...]") -> None:
    if args.json:
        print_json(document)
        return
    rows = [(i.name, i.kind, f"{i.n_parameters:,}", i.n_modules, i.source, i.problem or i.digest) for i in infos]
    print_table("", ("adapter", "kind", "parameters", "modules", "source", "digest, or problem"), rows)
