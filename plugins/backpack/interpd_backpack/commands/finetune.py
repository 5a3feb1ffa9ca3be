"""``interpd backpack finetune``: an edit from canonical examples."""

import argparse
from dataclasses import fields
from typing import Any, get_args

from interpd.cli import add_model, at_least, checking, opened
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering
from interpd_backpack.evaluation.examples import TASKS, Criterion, Quantity, read_examples
from interpd_backpack.finding.finetuning import listed_texts
from interpd_backpack.finding.settings import Selector, Settings

EXAMPLES = """\
  interpd backpack finetune country.jsonl --task country --background texts.jsonl --save-edit capitals
      vectors for a few senses, so that the model says the suffixes; its NLL on the texts grows by 1e-4 at the most
  interpd backpack finetune mine.jsonl --task say --below 1.6 --background texts.jsonl --held-out more.jsonl \\
          --evaluation others.jsonl --radius 1e-3 --checkpoint run1 --save-edit mine
      a criterion of one's own, other examples and texts to measure it, a checkpoint to go on from: --resume run1
"""
DEFAULTS = {field.name: field.default for field in fields(Settings)}


def add(commands: Any) -> None:
    """Adds the command."""
    text = "an edit from examples of what should be said (sense finetuning)"
    parser = arguments.command(commands, "finetune", text, run, examples=EXAMPLES)
    parser.description = (
        f"{text}\n\nFiles are JSON Lines of {{prefix, suffix}}, {{prefix, suffix1, suffix2}}, {{text}}."
    )
    parser.add_argument("examples", metavar="EXAMPLES", help="what is to be learned")
    parser.add_argument(
        "--task",
        required=True,
        metavar="TASK",
        help=f"{', '.join(TASKS)}; or with --below a quantity: {', '.join(get_args(Quantity))}",
    )
    parser.add_argument(
        "--below", type=arguments.number(), metavar="X", help="a criterion of one's own: success is a loss below this"
    )
    parser.add_argument(
        "--background",
        required=True,
        metavar="FILE",
        help="texts on which predictions are to stay: .txt, or JSON Lines of {text}",
    )
    parser.add_argument("--held-out", metavar="FILE", help="texts that say what it costs (default: the background)")
    parser.add_argument("--evaluation", metavar="FILE", help="other examples, on which the outcome is measured")
    parser.add_argument("--hard-negatives", metavar="FILE", help="examples or texts that must not get worse")
    _add_settings(parser)
    run_group = parser.add_argument_group("run")
    run_group.add_argument("--checkpoint", metavar="NAME", help="keep this artifact at the daemon after each epoch")
    run_group.add_argument("--resume", metavar="NAME", help="go on from such an artifact: the same bits in the end")
    arguments.add_edits(parser, "an edit that is in force, a folder that holds one; further ones come after it")
    add_model(parser)
    output = delivering.add_output(parser)
    output.add_argument("--save-edit", metavar="FOLDER", help="write the edit")
    output.add_argument("--name", help="what it is called (default: the task)")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")

    def setting(name: str, text: str, **options: Any) -> None:
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, default=DEFAULTS[name], help=f"{text} (default: {DEFAULTS[name]})", **options)

    positive, share = at_least(1), arguments.number(0)
    setting("selector", "how senses are chosen", choices=get_args(Selector))
    setting("senses_per_example", "(token, sense) pairs that each example chooses", type=positive, metavar="N")
    setting("background_weight", "what the background counts against a pair", type=share, metavar="X")
    setting("learning_rate", "of Adam, falls to 0", type=share, metavar="X")
    setting("kl_weight", "of the divergence on the background", type=share, metavar="X")
    setting("n_epochs", "passes over the examples", type=positive, metavar="N")
    setting("accumulate", "examples of each step", type=positive, metavar="N")
    setting("radius", "share by which the NLL of the held-out texts may grow", type=share, metavar="X")
    setting("seed", "of the order of examples and texts", type=at_least(0), metavar="N")
    group.add_argument(
        "--half", action="store_true", help="round vectors to float16, as the reference's files have them"
    )
    group.add_argument(
        "--no-line-search",
        action="store_false",
        dest="line_search",
        help="take whole epochs only, not the greatest share of the last one that is allowed",
    )


def run(args: argparse.Namespace) -> int:
    """Finetunes, and shows what came."""
    with checking():
        task, settings = _checked(args)
        under = arguments.one_after_the_other(arguments.edits_of(args))
    data = {name: getattr(args, name) for name in ("held_out", "evaluation", "hard_negatives") if getattr(args, name)}
    options = {name: getattr(args, name) for name in ("checkpoint", "resume", "name") if getattr(args, name)}
    if under is not None:
        options["under"] = under
    with opened(args, plugins=["backpack"]) as model:
        found = model.backpack.finetune(args.examples, task, background=args.background, **data, **settings, **options)
    if args.save_edit is not None and found.epoch:
        delivering.save_edit(found.edit, args.save_edit)
    delivering.deliver(args, found)
    if not found.epoch:
        delivering.told("nothing is added, so there is no edit: a larger --radius, or a smaller --learning-rate")
        return EXIT_NOTHING if args.save_edit is not None else 0
    return 0


EXIT_NOTHING = 1
"""An edit was asked for, and there is none."""


def _checked(args: argparse.Namespace) -> tuple[str | Criterion, dict[str, Any]]:
    delivering.check_output(args)
    delivering.check_folder("--save-edit", args.save_edit, overwrite=args.overwrite)
    for path in (args.examples, args.evaluation, args.hard_negatives):
        if path is not None:
            read_examples(path)
    for path in (args.background, args.held_out):
        if path is not None:
            listed_texts(path)
    task: str | Criterion = args.task
    if args.below is not None:
        task = Criterion(args.task, args.below)
    elif args.task not in TASKS:
        raise InvalidRequest(
            f"there is no task {args.task!r}; there are {', '.join(TASKS)}, or with --below "
            f"{', '.join(get_args(Quantity))}"
        )
    settings = {name: getattr(args, name) for name in DEFAULTS if name != "loss"}
    criterion = task if isinstance(task, Criterion) else TASKS[task]
    Settings(criterion.quantity, **settings)
    return task, settings
