"""Aggregators and functions by name: ours, those of installed packages, and those that a program registers.

A package offers its own through the entry-point group ``interpd_attribution.aggregators``; the entry's name counts, and
it names an ``Aggregator`` or an ``AggregationFunction``. Nothing but ``register`` changes what a name means.
"""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from interpd.errors import CallerError
from interpd_attribution.aggregation.functions import BUILT_IN, AggregationFunction

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

GROUP = "interpd_attribution.aggregators"


@dataclass(frozen=True)
class Aggregator:
    """A function from a result to a smaller one; its keyword-only parameters are its options.

    One that takes ``aggregate_fn`` gets an ``AggregationFunction``, or ``None`` where neither the caller nor
    ``default`` names one.
    """

    name: str
    call: Callable[..., "Attribution"]
    default: Callable[["Attribution"], str | None] = lambda attribution: None
    """The function's name, where the caller gives none."""

    def __call__(self, attribution: "Attribution", **options: Any) -> "Attribution":
        """The smaller result."""
        return self.call(attribution, **options)

    @property
    def options(self) -> frozenset[str]:
        """Names of what it takes, ``aggregate_fn`` included."""
        parameters = inspect.signature(self.call).parameters.values()
        return frozenset(item.name for item in parameters if item.kind is item.KEYWORD_ONLY)


def aggregator(
    name: str, default: Callable[["Attribution"], str | None] = lambda attribution: None
) -> Callable[[Callable[..., "Attribution"]], Aggregator]:
    """A decorator: the function below it as an ``Aggregator``."""
    return lambda call: Aggregator(name, call, default)


Entry = Aggregator | AggregationFunction

_registered: dict[str, Entry] = {}


def register(entry: Entry, *, overwrite: bool = False) -> None:
    """Makes ``entry`` known under its name in this process.

    Raises:
        CallerError: The name is taken and ``overwrite`` is false, or it is one of ours.
    """
    if not isinstance(entry, Entry):
        raise CallerError(f"{entry!r} is neither an Aggregator nor an AggregationFunction")
    if entry.name in BUILT_IN or entry.name in built_in_aggregators():
        raise CallerError(f"{entry.name!r} is built in and keeps its meaning; choose another name")
    if not overwrite and (entry.name in _registered or entry.name in _points()):
        raise CallerError(f"{entry.name!r} is taken; overwrite=True replaces it")
    _registered[entry.name] = entry


def unregister(name: str) -> None:
    """Takes back what ``register`` made known."""
    _registered.pop(name, None)


def list_aggregators() -> list[str]:
    """Names that ``aggregate`` takes as an aggregator."""
    return sorted(name for name, entry in _known().items() if isinstance(entry, Aggregator))


def list_aggregation_functions() -> list[str]:
    """Names that ``aggregate`` takes as a function."""
    return sorted(name for name, entry in _known().items() if isinstance(entry, AggregationFunction))


def find(name: str) -> Entry:
    """The aggregator or function of a name. Of installed packages only the one that has the name is imported."""
    here = _here()
    if name in here:
        return here[name]
    points = _points()
    if name in points:
        return _loaded(points[name])
    names = sorted({*here, *points})
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise CallerError(f"no aggregator or aggregation function {name!r}; {hint}there are: {', '.join(names)}")


def find_function(name: str) -> AggregationFunction:
    """The function of a name."""
    found = find(name)
    if not isinstance(found, AggregationFunction):
        raise CallerError(f"{name!r} is an aggregator, expected a function: {', '.join(list_aggregation_functions())}")
    return found


def built_in_aggregators() -> dict[str, Aggregator]:
    """Ours. They import this module, so they are looked up when the first is asked for."""
    from interpd_attribution.aggregation import pair, scores, slices, spans, split, subwords

    ours = (scores.scores, spans.spans, subwords.subwords, split.split, slices.slices, pair.pair)
    return {item.name: item for item in ours}


def _here() -> dict[str, Entry]:
    """What needs no import."""
    return {**_registered, **BUILT_IN, **built_in_aggregators()}


def _known() -> dict[str, Entry]:
    return {**{name: _loaded(point) for name, point in _points().items()}, **_here()}


@cache
def _points() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(point: Any) -> Entry:
    where = f"the entry point {point.name!r} of {GROUP} ({point.value})"
    try:
        found = point.load()
    # what another package raises at its import is named, with the package
    except Exception as error:
        raise CallerError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(found, Entry):
        raise CallerError(f"{where} is a {type(found).__name__}, expected an Aggregator or an AggregationFunction")
    return replace(found, name=point.name)
