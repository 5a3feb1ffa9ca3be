"""``interpd backpack train``: a Backpack, or a transformer to compare it with, of one's own text; in this process."""

import argparse
import sys
from contextlib import redirect_stdout
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from interpd.cli import PackageMissing, at_least, checking, print_json, print_table
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering
from interpd_backpack.training.settings import TRAINED_TOKENIZERS, Shape, Steps, TrainSettings

EXAMPLES = """\
  interpd backpack train book.txt --out my-backpack
      a tiny Backpack of characters, minutes on a CPU; serve it: interpd serve --model my-backpack --plugin backpack
  interpd backpack train book.txt --out my-twin --twin
      a transformer of the same shape, to compare with
  interpd backpack train book.txt --out my-backpack --resume
      goes on from the last checkpoint: on the same machine the same weights in the end
"""
SHAPE = {
    "n_embd": "width",
    "n_layer": "blocks of the transformer",
    "n_head": "heads of each",
    "n_positions": "tokens of a text",
    "num_senses": "senses of each token",
    "sense_intermediate_scale": "width inside the sense network, in multiples of --n-embd",
}
STEPS = {
    "steps": "steps of the optimiser",
    "rows": "texts in each",
    "learning_rate": "the greatest",
    "least_share": "the part of it that is left in the end",
    "warm_up": "steps in which it rises",
    "weight_decay": "of matrices and embeddings",
    "seed": "of weights and order",
    "threads": "of the CPU",
    "sense_weight_std": "of what the sense weights' matrix begins with",
}


def add(commands: Any) -> None:
    """Adds the command."""
    text = "train a small Backpack on your texts, here (needs torch)"
    parser = arguments.command(commands, "train", text, run, examples=EXAMPLES, local=True)
    parser.add_argument("files", nargs="+", type=Path, metavar="DATA", help="texts in UTF-8")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the model, which a daemon can serve")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    parser.add_argument("--twin", action="store_true", help="a transformer of that shape instead")
    parser.add_argument(
        "--tokenizer",
        default="char",
        metavar="NAME",
        help=f"{', '.join(TRAINED_TOKENIZERS)}, or a folder that has one (default: %(default)s)",
    )
    parser.add_argument(
        "--vocabulary", type=at_least(1), default=4096, metavar="N", help="words that word keeps (default: %(default)s)"
    )
    parser.add_argument(
        "--held-out",
        type=arguments.number(0, 1),
        default=0.1,
        metavar="SHARE",
        help="the last part of each text, not trained on (default: %(default)s)",
    )
    for flag, default, text in (
        ("--told-every", 100, "steps from one look at the held-out loss to the next"),
        ("--saved-every", 500, "steps from one checkpoint to the next"),
    ):
        parser.add_argument(flag, type=at_least(1), default=default, metavar="N", help=f"{text} (default: {default})")
    _add_fields(parser.add_argument_group("shape"), Shape, SHAPE)
    _add_fields(parser.add_argument_group("steps"), Steps, STEPS)


def _add_fields(group: arguments.Group, kind: Any, texts: dict[str, str]) -> None:
    for field in fields(kind):
        assert field.default is not MISSING
        parse = at_least(0) if isinstance(field.default, int) else arguments.number()
        flag = f"--{field.name.replace('_', '-')}"
        text = f"{texts[field.name]} (default: {field.default:g})"
        group.add_argument(flag, type=parse, default=field.default, metavar="N", help=text)


def run(args: argparse.Namespace) -> int:
    """Trains, and says what came of it."""
    with checking():
        settings = _settings(args)
        _check_out(args)
    train = _train()
    # standard output has the result only
    with redirect_stdout(sys.stderr):
        trained = train(settings, resume=args.resume, say=delivering.told)
    found = {
        "folder": str(trained.folder),
        "parameters": trained.parameters,
        "held_out_loss": trained.held_out_loss,
        "held_out_perplexity": trained.held_out_perplexity,
        "curve": trained.curve,
        "seconds": trained.seconds,
    }
    if args.json:
        print_json(found)
    else:
        row = (trained.folder, f"{trained.parameters:,}", f"{trained.held_out_loss:.4f}")
        numbers = (f"{trained.held_out_perplexity:.2f}", trained.seconds)
        columns = ("folder", "parameters", "held-out loss", "perplexity", "seconds")
        print_table("", columns, [(*row, *numbers)])
    return 0


def _settings(args: argparse.Namespace) -> TrainSettings:
    shape = Shape(**{field.name: getattr(args, field.name) for field in fields(Shape)})
    steps = Steps(**{field.name: getattr(args, field.name) for field in fields(Steps)})
    return TrainSettings(
        files=tuple(args.files),
        out=args.out,
        tokenizer=args.tokenizer,
        vocabulary=args.vocabulary,
        is_twin=args.twin,
        shape=shape,
        steps=steps,
        held_out=args.held_out,
        told_every=args.told_every,
        saved_every=args.saved_every,
    )


def _check_out(args: argparse.Namespace) -> None:
    if missing := [file for file in args.files if not file.is_file()]:
        raise InvalidRequest(f"there is no file {str(missing[0])!r}")
    if args.out.exists() and not args.out.is_dir():
        raise InvalidRequest(f"--out {str(args.out)!r} is a file, expected a folder")
    has_something = args.out.is_dir() and any(args.out.iterdir())
    if has_something and not args.resume:
        raise InvalidRequest(
            f"--out {str(args.out)!r} is not empty: --resume goes on with its training, or name another"
        )
    if args.resume and not has_something:
        raise InvalidRequest(f"--resume: there is nothing in {str(args.out)!r} to go on from")


def _train() -> Any:
    try:
        from interpd_backpack.training.running import train  # imports torch
    except ImportError as error:
        raise PackageMissing(f"training runs here: {error}; pip install 'interpd-backpack[worker]'") from error
    return train
