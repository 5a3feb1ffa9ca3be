"""``interpd artifacts``: the named weights that a model's workers know; their files up, down and away."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interpd.cli.ask import connect, flags
from interpd.cli.inspect import the_model
from interpd.cli.output import EXIT_OK, print_json, print_table
from interpd.errors import InvalidRequest
from interpd.graph.schema import ArtifactInfo


def add_parsers(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command of this file, and what it can do besides listing."""
    text = "named weights that plugins use: list them, or their files up, down and away"
    parser = commands.add_parser("artifacts", parents=[common], help=text, description=text)
    parser.add_argument("--model", help="the model (default: the only one)")
    parser.set_defaults(run=list_them)
    actions = parser.add_subparsers(metavar="ACTION", title="actions", description="none: list them")
    for name, run, text in (
        ("download", download, "write the safetensors file of an artifact, uploaded or made by a method"),
        ("upload", upload, "make a safetensors file known under a name; replaces what has that name"),
        ("delete", delete, "take an artifact away; runs that need it fail"),
    ):
        action = actions.add_parser(name, parents=[flags(is_nested=True)], help=text, description=text)
        action.add_argument("--model", default=argparse.SUPPRESS, help="the model (default: the only one)")
        action.add_argument("name", metavar="NAME")
        if name == "download":
            action.add_argument("file", metavar="FILE", nargs="?", help="(default: NAME.safetensors)")
        if name == "upload":
            action.add_argument("file", metavar="FILE.safetensors")
            action.add_argument("--kind", required=True, help="one of the kinds that the model's plugins declare")
        action.set_defaults(run=run)


def list_them(args: argparse.Namespace) -> int:
    """Lists the artifacts."""
    with connect(args) as client:
        found = client.artifacts(the_model(client, args.model))
    return _show(args, [asdict(info) for info in found], found)


def download(args: argparse.Namespace) -> int:
    """Writes the file of an artifact."""
    file = args.file or f"{args.name}.safetensors"
    with connect(args) as client:
        data = client.download_artifact(args.name, file, model=the_model(client, args.model))
    if args.json:
        print_json({"name": args.name, "file": file, "n_bytes": len(data)})
    else:
        print_table("", ("artifact", "bytes", "file"), [(args.name, len(data), file)])
    return EXIT_OK


def upload(args: argparse.Namespace) -> int:
    """Makes a file known. Raises ``InvalidRequest`` when it cannot be read."""
    if not Path(args.file).is_file():
        raise InvalidRequest(f"there is no file {args.file!r}")
    with connect(args) as client:
        info = client.upload_artifact(args.file, args.name, args.kind, model=the_model(client, args.model))
    return _show(args, asdict(info), [info])


def delete(args: argparse.Namespace) -> int:
    """Takes an artifact away."""
    with connect(args) as client:
        client.delete_artifact(args.name, model=the_model(client, args.model))
    if args.json:
        print_json({"deleted": args.name})
    return EXIT_OK


def _show(args: argparse.Namespace, document: Any, infos: "list[ArtifactInfo] | tuple[ArtifactInfo, ...]") -> int:
    if args.json:
        print_json(document)
        return EXIT_OK
    rows = [(i.name, i.kind, i.n_bytes, " ".join(f"{axis}={n}" for axis, n in i.dims), i.digest) for i in infos]
    print_table("", ("artifact", "kind", "bytes", "axes", "digest"), rows)
    return EXIT_OK
