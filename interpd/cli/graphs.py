"""Commands that run: ``check``, ``run`` (a graph file on prompts), ``generate``."""

import argparse
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interpd.cli.ask import checking, connect
from interpd.cli.inspect import the_model
from interpd.cli.output import EXIT_OK, EXIT_REFUSED, print_json, print_table
from interpd.errors import InvalidRequest
from interpd.graph.ir import Generation, Prompt
from interpd.graph.run import RunRequest
from interpd.wire.files import graph_from_json

if TYPE_CHECKING:
    from interpd_client import Client, Result

PREVIEW_VALUES = 6
TARGET_HELP = "what the decoder of an encoder-decoder model is given; one for each prompt"


def add_parsers(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the commands of this file."""
    for name, run_it, text in (
        ("check", check, "check a graph file against a model, without running it"),
        ("run", run, "run a graph file on prompts"),
    ):
        parser = commands.add_parser(name, parents=[common], help=text, description=text)
        parser.add_argument(
            "graph", metavar="GRAPH.json", help="a graph in the JSON form of interpd.v1.Graph; -: stdin"
        )
        parser.add_argument("--model", help="the model (default: the only one)")
        parser.add_argument("--prompt", action="append", default=[], help="a prompt; again for each further one")
        parser.add_argument("--target", action="append", default=[], help=TARGET_HELP)
        parser.add_argument("--max-new-tokens", type=int, metavar="N", help="generate (default: do not)")
        parser.add_argument("--adapter", default="", metavar="NAME", help="the adapter (default: none)")
        parser.set_defaults(run=run_it)
    parser.add_argument("--out", metavar="FILE.npz", help="write the results here, as numpy arrays")
    parser.add_argument("--reproducible", action="store_true", help="run alone at a fixed shape")
    _add_generate(commands, common)


def _add_generate(commands: Any, common: argparse.ArgumentParser) -> None:
    text = "continue a prompt, printing tokens as they come"
    parser = commands.add_parser("generate", parents=[common], help=text, description=text)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("prompt", metavar="PROMPT")
    parser.add_argument("--target", help="what the continuation of an encoder-decoder model begins with")
    parser.add_argument("--max-new-tokens", type=int, default=32, metavar="N")
    parser.add_argument("--do-sample", action="store_true", help="draw tokens at random by their probability")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, default=0, metavar="K")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--adapter", default="", metavar="NAME", help="the adapter (default: none)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="a text after which to end")
    parser.set_defaults(run=generate)


def _request(client: "Client", args: argparse.Namespace) -> RunRequest:
    try:
        text = sys.stdin.read() if args.graph == "-" else Path(args.graph).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"cannot read the graph file {args.graph!r}: {error}") from None
    targets = args.target or [None] * len(args.prompt)
    with checking():
        if len(targets) != len(args.prompt):
            raise InvalidRequest(f"{len(targets)} --target for {len(args.prompt)} --prompt: give one for each, or none")
    return RunRequest(
        run_id=uuid.uuid4().hex,
        model=the_model(client, args.model),
        prompts=tuple(
            Prompt(text=prompt, target_text=target) for prompt, target in zip(args.prompt, targets, strict=True)
        ),
        graph=graph_from_json(text),
        generation=None if args.max_new_tokens is None else Generation(args.max_new_tokens),
        adapter=args.adapter,
        reproducible=getattr(args, "reproducible", False),
    )


def check(args: argparse.Namespace) -> int:
    """Checks a graph with the prompts' real token counts; the exit code is 3 when it breaks a rule."""
    with connect(args) as client:
        request = _request(client, args)
        report = client.validate(request)
    if args.json:
        forecast = report.estimate
        names = ("n_tokens", "n_layers_run", "n_passes", "bytes_returned", "live_bytes")
        estimate = None if forecast is None else {name: getattr(forecast, name) for name in names}
        print_json({"violations": [asdict(v) for v in report.violations], "estimate": estimate})
    elif report.violations:
        rows = [(violation.path, violation.code, violation.message) for violation in report.violations]
        print_table("", ("where", "rule", "what"), rows)
    else:
        sys.stdout.write(f"{report!r}\n")
    return EXIT_REFUSED if report.violations else EXIT_OK


def run(args: argparse.Namespace) -> int:
    """Runs a graph file and shows or writes its results."""
    with checking():
        if args.out and not Path(args.out).absolute().parent.is_dir():
            raise InvalidRequest(f"--out {args.out!r}: there is no such folder; nothing was run")
    with connect(args) as client:
        result = client.run(_request(client, args))
    if args.out:
        np.savez(args.out, **dict(result))
    if args.json:
        generated = [asdict(item) for item in result.generated]
        meta = {"provenance": asdict(result.provenance), "cost": asdict(result.cost), "generated": generated}
        print_json(meta | ({"out": args.out} if args.out else {"results": dict(result)}))
        return EXIT_OK
    print_table("", ("result", "dtype", "shape", "values"), [_row(name, array) for name, array in result.items()])
    for item in result.generated:
        sys.stdout.write(f"prompt {item.invoke}: {item.text!r} ({item.stop_reason})\n")
    return EXIT_OK


def _row(name: str, array: np.ndarray) -> tuple[object, ...]:
    flat = array.reshape(-1)
    shown = " ".join(f"{value:.4g}" for value in flat[:PREVIEW_VALUES].tolist())
    return name, array.dtype, list(array.shape), shown + (" ..." if flat.size > PREVIEW_VALUES else "")


def generate(args: argparse.Namespace) -> int:
    """Continues a prompt."""
    names = ("max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "seed", "adapter")
    options = {name: getattr(args, name) for name in names} | {"stop_strings": tuple(args.stop)}
    with connect(args) as client:
        model = client.model(args.model)
        stream = model.stream(args.prompt, target=args.target, **options)
        if not args.json:
            # a decoder of its own continues the target, not the prompt
            sys.stdout.write(args.target or "" if model.info.has_encoder else args.prompt)
        for token in stream:
            if not args.json:
                sys.stdout.write(token)
                sys.stdout.flush()
        result: Result = stream.result
    if args.json:
        print_json({"prompt": args.prompt, **asdict(result.generated[0]), "provenance": asdict(result.provenance)})
    else:
        sys.stdout.write("\n")
    return EXIT_OK
