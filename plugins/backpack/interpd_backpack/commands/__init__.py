"""``interpd backpack``: what ``model.backpack`` does, from the command line; one module for each command."""

import argparse

from interpd_backpack.commands import (
    bias,
    contributions,
    convert,
    edit,
    effects,
    evaluate,
    finetune,
    generate,
    senses,
    similarity,
    specialisation,
    train,
)

COMMANDS = (
    *(senses, similarity, specialisation, contributions),
    *(edit, generate, effects),
    *(bias, evaluate, finetune),
    *(train, convert),
)
"""In the order in which help lists them: reading, editing, finding, making."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds the commands below ``interpd backpack``, and what runs them."""
    parser.description = "Backpack language models: read senses, explain, edit, find edits, evaluate, train"
    parser.epilog = "interpd backpack WHAT --help says what each takes, with examples"
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for one in COMMANDS:
        one.add(commands)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command that was named; its exit code."""
    return args.act(args)
