"""``interpd backpack specialisation``: how senses divide the work."""

import argparse
from typing import Any

from interpd.cli import add_model, at_least, checking, opened
from interpd_backpack.commands import arguments, delivering

EXAMPLES = """\
  interpd backpack specialisation
      what each sense says, and which have collapsed, over tokens from the whole vocabulary
  interpd backpack specialisation --texts held-out.jsonl --save report.html
      over the words of texts, with where the sense weights lie, as a page
"""


def add(commands: Any) -> None:
    """Adds the command."""
    text = "how senses divide the work, and which have collapsed"
    parser = arguments.command(commands, "specialisation", text, run, examples=EXAMPLES)
    parser.add_argument("text", nargs="*", metavar="TEXT", help="texts on which the sense weights are looked at")
    parser.add_argument(
        "--texts", nargs="+", default=[], metavar="FILE", help="texts of files: .txt, or JSON Lines of {text}"
    )
    parser.add_argument(
        "--words",
        nargs="+",
        type=arguments.word,
        metavar="WORD",
        help="whose senses (default: the most frequent tokens of the texts, without texts tokens evenly chosen)",
    )
    parser.add_argument(
        "--top", type=at_least(1), default=10, metavar="N", help="words of a sense that are compared (default: 10)"
    )
    arguments.add_pieces(parser, "first", "last", "each")
    add_model(parser)
    delivering.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Asks, and shows what came."""
    with checking():
        texts = arguments.texts_of(args.text, args.texts)
        delivering.check_output(args)
    with opened(args, plugins=["backpack"]) as model:
        result = model.backpack.specialisation(texts or None, words=args.words, top=args.top, pieces=args.pieces)
    return delivering.deliver(args, result)
