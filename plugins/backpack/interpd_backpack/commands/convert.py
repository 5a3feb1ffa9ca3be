"""``interpd backpack convert``: published checkpoints as folders that a daemon loads; in this process, offline."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interpd.cli import PackageMissing, at_least, checking, print_json, print_table
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering

HASHING = "hashing"
EXAMPLES = """\
  interpd backpack convert pytorch_model.bin backpack-small --tokenizer gpt2 --sha256 HEX
      the published pickle, whose checksum must be this one, with GPT-2's tokenizer
  interpd backpack convert run/ my-backpack --n-head 12
      a folder with the training code's .ckpt file, which does not say how many heads there are
"""


def add(commands: Any) -> None:
    """Adds the command."""
    text = "make a published checkpoint a folder that daemons load, here (needs torch)"
    parser = arguments.command(commands, "convert", text, run, examples=EXAMPLES, local=True)
    parser.description = (
        f"{text}\n\nOf a pickle tensors are read and nothing else; its checksum is shown. Names and shapes must be "
        "those\nof a Backpack. The folder appears whole or not at all."
    )
    parser.add_argument("source", metavar="SOURCE", help="pytorch_model.bin, *.ckpt, *.safetensors, or their folder")
    parser.add_argument("out", metavar="OUT", help="the new folder")
    parser.add_argument("--sha256", metavar="HEX", help="what the file must hash to")
    parser.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="a folder, or a name that transformers knows (default: the one beside SOURCE)",
    )
    parser.add_argument("--config", metavar="FILE", help="config.json, or its folder (default: the one beside SOURCE)")
    parser.add_argument("--n-head", type=at_least(1), metavar="N", help="heads, where no config says how many")
    parser.add_argument(
        "--output-scale",
        type=arguments.number(),
        metavar="X",
        help="what the sum over senses is multiplied by: 1 in the published model, one over the number of senses in "
        "some others (default: what the config says)",
    )


def run(args: argparse.Namespace) -> int:
    """Converts, and says what came of it."""
    with checking():
        if not Path(args.source).expanduser().exists():
            raise InvalidRequest(f"there is no file or folder {args.source!r}")
        if Path(args.out).expanduser().exists():
            raise InvalidRequest(f"{args.out!r} exists already: name a new folder, nothing is overwritten")
        if args.sha256 is not None:
            _check_sum(args.sha256)
    changes = {"n_head": args.n_head, "sense_output_scale": args.output_scale}
    with delivering.progress_line(args) as show:
        made = _convert()(
            args.source,
            args.out,
            tokenizer=args.tokenizer,
            config=args.config,
            sha256=args.sha256,
            report=_reporter(show),
            changes={name: value for name, value in changes.items() if value is not None},
        )
    if args.json:
        print_json(asdict(made))
        return 0
    has = "yes" if made.has_tokenizer else "none: it is asked with token ids only"
    columns = ("folder", "form", "parameters", "tokenizer")
    print_table("", columns, [(made.folder, made.variant, f"{made.n_parameters:,}", has)])
    return 0


def _check_sum(text: str) -> None:
    digits = text.lower().removeprefix("sha256:")
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise InvalidRequest(f"--sha256 is 64 hex digits, got {text!r}")


def _reporter(show: delivering.Show | None) -> Callable[[str], None]:
    def report(text: str) -> None:
        if not text.startswith(HASHING):
            delivering.told(text)
        elif show is not None:
            show(text)

    return report


def _convert() -> Any:
    try:
        from interpd_backpack.checkpoint.convert import convert  # imports torch
    except ImportError as error:
        raise PackageMissing(
            f"checkpoints are converted here: {error}; pip install 'interpd-backpack[worker]'"
        ) from error
    return convert
