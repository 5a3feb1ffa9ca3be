"""``interpd backpack evaluate``: what a Backpack, or an edit of one, is worth."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpd.cli import add_model, at_least, checking, opened
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering
from interpd_backpack.evaluation.settings import read_files, suite_of

if TYPE_CHECKING:
    from interpd_backpack.evaluation import Suite

EXIT_PARTLY = 1
EXAMPLES = """\
  interpd backpack evaluate --pairs SimLex-999.txt --texts held-out.txt --out report
      similarity and perplexity, as tables here and as report.html, report.md and numbers.json
  interpd backpack evaluate --suite bias perplexity collateral --texts held-out.txt --edit calm
      an edit against the model as it is, and what it costs
  interpd backpack evaluate --suite topics --bags topics.json --set n_samples=100 --set "strengths=[1, 3]"
      a part with settings of its own

exit code 1: a part could not be measured; the others are there, with the reason
"""
DATA = ("pairs", "jobs", "bags", "examples", "task", "hard_negatives", "texts", "prompts", "sense")


def add(commands: Any) -> None:
    """Adds the command."""
    text = "what a Backpack, or an edit of one, is worth: similarity, bias, topics, examples, perplexity, collateral"
    parser = arguments.command(commands, "evaluate", text, run, examples=EXAMPLES)
    parser.add_argument(
        "--suite",
        nargs="+",
        metavar="PART",
        help="similarity, bias, topics, examples, perplexity, collateral (default: all whose data are given; bias, "
        "which has data of its own, where there are none)",
    )
    arguments.add_edits(
        parser, "an edit that the model is compared with, a folder that holds one; further ones come after it"
    )
    data = parser.add_argument_group("data")
    data.add_argument("--pairs", nargs="+", metavar="FILE", help="rated word pairs: SimLex-999, SimVerb-3500, ...")
    data.add_argument("--jobs", metavar="FILE", help="bias: JSON of professions and prompts (default: the paper's)")
    data.add_argument("--sense", type=at_least(0), metavar="N", help="bias: the sense that is removed and scaled")
    data.add_argument("--bags", metavar="FILE", help="topics: JSON of {topic: [words]}")
    data.add_argument("--examples", metavar="FILE", help="canonical examples: JSON Lines of {prefix, suffix}")
    data.add_argument("--task", help="of the examples: country, company, temporal, stereoset, gender, syntax")
    data.add_argument("--hard-negatives", metavar="FILE", help="examples: what should stay as it is")
    data.add_argument("--texts", nargs="+", metavar="FILE", help="perplexity: .txt, or JSON Lines of {text}")
    data.add_argument("--prompts", metavar="FILE", help="collateral: a prompt on each line that should stay as it is")
    data.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=JSON",
        help="any other setting of the parts: n_samples=100, strengths=[1,3], window=256; again for further ones",
    )
    output = delivering.add_output(parser)
    output.add_argument("--out", metavar="DIR", help="folder of report.html, report.md and numbers.json")
    add_model(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, and shows what came."""
    with checking():
        edit = arguments.one_after_the_other(arguments.edits_of(args))
        suite = _suite(args, has_edit=edit is not None)
        for _, settings in suite.parts():
            read_files(settings)
        delivering.check_output(args)
        delivering.check_folder("--out", args.out, overwrite=args.overwrite)
    with opened(args, plugins=["backpack"]) as model, delivering.progress_line(args) as show:
        found = model.backpack.evaluate(suite, edit=edit, on_progress=_Teller(show))
    if args.out is not None:
        delivering.save_folder(Path(args.out), found.save)
    delivering.deliver(args, found)
    for name, why in found.failures.items():
        delivering.told(f"{name} could not be measured: {' '.join(why.split())}")
    return EXIT_PARTLY if found.failures else 0


def _suite(args: argparse.Namespace, *, has_edit: bool) -> "Suite":
    data = {name: getattr(args, name) for name in DATA if getattr(args, name) is not None}
    if "prompts" in data:
        data["prompts"] = arguments.lines_of(data["prompts"], "prompts")
    files = [*(args.pairs or ()), *(args.texts or ()), args.jobs, args.bags, args.examples, args.hard_negatives]
    if missing := [file for file in files if file is not None and not Path(file).is_file()]:
        raise InvalidRequest(f"there is no file {missing[0]!r}")
    if "collateral" in (args.suite or ()) and not has_edit:
        raise InvalidRequest("collateral is that of an edit: --edit FOLDER")
    settings = dict(args.set)
    if twice := sorted(settings.keys() & set(DATA)):
        raise InvalidRequest(f"--set {twice[0]}: that is --{twice[0].replace('_', '-')}")
    return suite_of(args.suite, {**data, **settings}, has_edit=has_edit)


def _setting(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not (name and found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=JSON")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return name.strip().replace("-", "_"), tuple(parsed) if isinstance(parsed, list) else parsed


class _Teller:
    """Shows how far each part is; what topics, the dear ones, will cost is said where no line can be written over."""

    def __init__(self, show: delivering.Show | None) -> None:
        self._show = show
        self._is_told = False

    def __call__(self, part: str, done: float, total: float, what: str) -> None:
        if self._show is not None:
            self._show(f"{part}: {done:g} of {total:g} {what}")
        elif part == "topics" and not self._is_told:
            self._is_told = True
            delivering.told(f"{part}: {total:g} {what}")
