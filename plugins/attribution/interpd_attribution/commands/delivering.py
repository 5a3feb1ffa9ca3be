"""Where results go: tables, a page, a file, standard output."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from interpd.errors import InvalidRequest
from interpd_attribution.aggregation import list_aggregation_functions
from interpd_attribution.attributions import Attributions
from interpd_attribution.files import own
from interpd_attribution.files.text import encoded
from interpd_attribution.steps import stepped

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

LOG = "interpd_attribution"


@contextmanager
def logged(args: argparse.Namespace) -> Iterator[logging.Logger]:
    """The log of these commands, on standard error as far as ``-v`` and ``-vv`` ask for, while the block lasts."""
    log = logging.getLogger(LOG)
    heard = logging.getLogger() if args.very_verbose else log
    level_before = heard.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if args.verbose or args.very_verbose:
        heard.addHandler(handler)
        heard.setLevel(logging.DEBUG if args.very_verbose else logging.INFO)
    try:
        yield log
    finally:
        heard.removeHandler(handler)
        heard.setLevel(level_before)


def check_outputs(args: argparse.Namespace, *, is_resumed: bool = False) -> None:
    """Raises ``InvalidRequest`` for files that cannot be written, before anything is computed."""
    for name, path in (("-o/--save-path", args.save_path), ("--viz-path", args.viz_path)):
        if path is None:
            continue
        if not Path(path).absolute().parent.is_dir():
            raise InvalidRequest(f"{name} {path!r}: there is no such folder; nothing was run")
        if Path(path).is_dir():
            raise InvalidRequest(f"{name} {path!r} is a folder; nothing was run")
        if Path(path).exists() and not (args.overwrite or is_resumed):
            raise InvalidRequest(f"{name} {path!r} exists; --overwrite replaces it; nothing was run")


def chosen(args: argparse.Namespace, out: "Attribution") -> "Attribution":
    """``out`` as the options of ``add_aggregation`` want it; as it is where they want nothing."""
    scaling = {"rescale": True} if args.rescale else {"normalize": bool(args.normalize)}
    if args.selectors:
        for name, entry in zip(args.aggregators, args.selectors, strict=True):
            out = out.aggregate(name, select_idx=entry, **scaling)
        return out
    if args.aggregators:
        # as Inseq's: scores are scaled where that is asked for; aggregators of tokens have nothing to scale
        takes = args.normalize or args.rescale or _scales(args)
        return out.aggregate(args.aggregators, **(scaling if takes else {}))
    return out.aggregate(**scaling) if args.normalize or args.rescale else out


def written(args: argparse.Namespace, out: "Attribution") -> "Attribution":
    """``out`` as it goes into files."""
    found = chosen(args, stepped(out) if args.keep_steps else out)
    return found.aggregate(normalize=False) if args.aggregate_output and found.dims else found


def each(out: Attributions, change: Callable[["Attribution"], "Attribution"]) -> Attributions:
    """Each of ``out`` changed."""
    return replace(out, sequence_attributions=tuple(change(item) for item in out))


def warn(out: Attributions) -> None:
    """Prints what the runs warned of on standard error, each thing once."""
    found = [str(text) for item in out for text in item.info.get("warnings", ())]
    for text in dict.fromkeys(found):
        sys.stderr.write(f"interpd: {text}\n")


def show(args: argparse.Namespace, out: "Attribution | Attributions") -> None:
    """Prints tables, unless they are hidden or standard output is for programs."""
    if not (args.hide or args.json):
        _flat(args, out).show(do_aggregation=False)


def save_page(args: argparse.Namespace, out: Attributions) -> None:
    """Writes the page that was asked for."""
    if args.viz_path:
        page = _flat(args, out).html(page=True, do_aggregation=False)
        # halves of characters, which tokens may be, have no UTF-8
        Path(args.viz_path).write_text(page, encoding="utf-8", errors="replace")


def print_document(out: Attributions, **more: object) -> None:
    """Prints the content of a file of results, with numbers as text, and ``more`` at its top level."""
    document = {**own.to_json(out.sequence_attributions, out.info, "float32", is_compact=False), **more}
    sys.stdout.write(encoded(json.dumps(document, ensure_ascii=False, allow_nan=False)).decode() + "\n")


def _flat(args: argparse.Namespace, out: "Attribution | Attributions") -> "Attribution | Attributions":
    """``out`` with one number for each pair of tokens, not scaled; as it is where aggregators have seen to it."""
    if args.aggregators:
        return out
    if isinstance(out, Attributions):
        return each(out, lambda item: item.aggregate(normalize=False) if item.dims else item)
    return out.aggregate(normalize=False) if out.dims else out


def _scales(args: argparse.Namespace) -> bool:
    return any(name == "scores" or name in list_aggregation_functions() for name in args.aggregators)
