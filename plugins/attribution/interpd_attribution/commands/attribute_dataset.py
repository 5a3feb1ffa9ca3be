"""The command ``interpd attribute-dataset``: every row of a dataset."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpd.cli import checking
from interpd.errors import InvalidRequest
from interpd_attribution.attribution import Attribution
from interpd_attribution.attributions import Attributions
from interpd_attribution.commands import arguments, asking, delivering, reading
from interpd_attribution.commands.opening import opened
from interpd_attribution.commands.values import option
from interpd_attribution.commands.waiting import progress_line
from interpd_attribution.dataset import Failure, Row, attribute_dataset
from interpd_attribution.dataset.partial import Partial, together
from interpd_attribution.dataset.running import said

if TYPE_CHECKING:
    from interpd_client import Model

EXIT_FAILED = 1

EXAMPLES = """\
examples:
  interpd attribute-dataset -d questions.jsonl -in question -gen answer -o out.json --viz-path out.html --hide
      a file: JSON, JSON Lines, CSV, TSV, plain text, Parquet (with pyarrow), each compressed (.gz) or not
  interpd attribute-dataset -d questions.jsonl -in question -gen answer -o out.json --hide --resume
      what a run that ended early has left to do, and rows that failed
  interpd attribute-dataset -d stanfordnlp/imdb --split test[:100] -in text -o imdb.json
      a dataset of the hub, where the library datasets is installed

A row that fails is told of, with its number, and the others go on; the exit code is 1 then.
Options of several words are known with underscores, too, as Inseq has them: --dataset_kwargs.
"""


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds the command's description, arguments and what it runs."""
    parser.description = "which input moved which generated token, for every row of a dataset"
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    reading.add_dataset(parser)
    arguments.add_model(parser)
    arguments.add_request(parser)
    arguments.add_aggregation(parser)
    output = arguments.add_output(parser)
    option(output, "--resume", action="store_true", help="go on with what --save-path and its .partial hold already")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Attributes the rows; the exit code is 1 when some failed."""
    with checking():
        _check(args)
    rows = reading.rows_of(args)
    failures: list[Failure] = []
    with delivering.logged(args) as log, opened(args) as model, asking.refusing(model):
        rows = asking.alone(args, rows, has_encoder=model.info.has_encoder)
        began_s = time.monotonic()
        wanted = asking.arguments(args, model)
        log.info("%r is asked for %d rows: %s", model, len(rows), wanted)
        out = _attributed(args, model, rows, wanted, failures)
        log.info("%d results, %d failures after %.1f s", len(out), len(failures), time.monotonic() - began_s)
    delivering.warn(out)
    delivering.save_page(args, out)
    told = {str(failure.row.number): said(failure.error) for failure in failures}
    if args.json:
        delivering.print_document(out, failed=told)
    return _ending(args, len(out), failures)


def _check(args: argparse.Namespace) -> None:
    asking.check_request(args)
    asking.check_generated(args, is_given=args.generated_field is not None)
    delivering.check_outputs(args, is_resumed=args.resume)
    if args.resume and not args.save_path:
        raise InvalidRequest("--resume goes on with the file of --save-path: say which, -o FILE")
    if args.save_path and not args.resume:
        Partial.refuse_left(Path(args.save_path), overwrite=args.overwrite)
    reading.check(args)


def _attributed(
    args: argparse.Namespace, model: "Model", rows: Sequence[Row], wanted: dict[str, Any], failures: list[Failure]
) -> Attributions:
    """The results of all rows, those of earlier runs included; written where that is wanted."""
    about: dict[str, object] = {"name": reading.name_of(args), "n_rows": len(rows)}
    with _store(args, model, wanted) as store:
        left = rows if store is None else store.left(rows)
        found: list[Attribution] = []
        keep = found.append if store is None else store.add
        with progress_line(args, len(left)) as progress:
            results = attribute_dataset(
                model, left, in_flight=args.batch_size, on_failure=failures.append, progress=progress, **wanted
            )
            with closing(results), _told_when_interrupted(store):
                _keep_each(args, results, keep)
        about["failed"] = {str(failure.row.number): said(failure.error) for failure in failures}
        return together(found, about) if store is None else store.save(about)


@contextmanager
def _told_when_interrupted(store: Partial | None) -> Iterator[None]:
    """Says what is on disk when the user has had enough."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("\ninterpd: interrupted")
        if store is not None:
            sys.stderr.write(f"; rows with a result: {len(store)}, in {store.path}; --resume goes on with them")
        sys.stderr.write("\n")
        raise


def _keep_each(args: argparse.Namespace, results: Any, keep: Callable[[Attribution], None]) -> None:
    for one in results:
        keep(delivering.written(args, one))
        delivering.show(args, delivering.chosen(args, one))


def _store(args: argparse.Namespace, model: "Model", wanted: dict[str, Any]) -> Any:
    if not args.save_path:
        return nullcontext()
    names = ("aggregators", "selectors", "normalize", "rescale", "aggregate_output", "keep_steps")
    settings = {"model": model.name, **wanted, **{name: getattr(args, name) for name in names if getattr(args, name)}}
    return Partial(Path(args.save_path), settings, resume=args.resume, overwrite=args.overwrite)


def _ending(args: argparse.Namespace, n_done: int, failures: Sequence[Failure]) -> int:
    for failure in failures:
        sys.stderr.write(f"interpd: {failure}\n")
    if not failures:
        return 0
    again = "; --resume tries them again" if args.save_path else ""
    rows = "row" if len(failures) == 1 else "rows"
    sys.stderr.write(f"interpd: {len(failures)} {rows} failed, {n_done} have results{again}\n")
    return EXIT_FAILED
