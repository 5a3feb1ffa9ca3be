"""``python -m benchmarks [NAME ...] [--json]``: measures the claims and prints a table, or an object per row."""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.status import Status

from benchmarks.harness.claims import Claim, all_claims
from benchmarks.harness.row import Row
from benchmarks.harness.sizes import FULL, QUICK
from benchmarks.harness.stage import Stage
from benchmarks.harness.table import print_claims, print_rows

EXIT_OK, EXIT_BROKEN = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmarks that ``argv`` names; 0 unless one of them could not be measured."""
    claims = all_claims()
    parser = _parser()
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in claims]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(claims)}")
    out = Console(soft_wrap=True)
    if args.list:
        print_claims(claims, out)
        return EXIT_OK
    chosen = [claim for name, claim in claims.items() if not args.names or name in args.names]
    broken: list[str] = []
    rows: list[Row] = []
    for row in _measured(chosen, args.quick, broken):
        rows.append(row)
        if args.json:
            print(json.dumps(asdict(row)), flush=True)
    if rows and not args.json:
        print_rows(rows, out)
    for name in broken:
        sys.stderr.write(f"benchmark {name!r} broke\n")
    return EXIT_BROKEN if broken else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures interpd against its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all when none is named")
    parser.add_argument("--json", action="store_true", help="one JSON object per row instead of a table")
    parser.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    parser.add_argument("--quick", action="store_true", help="toy sizes: shows that it runs, the numbers mean nothing")
    return parser


def _measured(claims: Sequence[Claim], quick: bool, broken: list[str]) -> Iterator[Row]:
    """The rows of each claim; names of those that raised go to ``broken``."""
    console = Console(stderr=True)
    with Status("", console=console) as status, Stage(QUICK if quick else FULL, status.update) as stage:
        for claim in claims:
            try:
                rows = list(claim.run(stage))
            # a benchmark that breaks says so, and the others are still measured
            except Exception:
                broken.append(claim.name)
                console.print(f"{claim.name} broke\n{traceback.format_exc()}", markup=False, soft_wrap=True)
                continue
            for row in rows:
                console.print(f"{row.name}: {row.ratio:.2f} (at least {row.at_least:.2f})")
                yield row


if __name__ == "__main__":
    sys.exit(main())
