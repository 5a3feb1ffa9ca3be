"""The properties that every method must have: each runs it on a tiny model, in the engine that the daemon uses."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from interpd.engine.tensors import to_data
from interpd.errors import InterpdError
from interpd.graph.ir import Graph, Node, Ref
from interpd.graph.run import Cancelled, Done
from interpd.graph.schema import OpSchema
from interpd.testing.in_process import FinishedRun, InProcessModel
from interpd.testing.samples import Sample, Sampler

MethodProperty = Callable[[InProcessModel, OpSchema, Sampler], None]


def runs_on_a_model(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """It returns what it declares; the engine compares shapes and dtypes."""
    run = _run(model, schema, sampler)
    assert set(run.results) == {port.name for port in schema.outputs}


def is_deterministic(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """Equal requests give equal results."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = _run(model, schema, sampler).results
        torch.manual_seed(2)
        again = _run(model, schema, sampler).results
    for name, one in first.items():
        assert np.allclose(one, again[name], rtol=1e-5, atol=1e-6, equal_nan=True), (
            f"{_named(schema)}: output {name!r} differs between two runs; take a seed as a constant"
        )


def leaves_the_model_alone(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """The weights are everybody's."""
    torch_model = model.resident.model
    before = {name: value.clone() for name, value in torch_model.state_dict().items()}
    modes = {name: value.requires_grad for name, value in torch_model.named_parameters()}
    _run(model, schema, sampler)
    changed = [name for name, value in torch_model.state_dict().items() if not torch.equal(value, before[name])]
    changed += [name for name, value in torch_model.named_parameters() if value.requires_grad != modes[name]]
    assert not changed, f"{_named(schema)} changes the model: {', '.join(changed[:3])}"


def can_be_cancelled(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> None:
    """A cancel between two of its passes ends it."""
    done = _run(model, schema, sampler).events[-1]
    if not isinstance(done, Done) or done.cost.n_passes < 2:
        return
    last = model.events(_graph(model, schema, sampler), cancel_after=1)[-1]
    assert isinstance(last, Cancelled), (
        f"{_named(schema)} goes on after a cancel and ends with {type(last).__name__}; let Interrupted through"
    )


PROPERTIES: Mapping[str, MethodProperty] = {
    check.__name__: check for check in (runs_on_a_model, is_deterministic, leaves_the_model_alone, can_be_cancelled)
}


def _named(schema: OpSchema) -> str:
    return f"method '{schema.name}@{schema.version}'"


def _run(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> FinishedRun:
    try:
        return model.run(_graph(model, schema, sampler))
    except InterpdError as error:
        raise AssertionError(f"{_named(schema)}: {type(error).__name__}: {error}") from error


def _graph(model: InProcessModel, schema: OpSchema, sampler: Sampler) -> Graph:
    """A graph of this method alone, on constants."""
    sample = sampler.sample(sizes={"batch": 1, **model.manifest.model.sizes})
    params = {name: _param(model, name, value) for name, value in sample.params.items() if value is not None}
    node = Node(schema.name, _constants(sample), params, version=schema.version)
    return Graph((node,), {port.name: Ref(0, index) for index, port in enumerate(schema.outputs)})


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
