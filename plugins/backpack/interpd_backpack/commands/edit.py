"""``interpd backpack edit``: edits, made, looked at, put together and tried out."""

import argparse
import sys
from pathlib import Path
from typing import Any

from interpd.cli import add_model, checking, opened, print_json
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering, effects, operations
from interpd_backpack.edits import Edit

EXAMPLES = """\
  interpd backpack edit new calm --scale nurse 10 0.2
  interpd backpack edit new swap --replace nurse she he --name "nurse: she -> he"
  interpd backpack edit show swap
  interpd backpack edit try swap "The nurse said that" --target she he
  interpd backpack edit combine both calm swap
  interpd backpack edit diff calm both
"""


def add(commands: Any) -> None:
    """Adds the command, and those below it."""
    text = "edits of senses: make, show, compare, combine, invert, try them"
    parser = commands.add_parser(
        "edit",
        help=text,
        description=f"{text}\n\nAn edit is a folder of edit.json and edit.safetensors. Only new and try ask a daemon.",
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="edit_action", metavar="ACTION", required=True)
    _add_new(actions)
    _add_light(actions)
    text = "what an edit does to senses, or with prompts to predictions; nothing is changed"
    trying = arguments.command(actions, "try", text, try_out, examples=EXAMPLES)
    trying.add_argument("edit", metavar="FOLDER", help="the edit")
    effects.add_prompts(trying)
    trying.add_argument(
        "--words",
        nargs="+",
        type=arguments.word,
        metavar="WORD",
        help="without prompts: whose senses (default: edited)",
    )
    effects.add_predictions(trying)
    arguments.add_pieces(trying, "first", "last")
    add_model(trying)
    delivering.add_output(trying)


def _add_new(actions: Any) -> None:
    text = "make an edit of words, for a model"
    new = arguments.command(actions, "new", text, make, examples=EXAMPLES)
    new.description = f"{text}\n\n{arguments.WORDS}"
    new.add_argument("folder", metavar="FOLDER", help="where it is written")
    operations.add_operations(new)
    new.add_argument("--name", default="", help="what it is called (default: as --operations FILE says, or as FOLDER)")
    arguments.add_pieces(new, "first", "last", "each")
    new.add_argument(
        "--on-conflict",
        choices=("warn", "refuse", "allow"),
        default="warn",
        help="operations that would do something else in another order (default: warn)",
    )
    add_model(new)
    delivering.add_overwrite(new)


def _add_light(actions: Any) -> None:
    shown = arguments.command(
        actions, "show", "what an edit does, of which model, and its conflicts", show, examples=EXAMPLES, local=True
    )
    shown.add_argument("edit", metavar="FOLDER")
    diff = arguments.command(
        actions, "diff", "what one edit does that another does not", compare, examples=EXAMPLES, local=True
    )
    diff.add_argument("first", metavar="FOLDER")
    diff.add_argument("second", metavar="FOLDER")
    both = arguments.command(
        actions, "combine", "one edit of several, in their order", combine, examples=EXAMPLES, local=True
    )
    both.add_argument("folder", metavar="FOLDER", help="where it is written")
    both.add_argument("edits", nargs="+", metavar="EDIT", help="folders of edits, the one that acts first before")
    back = arguments.command(
        actions, "invert", "the edit that takes another back", invert, examples=EXAMPLES, local=True
    )
    back.add_argument("folder", metavar="FOLDER", help="where it is written")
    back.add_argument("edit", metavar="EDIT", help="the folder of the other")
    for parser in (both, back):
        parser.add_argument("--name", help="what it is called")
        delivering.add_overwrite(parser)


def make(args: argparse.Namespace) -> int:
    """Makes an edit and writes it."""
    with checking():
        made, name = operations.operations_of(args)
        delivering.check_folder("FOLDER", args.folder, overwrite=args.overwrite)
    on_conflict = "refuse" if args.on_conflict == "refuse" else "allow"
    with opened(args, plugins=["backpack"]) as model:
        edit = model.backpack.edit(
            *made, name=args.name or name or Path(args.folder).name, pieces=args.pieces, on_conflict=on_conflict
        )
    return _written(args, edit, warn=args.on_conflict == "warn")


def show(args: argparse.Namespace) -> int:
    """Shows an edit."""
    with checking():
        edit = Edit.load(args.edit)
    _print(args, edit)
    return 0


def compare(args: argparse.Namespace) -> int:
    """Shows what is different."""
    with checking():
        first, second = Edit.load(args.first), Edit.load(args.second)
    found = first.diff(second)
    if args.json:
        steps = [{"mark": mark, "operation": one.describe()} for mark, one in found.steps]
        print_json({"same": not found, "reordered": found.is_reordered, "base": found.base, "steps": steps})
    else:
        sys.stdout.write(f"{found}\n")
    return 0


def combine(args: argparse.Namespace) -> int:
    """Puts edits together."""
    with checking():
        delivering.check_folder("FOLDER", args.folder, overwrite=args.overwrite)
        edits = [Edit.load(folder) for folder in args.edits]
        edit = arguments.one_after_the_other(edits, tell=False)  # all conflicts are told below
        if edit is None or len(edits) == 1:
            raise InvalidRequest("combine puts several edits together, got one")
    return _written(args, edit.renamed(args.name) if args.name else edit, warn=True)


def invert(args: argparse.Namespace) -> int:
    """Makes the edit that takes another back."""
    with checking():
        delivering.check_folder("FOLDER", args.folder, overwrite=args.overwrite)
        edit = Edit.load(args.edit).inverse()
    return _written(args, edit.renamed(args.name) if args.name else edit, warn=False)


def try_out(args: argparse.Namespace) -> int:
    """Shows what an edit does to senses, or to predictions."""
    with checking():
        edit, prompts = Edit.load(args.edit), arguments.texts_of(args.prompts, args.texts)
        if prompts and args.words:
            raise InvalidRequest("--words are those whose senses are shown without prompts; of prompts give --target")
        if not prompts and args.target:
            raise InvalidRequest("--target is of predictions: give a PROMPT; whose senses are shown is --words")
        delivering.check_output(args)
    asked = {"top": args.top, "pieces": args.pieces}
    with opened(args, plugins=["backpack"]) as model:
        if prompts:
            where = {"targets": args.target, "position": args.position}
            return delivering.deliver(args, model.backpack.effects(list(prompts), edit, **where, **asked))
        return delivering.deliver(args, model.backpack.dry_run(edit, words=args.words or (), **asked))


def _written(args: argparse.Namespace, edit: Edit, *, warn: bool) -> int:
    for conflict in edit.conflicts() if warn else ():
        if conflict.order_matters is not False:
            delivering.told(f"conflict: {conflict}")
    delivering.save_edit(edit, args.folder)
    _print(args, edit)
    return 0


def _print(args: argparse.Namespace, edit: Edit) -> None:
    met = [str(one) for one in edit.conflicts()]
    if args.json:
        print_json({**edit.to_json(), "conflicts": met})
        return
    base = edit.base
    of = f"of a model of {base.n_tokens} tokens, {base.n_senses} senses, width {base.d_model}"
    revision = f", revision {base.revision}" if base.revision else ""
    lines = [edit.describe(), f"{of}{revision}", edit.digest, *(f"! {one}" for one in met)]
    sys.stdout.write("\n".join(lines) + "\n")
