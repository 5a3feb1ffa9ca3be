"""``interpd backpack contributions``: which senses of which tokens make a prediction."""

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from interpd.cli import add_model, at_least, checking, opened, print_table
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering
from interpd_backpack.evaluation.files import Document
from interpd_backpack.texts import whole

if TYPE_CHECKING:
    from interpd_backpack.explaining.contributions import Contributions
    from interpd_backpack.explaining.over_texts import ContributionsOver

QUANTITIES = ("logit", "difference", "log_probability")
EXAMPLES = """\
  interpd backpack contributions "The nurse said that" --target she --contrast he
      every (token, sense) that makes "she" likelier than "he", exactly; the residual is the proof
  interpd backpack contributions "The nurse said that" --target she --by part --top 5 --edit calm
      the five strongest parts, with an edit in force
  interpd backpack contributions --texts prompts.jsonl --target she --contrast he
      over many texts, by token and sense
"""


def add(commands: Any) -> None:
    """Adds the command."""
    text = "which senses of which tokens make a prediction"
    parser = arguments.command(commands, "contributions", text, run, examples=EXAMPLES)
    parser.description = f"{text}\n\n{arguments.WORDS}"
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="a text; several are looked at together")
    parser.add_argument(
        "--texts", nargs="+", default=[], metavar="FILE", help="prompts of files: .txt, or JSON Lines of {text}"
    )
    parser.add_argument(
        "--target", type=arguments.word, metavar="WORD", help="the predicted word (default: the most likely token)"
    )
    parser.add_argument("--contrast", type=arguments.word, metavar="WORD", help="another one, whose logit is taken off")
    parser.add_argument(
        "--position",
        type=arguments.position,
        default=-1,
        metavar="N",
        help="which position predicts, from the end where negative; of several texts also all, before_target "
        "(default: the last)",
    )
    parser.add_argument(
        "--quantity",
        choices=QUANTITIES,
        help="what adds up (default: difference with --contrast, else logit); log_probability: less the mean logit",
    )
    parser.add_argument(
        "--by", choices=("token", "sense", "part"), help="show sums, or the strongest parts, instead of the whole map"
    )
    parser.add_argument("--top", type=at_least(1), default=10, metavar="N", help="rows of --by (default: 10)")
    arguments.add_pieces(parser, "first", "last")
    arguments.add_edits(parser, "an edit that is in force, a folder that holds one; further ones come after it")
    add_model(parser)
    delivering.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Asks, and shows what came."""
    with checking():
        prompts = _checked(args)
        under = arguments.one_after_the_other(arguments.edits_of(args))
    asked = {"contrast": args.contrast, "quantity": args.quantity, "pieces": args.pieces, "under": under}
    with opened(args, plugins=["backpack"]) as model:
        if len(prompts) == 1 and isinstance(args.position, int):
            whole(model, prompts)  # one of a file is named where it is too long
            text = prompts[0].text if isinstance(prompts[0], Document) else prompts[0]
            one = model.backpack.contributions(text, args.target, position=args.position, **asked)
            return delivering.deliver(args, one, show=partial(_show, args, one) if args.by else None)
        over = model.backpack.contributions_over(list(prompts), args.target, position=args.position, **asked)
    return delivering.deliver(args, over, show=partial(_show_over, args, over) if args.by else None)


def _checked(args: argparse.Namespace) -> tuple[str | Document, ...]:
    prompts = arguments.texts_of(args.prompts, args.texts)
    if not prompts:
        raise InvalidRequest("say which prediction: PROMPT, or --texts FILE")
    if args.quantity == "difference" and args.contrast is None:
        raise InvalidRequest("--quantity difference is one of two words: --contrast WORD")
    if args.quantity not in (None, "difference") and args.contrast is not None:
        raise InvalidRequest(f"--contrast is the other word of a difference, not of --quantity {args.quantity}")
    if args.contrast is not None and args.target is None:
        raise InvalidRequest("--contrast is the other word of a difference; the one is --target WORD")
    if args.position == "before_target" and args.target is None:
        raise InvalidRequest("--position before_target looks for a word: --target WORD")
    delivering.check_output(args)
    return prompts


def _show(args: argparse.Namespace, found: "Contributions") -> None:
    if args.by == "part":
        columns = ("position", "token", "sense", "contribution", "weight", "says")
        rows = [
            (one.position, repr(one.token), one.sense, *map(_written, (one.contribution, one.weight, one.says)))
            for one in found.top(args.top)
        ]
    elif args.by == "token":
        columns = ("position", "token", "contribution")
        sums = [
            (place, repr(text), value) for place, (text, value) in _strongest(args, found.strings, found.by_token())
        ]
        rows = [(place, text, _written(value)) for place, text, value in sums]
    else:
        columns = ("sense", "contribution")
        names = [str(sense) for sense in range(found.contributions.shape[1])]
        rows = [(name, _written(value)) for _, (name, value) in _strongest(args, names, found.by_sense())]
    print_table("", columns, rows, f"{repr(found).strip('<>')}; residual {found.residual:.1e}")


def _show_over(args: argparse.Namespace, found: "ContributionsOver") -> None:
    if args.by == "part":
        columns = ("token", "sense", "mean", "deviation", "sum", "in")
        ends = [*found.top(args.top), *found.top(args.top, "least")]
        parts = {(one.id, one.sense): one for one in ends}.values()
        rows = [
            (repr(one.token), one.sense, *map(_written, (one.mean, one.deviation, one.sum)), one.count) for one in parts
        ]
    else:
        by_token = args.by == "token"
        names = [repr(found.strings[int(id_)]) for id_ in found.types] if by_token else None
        sums = found.by_token() if by_token else found.by_sense()
        columns = (args.by, "sum")
        listed = names or [str(sense) for sense in range(len(sums))]
        rows = [(name, _written(value)) for _, (name, value) in _strongest(args, listed, sums)]
    print_table("", columns, rows, repr(found).strip("<>"))


def _strongest(args: argparse.Namespace, names: Any, sums: Any) -> list[tuple[int, tuple[str, float]]]:
    """(place, (name, sum)) of the largest magnitudes."""
    pairs = list(enumerate(zip(names, sums.tolist(), strict=True)))
    return sorted(pairs, key=lambda one: -abs(one[1][1]))[: args.top]


def _written(value: float) -> str:
    return f"{value:.4g}"
