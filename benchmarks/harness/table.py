"""The rows as people read them."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.harness.claims import Claim
from benchmarks.harness.row import Row


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """Prints the table of ``rows``."""
    table = Table("benchmark", "ours", "theirs", "unit", "ratio", "at least", "", box=None, pad_edge=False)
    for row in rows:
        verdict = "[green]reached[/green]" if row.holds else "[red]missed[/red]"
        numbers = (f"{row.ours:.4g}", f"{row.theirs:.4g}", row.unit, f"{row.ratio:.2f}", f"{row.at_least:.2f}")
        table.add_row(row.name, *numbers, verdict)
    console.print(table)


def print_claims(claims: Mapping[str, Claim], console: Console) -> None:
    """Prints what there is to measure."""
    table = Table("benchmark", "measures", "against", box=None, pad_edge=False)
    for claim in claims.values():
        table.add_row(claim.name, claim.measures, claim.against)
    console.print(table)
