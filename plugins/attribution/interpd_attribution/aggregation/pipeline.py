"""Aggregators in turn: which ones are meant, and who gets which option."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Union

from interpd.errors import CallerError
from interpd_attribution.aggregation.functions import AggregationFunction, function_for_dim
from interpd_attribution.aggregation.registry import Aggregator, find, find_function
from interpd_attribution.numbers import done, with_done

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

Function = Union[str, AggregationFunction, Callable[..., Any]]
One = Union[str, Aggregator, AggregationFunction]
Chosen = Union[None, One, "AggregatorPipeline", Sequence[One], Sequence[tuple[One, Function | None]]]

SCALING = frozenset(("normalize", "rescale"))

UNCHANGED = frozenset(("scores", "slices"))
"""Aggregators that say themselves what they do to numbers, or do nothing to them."""


@dataclass(frozen=True)
class Stage:
    """One aggregator of several, and its function."""

    aggregator: Aggregator
    function: AggregationFunction | None = None

    def __call__(self, attribution: "Attribution", options: Mapping[str, Any]) -> tuple["Attribution", frozenset[str]]:
        """What the aggregator makes of ``attribution``, and the names of the options that it took."""
        function = self.function
        if function is None and (usual := self.aggregator.default(attribution)) is not None:
            function = find_function(usual)
        its_own = self.aggregator.options & options.keys()
        of_function = frozenset() if function is None else function.options & options.keys()
        given = {name: options[name] for name in its_own}
        if "aggregate_fn" in self.aggregator.options:
            given["aggregate_fn"] = function and function.bound({name: options[name] for name in of_function})
        elif function is not None:
            raise CallerError(
                f"the aggregator {self.aggregator.name!r} takes no function, but {function.name!r} is given"
            )
        found = self.aggregator(attribution, **given)
        if self.aggregator.name not in UNCHANGED and done(found) == done(attribution):
            by = f" by {function.name}" if function is not None else ""
            found = replace(found, info=with_done(found, f"{self.aggregator.name}{by}"))
        return found, its_own | of_function


class AggregatorPipeline:
    """Aggregators to be applied in turn, each with a function of its own or its default.

    ``AggregatorPipeline(["subwords", "scores"], ["sum", "vnorm"])``
    """

    def __init__(self, aggregators: Sequence[One], aggregate_fn: Sequence[Function | None] | None = None) -> None:
        functions = [None] * len(aggregators) if aggregate_fn is None else list(aggregate_fn)
        if len(functions) != len(aggregators):
            raise CallerError(f"{len(aggregators)} aggregators and {len(functions)} functions; give one for each")
        self.stages = tuple(_stage(one, function) for one, function in zip(aggregators, functions, strict=True))

    def aggregate(self, attribution: "Attribution", **options: Any) -> "Attribution":
        """``attribution`` after the last of them."""
        taken: frozenset[str] = frozenset()
        for stage in self.stages:
            attribution, names = stage(attribution, options)
            taken |= names
        if unknown := sorted(options.keys() - taken):
            offered = sorted({name for stage in self.stages for name in _offered(stage)} - {"aggregate_fn"})
            names = ", ".join(stage.aggregator.name for stage in self.stages) or "no aggregator"
            raise CallerError(
                f"no option {', '.join(unknown)} here ({names}); there are: {', '.join(offered) or 'none'}"
            )
        return attribution


def aggregate(
    attribution: "Attribution", aggregator: Chosen = None, aggregate_fn: object = None, **options: Any
) -> "Attribution":
    """``attribution``, reduced; ``Attribution.aggregate`` says what the arguments mean."""
    must_be_flat = options.pop("do_post_aggregation_checks", False)
    found = _pipeline(attribution, aggregator, aggregate_fn, options).aggregate(attribution, **options)
    if must_be_flat and found.dims:
        raise CallerError(f"the axes {', '.join(found.dims)} are left; do_post_aggregation_checks=False allows them")
    return found


def _pipeline(
    attribution: "Attribution", aggregator: Chosen, aggregate_fn: object, options: Mapping[str, Any]
) -> AggregatorPipeline:
    if isinstance(aggregator, AggregatorPipeline):
        if aggregate_fn is not None:
            raise CallerError("the pipeline has functions of its own; give it aggregate_fn when you make it")
        return aggregator
    if aggregator is None:
        return _default(attribution, aggregate_fn, options)
    if isinstance(aggregator, (str, Aggregator, AggregationFunction)):
        return AggregatorPipeline([aggregator], [aggregate_fn])
    if not isinstance(aggregator, Sequence):
        raise CallerError(f"{aggregator!r} is no aggregator; give a name, an Aggregator, or a sequence of them")
    if all(isinstance(item, tuple) and len(item) == 2 for item in aggregator) and aggregator:
        if aggregate_fn is not None:
            raise CallerError("each aggregator comes with a function already; leave aggregate_fn out")
        return AggregatorPipeline([one for one, _ in aggregator], [function for _, function in aggregator])
    if aggregate_fn is not None and (isinstance(aggregate_fn, str) or not isinstance(aggregate_fn, Sequence)):
        raise CallerError(f"{len(aggregator)} aggregators take as many functions, a sequence, but got {aggregate_fn!r}")
    return AggregatorPipeline(aggregator, aggregate_fn)


def _default(attribution: "Attribution", aggregate_fn: object, options: Mapping[str, Any]) -> AggregatorPipeline:
    """The axes beside the tokens, the last one first. Scaling alone is wanted where none is left."""
    if not attribution.dims and (aggregate_fn is not None or SCALING & options.keys()):
        return AggregatorPipeline(["scores"], [aggregate_fn])
    dims = tuple(reversed(attribution.dims))
    functions = [function_for_dim(dim) if aggregate_fn is None else aggregate_fn for dim in dims]
    return AggregatorPipeline(["scores"] * len(dims), functions)


def _stage(one: One, function: Function | None) -> Stage:
    entry = find(one) if isinstance(one, str) else one
    if isinstance(entry, AggregationFunction):
        if function is not None:
            raise CallerError(f"{entry.name!r} is a function already; leave aggregate_fn out, or name an aggregator")
        return Stage(_scores(), entry)
    if not isinstance(entry, Aggregator):
        raise CallerError(f"{entry!r} is neither an aggregator nor its name")
    return Stage(entry, _function(function))


def _function(given: Function | None) -> AggregationFunction | None:
    if given is None or isinstance(given, AggregationFunction):
        return given
    if isinstance(given, str):
        return find_function(given)
    if not callable(given):
        raise CallerError(f"{given!r} is no aggregation function; give a name or a function of scores and axis")
    return AggregationFunction(getattr(given, "__name__", "function"), given)


def _scores() -> Aggregator:
    found = find("scores")
    assert isinstance(found, Aggregator)
    return found


def _offered(stage: Stage) -> frozenset[str]:
    return stage.aggregator.options | (stage.function.options if stage.function else frozenset())
