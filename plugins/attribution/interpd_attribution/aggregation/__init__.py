"""Results made smaller: axes reduced, tokens merged, inputs left out, two results compared."""

from interpd_attribution.aggregation.functions import AggregationFunction
from interpd_attribution.aggregation.pipeline import AggregatorPipeline, Chosen, aggregate
from interpd_attribution.aggregation.registry import (
    Aggregator,
    aggregator,
    list_aggregation_functions,
    list_aggregators,
    register,
    unregister,
)

__all__ = [
    "AggregationFunction",
    "Aggregator",
    "AggregatorPipeline",
    "Chosen",
    "aggregate",
    "aggregator",
    "list_aggregation_functions",
    "list_aggregators",
    "register",
    "unregister",
]
