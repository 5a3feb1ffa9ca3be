"""``interpd backpack senses``: what the senses of words say, and the senses that say a word."""

import argparse
from typing import Any

from interpd.cli import add_model, at_least, checking, opened
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering

EXAMPLES = """\
  interpd backpack senses nurse --rank-of she he
      the words that each sense of "nurse" speaks for and against, and where "she" and "he" stand among all
  interpd backpack senses --reverse she --against he --top 5
      the senses of the whole vocabulary that push "she" rather than "he"
  interpd backpack senses nurse --nearest 10
      senses of other words that are like sense 10 of "nurse"
"""
OF_ONE = {"senses": "--senses", "rank_of": "--rank-of"}
OF_REVERSE = {"against": "--against", "scaled": "--scaled"}


def add(commands: Any) -> None:
    """Adds the command."""
    text = "what each sense of words says; or which senses say a word"
    parser = arguments.command(commands, "senses", text, run, examples=EXAMPLES)
    parser.description = f"{text}\n\n{arguments.WORDS}"
    parser.add_argument("words", nargs="+", type=arguments.word, metavar="WORD", help="whose senses, or what is said")
    parser.add_argument("--senses", nargs="+", type=at_least(0), metavar="N", help="which senses (default: all)")
    parser.add_argument("--top", type=at_least(1), default=10, metavar="N", help="words at each end (default: 10)")
    parser.add_argument(
        "--by",
        choices=("dot", "cosine"),
        help="dot: the logit that a sense adds at weight 1 (default); cosine: without lengths (default of --nearest)",
    )
    parser.add_argument(
        "--rank-of", nargs="+", type=arguments.word, metavar="WORD", help="words whose places among all are told"
    )
    arguments.add_pieces(parser, "first", "last", "each", "mean", "sum")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--reverse", action="store_true", help="instead: senses of all tokens that push the WORD")
    other.add_argument("--nearest", type=at_least(0), metavar="SENSE", help="instead: senses like this one of the WORD")
    parser.add_argument("--against", type=arguments.word, metavar="WORD", help="with --reverse: rather than this one")
    parser.add_argument(
        "--scaled", action="store_true", help="with --reverse: as shares of the most that a sense says of any token"
    )
    add_model(parser)
    delivering.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Asks, and shows what came."""
    with checking():
        _check(args)
        delivering.check_output(args)
    asked = {"top": args.top, "pieces": args.pieces, **({"by": args.by} if args.by else {})}
    with opened(args, plugins=["backpack"]) as model:
        if args.reverse:
            result = model.backpack.reverse(args.words[0], against=args.against, scaled=args.scaled, **asked)
        elif args.nearest is not None:
            result = model.backpack.nearest(args.words[0], args.nearest, **asked)
        else:
            result = model.backpack.senses(args.words, senses=args.senses or (), rank_of=args.rank_of or (), **asked)
    return delivering.deliver(args, result)


def _check(args: argparse.Namespace) -> None:
    other = "--reverse" if args.reverse else "--nearest" if args.nearest is not None else ""
    if other and len(args.words) > 1:
        raise InvalidRequest(f"{other} is about one WORD, got {len(args.words)}: ask for each of them")
    for name, flag in OF_ONE.items():
        if other and getattr(args, name):
            raise InvalidRequest(f"{flag} is of the senses of a word; {other} looks at those of all tokens")
    for name, flag in OF_REVERSE.items():
        if not args.reverse and getattr(args, name):
            raise InvalidRequest(f"{flag} goes with --reverse")
