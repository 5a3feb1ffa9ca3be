"""The registry: every module beside this package that marks a function with ``@claim`` adds its rows to the table."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import benchmarks
from benchmarks.harness.row import Row
from benchmarks.harness.stage import Stage


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, and the function that measures it."""

    name: str
    measures: str
    against: str
    order: int
    """Place in the table."""
    run: Callable[[Stage], Iterable[Row]]


_claims: dict[str, Claim] = {}


def claim(
    name: str, *, measures: str, against: str, order: int = 100
) -> Callable[[Callable[[Stage], Iterable[Row]]], Callable[[Stage], Iterable[Row]]]:
    """Marks the function that measures a claim on a stage and gives its rows.

    Args:
        name: By which it is chosen on the command line; its rows have this name, or names that begin with it.
        measures: What interpd does, in words.
        against: What it is compared with, in words.
        order: Place in the table; the claims of the first table come before 100.
    """

    def mark(run: Callable[[Stage], Iterable[Row]]) -> Callable[[Stage], Iterable[Row]]:
        assert name not in _claims, f"two benchmarks are called {name!r}"
        _claims[name] = Claim(name, measures, against, order, run)
        return run

    return mark


def all_claims() -> Mapping[str, Claim]:
    """Every claim by name, in the order of the table."""
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if not module.ispkg and not module.name.startswith("_"):
            importlib.import_module(f"benchmarks.{module.name}")
    return {found.name: found for found in sorted(_claims.values(), key=lambda found: (found.order, found.name))}
