"""``interpd backpack bias``: which sense carries a bias of words, and the edit with the least."""

import argparse
from typing import TYPE_CHECKING, Any

from interpd.cli import add_model, checking, opened
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering
from interpd_backpack.evaluation.bias import BiasSettings

if TYPE_CHECKING:
    from interpd_client import Model

OF_OPTIMISING = {
    "sense": "--sense",
    "test_prompts": "--test-prompts",
    "penalty": "--penalty",
    "bounds": "--bounds",
    "save_edit": "--save-edit",
}
PENALTY = 1.0
EXIT_NOTHING = 1
EXAMPLES = """\
  interpd backpack bias
      which sense of the paper's 40 professions makes "he" and "she" differ, on its prompts
  interpd backpack bias --words jobs.txt --prompts prompts.txt --pair he she --optimise --save-edit less-bias
      the factor of that sense with the least bias for each word, as an edit
"""


def add(commands: Any) -> None:
    """Adds the command."""
    text = "which sense of words carries a bias, and the edit with the least"
    parser = arguments.command(commands, "bias", text, run, examples=EXAMPLES)
    parser.description = (
        f"{text}\n\nThe bias of a word is the mean over prompts of max(p(A)/p(B), p(B)/p(A)); 1 is none.\n\n"
        f"{arguments.WORDS}"
    )
    parser.add_argument("--words", metavar="FILE", help="a word on each line (default: the professions of the paper)")
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help="a prompt on each line, {} where the word stands (default: those of the paper)",
    )
    parser.add_argument("--jobs", metavar="FILE", help="instead: JSON of professions, prompts and train_prompts")
    parser.add_argument(
        "--pair", nargs=2, type=arguments.word, default=["he", "she"], metavar=("A", "B"), help="default: he she"
    )
    parser.add_argument(
        "--factor", type=arguments.number(), metavar="X", help="what senses are scaled by in the ranking (default: 0)"
    )
    arguments.add_pieces(parser, "first", "last", "each")
    arguments.add_edits(parser, "an edit that is in force, a folder that holds one; further ones come after it")
    _add_optimising(parser)
    add_model(parser)
    delivering.add_output(parser)


def _add_optimising(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("--optimise")
    group.add_argument("--optimise", action="store_true", help="find the factor of one sense for each word")
    group.add_argument(
        "--sense", type=int, metavar="N", help="which (default: the one whose removal lowers the bias most)"
    )
    group.add_argument(
        "--test-prompts", metavar="FILE", help="what the outcome is measured on (default: --prompts; or the paper's)"
    )
    group.add_argument(
        "--penalty", type=arguments.number(0), metavar="X", help=f"on leaving 1 (default: {PENALTY:g}, as published)"
    )
    group.add_argument(
        "--bounds", nargs=2, type=arguments.number(), metavar=("LOW", "HIGH"), help="least and greatest factor"
    )
    group.add_argument(
        "--save-edit",
        metavar="FOLDER",
        help="write the edit that has these factors, without those that are 1; where all are: exit code 1",
    )


def run(args: argparse.Namespace) -> int:
    """Ranks, or finds factors, and shows what came."""
    with checking():
        asked, under = _checked(args), arguments.one_after_the_other(arguments.edits_of(args))
    options = {"pieces": args.pieces, "under": under}
    pair = tuple(args.pair)
    with opened(args, plugins=["backpack"]) as model:
        words = asked.professions if args.pieces != "refuse" else _known(model, asked)
        if not args.optimise:
            ranking = model.backpack.rank_bias(words, asked.prompts, pair, factor=args.factor or 0.0, **options)
            return delivering.deliver(args, ranking)
        found = model.backpack.optimal_scale(
            words,
            asked.train_prompts,
            pair,
            sense=args.sense,
            test_prompts=asked.prompts,
            penalty=PENALTY if args.penalty is None else args.penalty,
            bounds=tuple(args.bounds) if args.bounds else None,
            **options,
        )
    if args.save_edit is not None and found.changes:
        delivering.save_edit(found.edit, args.save_edit)
    delivering.deliver(args, found)
    if args.save_edit is not None and not found.changes:
        delivering.told(f"there is no edit to save: every factor is 1{'; see --penalty 0' if found.penalty else ''}")
        return EXIT_NOTHING
    return 0


def _checked(args: argparse.Namespace) -> BiasSettings:
    """Words and prompts; those that are measured are ``prompts``, those that factors are found on ``train_prompts``."""
    given = [flag for name, flag in OF_OPTIMISING.items() if getattr(args, name) is not None]
    if given and not args.optimise:
        raise InvalidRequest(f"{given[0]} goes with --optimise")
    if args.optimise and args.factor is not None:
        raise InvalidRequest("--factor is of the ranking; --optimise finds factors")
    if args.jobs is not None and (args.words or args.prompts or args.test_prompts):
        raise InvalidRequest("--jobs has words and prompts of its own: leave out --words, --prompts, --test-prompts")
    delivering.check_output(args)
    delivering.check_folder("--save-edit", args.save_edit, overwrite=args.overwrite)
    found = BiasSettings(file=args.jobs).read()
    words = arguments.lines_of(args.words, "words") if args.words else found.professions
    if args.prompts is None:
        if args.test_prompts is not None:
            raise InvalidRequest("--test-prompts goes with --prompts, on which factors are found")
        return BiasSettings(professions=words, prompts=found.prompts, train_prompts=found.train_prompts)
    train = _prompts(args.prompts)
    test = _prompts(args.test_prompts) if args.test_prompts else () if args.optimise else train
    return BiasSettings(professions=words, prompts=test, train_prompts=train)


def _prompts(path: str) -> tuple[str, ...]:
    found = arguments.lines_of(path, "prompts")
    if wrong := [prompt for prompt in found if "{}" not in prompt]:
        raise InvalidRequest(f"{path}: the prompt {wrong[0]!r} has no {{}} where the word stands")
    return found


def _known(model: "Model", asked: BiasSettings) -> tuple[str, ...]:
    """Words of one token; which others are left out, as published, is said."""
    from interpd_backpack.evaluation.asking import Asking  # needs the client
    from interpd_backpack.evaluation.bias import known_professions

    known, left_out = known_professions(Asking(model), asked.professions)
    for word, why in left_out.items():
        delivering.told(f"{word!r} is left out: {why}")
    if not known:
        raise InvalidRequest("no word is a single token of the vocabulary: --pieces first, last or each")
    return known
