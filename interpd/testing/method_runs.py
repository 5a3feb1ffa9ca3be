"""The properties that every method must have: each runs it on a tiny model, in the engine that the daemon uses."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from interpd.engine.tensors import to_data
from interpd.errors import InterpdError
from interpd.graph.ir import Graph, Node, Ref
from interpd.graph.run import Cancelled, Failed
from interpd.graph.schema import OpSchema
from interpd.graph.types import TensorData
from interpd.testing.declarations import named
from interpd.testing.in_process import FinishedRun, InProcessModel
from interpd.testing.properties import odd_numbers
from interpd.testing.samples import Sample, Sampler

MethodProperty = Callable[[InProcessModel, OpSchema, Sampler], None]


STEPS_TO_FIRST_TURN = 2
"""Of the engine: the method's beginning, and its first slice. Values of the prompt take its own pass before."""

SITE = "logits"
"""Values at recomputed ports follow from it, and so from all others."""

MAX_STEPS = 30
"""Passes after which a method on odd numbers is cancelled: it may run for as long as they say."""


def runs_on_a_model(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """It returns what it declares; the engine compares shapes and dtypes."""
    _run(model, schema, sampler)


def is_deterministic(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """Equal requests give equal results."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = _run(model, schema, sampler).results
        torch.manual_seed(2)
        again = _run(model, schema, sampler).results
    for name, one in first.items():
        if not np.allclose(one, again[name], rtol=1e-5, atol=1e-6, equal_nan=True):
            raise AssertionError(
                f"{named(schema)}: output {name!r} differs between two runs; take a seed as a constant"
            )


def leaves_the_model_alone(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """The weights are everybody's."""
    torch_model = model.model
    before = {name: value.clone() for name, value in torch_model.state_dict().items()}
    modes = {name: value.requires_grad for name, value in torch_model.named_parameters()}
    _run(model, schema, sampler)
    changed = [name for name, value in torch_model.state_dict().items() if not torch.equal(value, before[name])]
    changed += [name for name, value in torch_model.named_parameters() if value.requires_grad != modes[name]]
    if changed:
        raise AssertionError(f"{named(schema)} changes the model: {', '.join(changed[:3])}")


def can_be_cancelled(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """It takes a turn before it ends, and a cancel at that turn ends it."""
    graph = _graph(model, schema, sampler)
    n_passes = any(node.op == "site.read" for node in graph.nodes)
    last = model.events(graph, max_steps=STEPS_TO_FIRST_TURN + n_passes)[-1]
    if not isinstance(last, Cancelled):
        raise AssertionError(
            f"{named(schema)} never takes a turn: no cancel reaches it, and everybody waits until it has ended; call "
            "ctx.raise_if_cancelled() now and then where it runs no pass"
        )


def refuses_what_it_cannot_take(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """A number out of range gives an exception or a result of the declared type: never another shape."""
    graph = _graph(model, schema, sampler)
    *before, node = graph.nodes
    for name, value in odd_numbers(schema):
        odd = dataclasses.replace(node, params={**node.params, name: value})
        last = model.events(dataclasses.replace(graph, nodes=(*before, odd)), max_steps=MAX_STEPS)[-1]
        if isinstance(last, Failed) and BROKE in str(last.error):
            raise AssertionError(
                f"{named(schema)} with {name}={value}: {last.error}; raise CallerError for what is out of range"
            )


BROKE = "broke its declaration"
"""What the engine says of an operation or method that returns something else than it declares."""

PROPERTIES: Mapping[str, MethodProperty] = {
    check.__name__: check
    for check in (
        runs_on_a_model,
        is_deterministic,
        leaves_the_model_alone,
        can_be_cancelled,
        refuses_what_it_cannot_take,
    )
}
"""By name; the first is the one without which the others say nothing."""


def _run(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> FinishedRun:
    try:
        return model.run(_graph(model, schema, sampler))
    except InterpdError as error:
        raise AssertionError(f"{named(schema)}: {type(error).__name__}: {error}") from error


def _graph(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> Graph:
    """A graph of this method alone, on constants, to which values of the prompt are added at recomputed ports."""
    sample = sampler.sample(sizes={"batch": 1, **model.manifest.model.sizes})
    params = {name: _param(model, name, value) for name, value in sample.params.items() if value is not None}
    nodes: list[Node] = []
    inputs = tuple(
        _recomputed(nodes, value) if port.recomputed else value
        for port, value in zip(schema.inputs, _constants(sample), strict=True)
    )
    nodes.append(Node(schema.name, inputs, params, version=schema.version))
    return Graph(tuple(nodes), {port.name: Ref(len(nodes) - 1, index) for index, port in enumerate(schema.outputs)})


def _recomputed(nodes: list[Node], value: Any) -> Any:
    """``value`` moved by the mean of a site; whole numbers and absent values stay as they are."""
    if isinstance(value, tuple):
        return tuple(_recomputed(nodes, item) for item in value)
    if not isinstance(value, TensorData) or value.dtype != "float32":
        return value
    if not nodes:
        nodes += [Node("site.read", (), {"site": SITE}), Node("torch.mean", (Ref(0),))]
    nodes.append(Node("torch.add", (value, Ref(1))))
    return Ref(len(nodes) - 1)


def _constants(sample: Sample) -> tuple[Any, ...]:
    return tuple(
        tuple(map(to_data, value))
        if isinstance(value, tuple)
        else to_data(value)
        if isinstance(value, torch.Tensor)
        else value
        for value in sample.inputs
    )


def _param(model: InProcessModel, name: str, value: Any) -> Any:
    if not dataclasses.is_dataclass(value):
        return value
    model.put_artifact(name, value)
    return name
