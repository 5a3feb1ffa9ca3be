"""``interpd backpack similarity``: how alike words are, sense by sense."""

import argparse
from pathlib import Path
from typing import Any

from interpd.cli import add_model, checking, opened
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering
from interpd_backpack.evaluation.word_pairs import read_word_pairs

EXAMPLES = """\
  interpd backpack similarity nurse doctor nurse farmer
      two pairs of words: cosines of each sense, their extremes
  interpd backpack similarity --file SimLex-999.txt --pieces mean --json
      all pairs of a file, words of several tokens by their mean, as the paper has them
  interpd backpack evaluate --suite similarity --pairs SimLex-999.txt
      whether people find alike what the senses find alike
"""


def add(commands: Any) -> None:
    """Adds the command."""
    text = "how alike pairs of words are, sense by sense"
    parser = arguments.command(commands, "similarity", text, run, examples=EXAMPLES)
    parser.description = f"{text}\n\n{arguments.WORDS}"
    parser.add_argument("words", nargs="*", type=arguments.word, metavar="WORD", help="pairs: an even number of words")
    parser.add_argument(
        "--file",
        metavar="PAIRS",
        help="pairs of a file: two words on each line, or rated ones as SimLex-999, SimVerb-3500, RG65 and WS353 have "
        "them",
    )
    arguments.add_pieces(parser, "first", "last", "mean", "sum")
    add_model(parser)
    delivering.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Asks, and shows what came."""
    with checking():
        pairs = _pairs(args)
        delivering.check_output(args)
    with opened(args, plugins=["backpack"]) as model:
        result = model.backpack.similarity(pairs, pieces=args.pieces)
    return delivering.deliver(args, result)


def _pairs(args: argparse.Namespace) -> list[tuple[str | int, str | int]]:
    words = args.words
    if len(words) % 2:
        raise InvalidRequest(f"pairs are two words each, got {len(words)} words")
    found = list(zip(words[::2], words[1::2], strict=True))
    found += [] if args.file is None else _of_file(args.file)
    if not found:
        raise InvalidRequest("say which words: WORD WORD, or --file PAIRS")
    return found


def _of_file(path: str) -> list[tuple[str | int, str | int]]:
    lines = [line.replace(",", " ").replace(";", " ").split() for line in arguments.lines_of(path, "word pairs")]
    if all(len(line) == 2 for line in lines):
        return [(one, other) for one, other in lines]
    return list(read_word_pairs(Path(path)).pairs)
