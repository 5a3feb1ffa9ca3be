"""``interpd backpack effects``: predictions before and after edits."""

import argparse
from typing import Any

from interpd.cli import add_model, at_least, checking, opened
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering

EXAMPLES = """\
  interpd backpack effects "The nurse said that" --edit calm --edit swap --target she he
      the probabilities of two words, and what else moves, without and with each edit, from one forward pass
  interpd backpack effects --texts control.jsonl --edit swap --position all --json
      what an edit does to texts that it should leave alone
"""


def add(commands: Any) -> None:
    """Adds the command."""
    text = "predictions before and after each of several edits"
    parser = arguments.command(commands, "effects", text, run, examples=EXAMPLES)
    parser.description = f"{text}\n\n{arguments.WORDS}"
    add_prompts(parser)
    arguments.add_edits(parser, "an edit, a folder that holds one; again for further ones, each by itself")
    add_predictions(parser)
    arguments.add_pieces(parser, "first", "last")
    add_model(parser)
    delivering.add_output(parser)


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """Adds prompts, on the command line and in files."""
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="texts whose next tokens are predicted")
    parser.add_argument(
        "--texts", nargs="+", default=[], metavar="FILE", help="prompts of files: .txt, or JSON Lines of {text}"
    )


def add_predictions(parser: argparse.ArgumentParser) -> None:
    """Adds which predictions are looked at, and which words of them."""
    parser.add_argument(
        "--target", nargs="+", default=[], type=arguments.word, metavar="WORD", help="words whose chances are told"
    )
    parser.add_argument(
        "--position",
        type=_position,
        default=-1,
        metavar="N",
        help="behind which token the prediction is, from the end where negative; or all (default: the last)",
    )
    parser.add_argument(
        "--top", type=at_least(1), default=10, metavar="N", help="words that move most, or each way (default: 10)"
    )


def run(args: argparse.Namespace) -> int:
    """Asks, and shows what came."""
    with checking():
        prompts = arguments.texts_of(args.prompts, args.texts)
        if not prompts:
            raise InvalidRequest("say which predictions: PROMPT, or --texts FILE")
        edits = arguments.edits_of(args)
        if not edits:
            raise InvalidRequest("say which edit: --edit FOLDER (interpd backpack edit new makes one)")
        delivering.check_output(args)
    asked = {"targets": args.target, "position": args.position, "top": args.top, "pieces": args.pieces}
    with opened(args, plugins=["backpack"]) as model:
        result = model.backpack.effects(list(prompts), edits, **asked)
    return delivering.deliver(args, result)


def _position(text: str) -> int | str:
    found = arguments.position(text)
    if found == "before_target":
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number or all")
    return found
