"""The command ``interpd attribute``: texts given on the command line."""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING, Any, NoReturn

from interpd.cli import checking, print_json, print_table
from interpd.errors import CallerError, InvalidRequest
from interpd_attribution.attributions import Attributions
from interpd_attribution.commands import arguments, asking, delivering
from interpd_attribution.commands.opening import opened
from interpd_attribution.commands.values import option
from interpd_attribution.commands.waiting import progress_line
from interpd_attribution.dataset import Failure, Row, attribute_dataset
from interpd_attribution.dataset.partial import together
from interpd_attribution.dataset.running import said
from interpd_attribution.inseq_words import method_of

if TYPE_CHECKING:
    from interpd_client import Model

EMPTY = {"-i": ": give at least the token that texts begin with", "-g": ": without -g the model answers first"}
"""What to do about texts that are."""

EXAMPLES = """\
examples:
  interpd attribute -i "The cat sat on the"
      what the only model of the daemon says next, and which input moved which of its tokens
  interpd attribute -m gpt2 -i "The cat sat" -g "The cat sat on the mat" -a integrated_gradients \\
          --attribution-kwargs '{"n_steps": 20}' --step-scores probability entropy -o out.json --viz-path out.html
      a continuation that is given, another method, the probability of each token, files
  interpd attribute -i "The keys to the cabinet" -g " are" --contrast " is" --target contrast_prob_diff
      why this one rather than that one
  interpd attribute -m ./my-model --in-process -i "Hello"
      no daemon: the model is loaded by this process
  interpd attribute --list-methods
  interpd attribute --explain integrated_gradients

Options of several words are known with underscores, too, as Inseq has them: --step_scores.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds the command's description, arguments and what it runs."""
    parser.description = "which input moved which generated token, by how much"
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    texts = parser.add_argument_group("texts")
    option(texts, "-i", "--input-texts", nargs="+", metavar="TEXT", help="what the model is given; several: one by one")
    option(
        texts,
        *("-g", "--generated-texts"),
        nargs="+",
        metavar="TEXT",
        help="what it is taken to have answered, one for each input, with or without the input before it "
        "(default: it answers first)",
    )
    option(
        texts,
        "--contrast",
        nargs="+",
        action="append",
        metavar="TEXT",
        help="what it might have answered instead, one for each input, or one for all; again: a further one",
    )
    arguments.add_model(parser)
    arguments.add_request(parser)
    arguments.add_aggregation(parser)
    arguments.add_output(parser)
    looking = parser.add_argument_group("instead of attributing")
    option(looking, "--list-methods", action="store_true", help="list the methods of the model's workers")
    option(looking, "--list-step-functions", action="store_true", help="list what --target and --step-scores take")
    option(looking, "--explain", metavar="NAME", help="say what a method or a step function is")
    option(looking, "--estimate", action="store_true", help="say what it would cost")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Attributes the texts, or looks something up."""
    is_look_up = args.list_methods or args.list_step_functions or args.explain
    with checking():
        rows = [] if is_look_up else _checked(args)
    with delivering.logged(args) as log, opened(args) as model, asking.refusing(model):
        if is_look_up:
            return _look_up(args, model)
        settled = asking.alone(args, rows, has_encoder=model.info.has_encoder)
        began_s = time.monotonic()
        wanted = asking.arguments(args, model)
        log.info("%r is asked for %d texts: %s", model, len(rows), wanted)
        if args.estimate:
            return _estimate(args, model, settled, wanted)
        out = _attributed(args, model, settled, wanted)
        log.info("%d results after %.1f s", len(out), time.monotonic() - began_s)
    deliver(args, out)
    return 0


def _checked(args: argparse.Namespace) -> list[Row]:
    asking.check_request(args)
    asking.check_generated(args, is_given=args.generated_texts is not None)
    delivering.check_outputs(args)
    return rows_of(args)


def rows_of(args: argparse.Namespace) -> list[Row]:
    """The texts of the command line. Raises ``InvalidRequest`` for other counts of them than of inputs."""
    inputs = args.input_texts
    if not inputs:
        raise InvalidRequest("say what the model is given: -i TEXT (interpd attribute --help)")
    n = len(inputs)
    if args.generated_texts is not None and len(args.generated_texts) != n:
        raise InvalidRequest(f"{len(args.generated_texts)} -g for {n} -i: give one for each, or none")
    for flag, texts in (("-i", inputs), ("-g", () if args.is_prefix else args.generated_texts or ())):
        if "" in texts:
            raise InvalidRequest(f"{flag} number {texts.index('') + 1} of {n} is empty{EMPTY[flag]}")
    for group in args.contrast or ():
        if len(group) not in (1, n):
            raise InvalidRequest(f"{len(group)} --contrast for {n} -i: give one for each, or one for all")
    generated = args.generated_texts or [None] * n
    return [Row(at, inputs[at], generated[at], _foils(args.contrast, at)) for at in range(n)]


def deliver(args: argparse.Namespace, out: Attributions) -> None:
    """Shows, draws, writes and prints results, as the options say."""
    delivering.warn(out)
    shown = delivering.each(out, lambda item: delivering.chosen(args, item))
    delivering.show(args, shown)
    delivering.save_page(args, shown)
    kept = delivering.each(out, lambda item: delivering.written(args, item))
    if args.save_path:
        kept.save(args.save_path, overwrite=args.overwrite)
    if args.json:
        delivering.print_document(kept)


def _foils(groups: Sequence[Sequence[str]] | None, at: int) -> Any:
    found = [group[at] if len(group) > 1 else group[0] for group in groups or ()]
    return found[0] if len(found) == 1 else found or None


def _attributed(args: argparse.Namespace, model: "Model", rows: Sequence[Row], wanted: dict[str, Any]) -> Attributions:
    with progress_line(args, len(rows)) as progress:
        fail = partial(_fail, len(rows))
        found = attribute_dataset(model, rows, in_flight=args.batch_size, on_failure=fail, progress=progress, **wanted)
        with closing(found):
            return together(found)


def _fail(n_rows: int, failure: Failure) -> NoReturn:
    if n_rows == 1 or not isinstance(failure.error, CallerError):
        raise failure.error
    raise InvalidRequest(f"-i number {failure.row.number + 1} of {n_rows}: {said(failure.error)}") from failure.error


def _estimate(args: argparse.Namespace, model: "Model", rows: Sequence[Row], wanted: dict[str, Any]) -> int:
    of_each = [model.attribute.estimate(row.input, row.generated, **wanted, **row.arguments) for row in rows]
    whole = reduce(add, of_each)
    if args.json:
        print_json(asdict(whole))
    else:
        sys.stdout.write(f"{whole}\n")
    return 0


def _look_up(args: argparse.Namespace, model: "Model") -> int:
    part = model.attribute
    if args.explain:
        _explain(part, args.explain)
    elif args.list_methods:
        found = part.methods()
        _print_listed(args, found, ("method", "what it is"), list(found.items()))
    else:
        known = part.step_functions()
        told = {name: asdict(one) for name, one in known.items()}
        rows = [(one.name, ", ".join(one.options), one.summary) for one in known.values()]
        _print_listed(args, told, ("step function", "options", "what it is"), rows)
    return 0


def _explain(part: Any, name: str) -> None:
    """Prints what a method or a step function is, Inseq's name or ours, and how Inseq calls its options."""
    meant = method_of(name)
    part.explain(name if name in part.methods() else meant.id)
    theirs = [f"  Inseq's {old} is {new}\n" for old, new in meant.renamed.items()]
    sys.stdout.write("".join(["" if meant.id == name else f"{meant.note}\n", *theirs]))


def _print_listed(
    args: argparse.Namespace, document: Any, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    if args.json:
        print_json(document)
    else:
        print_table("", columns, sorted(rows))
