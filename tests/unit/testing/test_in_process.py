from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.errors import InternalError, InvalidGraph
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import ArtifactKept, Cancelled, Progress, Started
from interpd.sdk import MethodContext, artifact, hookimpl, method, op
from interpd.testing.in_process import InProcessModel


@op("demo.twice")
def twice(x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
    """Twice the input."""
    return 2 * x


@op("demo.both")
def both(
    x: Float[Tensor, "batch pos d_model"], y: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos d_model"]:
    """The sum."""
    return x + y


@method("demo.loops")
def loops(ctx: MethodContext, start: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
    """The input and ten passes."""
    for done in range(10):
        ctx.progress(done, 10)
        start = start + ctx.session.forward(ctx.input_ids, reads=["ln_final"])["ln_final"]
    return start


@artifact("mean")
@dataclass(frozen=True)
class Mean:
    """A mean activation."""

    value: Float[Tensor, " d_model"]


@op("demo.centre")
def centre(x: Float[Tensor, "batch pos d_model"], *, mean: Mean) -> Float[Tensor, "batch pos d_model"]:
    """The input without a mean."""
    return x - mean.value


@method("demo.fit")
def fit(ctx: MethodContext, x: Float[Tensor, "batch pos d_model"], *, name: str) -> Float[Tensor, " d_model"]:
    """The mean over positions, kept as an artifact."""
    value = x.mean((0, 1))
    ctx.save_artifact(name, Mean(value))
    return value


def plugin():
    module = ModuleType("demo")
    module.interpd_register_ops = hookimpl(lambda: [twice, both, centre])
    module.interpd_register_methods = hookimpl(lambda: [loops, fit])
    module.interpd_register_artifacts = hookimpl(lambda: [Mean])
    return module


@pytest.fixture(scope="module")
def model():
    with InProcessModel({"demo": plugin()}) as model:
        yield model


READ = Node("site.read", params={"site": "layers.1.resid_post"})
PROMPT = Prompt(text="The cat sat")


def test_a_graph_runs_with_the_operations_of_a_plugin(model):
    graph = Graph((READ, Node("demo.twice", (Ref(0),))), {"once": Ref(0), "twice": Ref(1)})
    results = model.run(graph, PROMPT).results
    assert np.array_equal(results["twice"], 2 * results["once"])


def test_a_method_takes_values_of_the_graph_and_says_how_far_it_is(model):
    run = model.run(Graph((READ, Node("demo.loops", (Ref(0),))), {"out": Ref(1)}), PROMPT)
    assert [event.done for event in run.events if isinstance(event, Progress)] == list(range(10))


def test_a_method_ends_at_a_cancel_between_its_passes(model):
    graph = Graph((READ, Node("demo.loops", (Ref(0),))), {"out": Ref(1)})
    events = model.events(graph, PROMPT, cancel_after=4)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Cancelled)
    assert len([event for event in events if isinstance(event, Progress)]) < 10


def test_the_axes_of_a_plugin_are_checked_before_anything_runs(model):
    logits = Node("site.read", params={"site": "logits"})
    graph = Graph((READ, logits, Node("demo.both", (Ref(0), Ref(1)))), {"out": Ref(2)})
    with pytest.raises(InvalidGraph) as caught:
        model.run(graph, PROMPT)
    (violation,) = caught.value.violations
    assert (violation.code, violation.path) == ("PORT_MISMATCH", "graph.nodes[2].inputs[1]")
    assert "wants float[batch=1 pos=5 d_model=24], got float32[batch=1 pos=5 d_vocab=" in violation.message


def test_the_writes_of_a_graph_are_in_force_in_the_passes_of_its_method(model):
    write = Node("site.write", (Ref(0),), {"site": "ln_final"})
    zero = Node("torch.zeros_like", (Ref(0),))
    read = Node("site.read", params={"site": "ln_final"})
    embed = Node("site.read", params={"site": "embed"})
    plain = model.run(Graph((embed, Node("demo.loops", (Ref(0),))), {"in": Ref(0), "out": Ref(1)}), PROMPT).results
    graph = Graph(
        (read, zero, Node("site.write", (Ref(1),), write.params), embed, Node("demo.loops", (Ref(3),))), {"out": Ref(4)}
    )
    written = model.run(graph, PROMPT).results
    assert not np.allclose(plain["out"], plain["in"])
    assert np.allclose(written["out"], plain["in"])


def test_an_artifact_that_a_method_made_serves_the_next_request(model):
    fitted = model.run(Graph((READ, Node("demo.fit", (Ref(0),), {"name": "ours"})), {"mean": Ref(1)}), PROMPT)
    (kept,) = [event for event in fitted.events if isinstance(event, ArtifactKept)]
    assert (kept.info.name, kept.info.kind, dict(kept.info.dims)) == ("ours", "mean", {"d_model": 24})
    centred = Node("demo.centre", (Ref(0),), {"mean": "ours"})
    results = model.run(Graph((READ, centred), {"x": Ref(0), "out": Ref(1)}), PROMPT).results
    assert np.allclose(results["out"], results["x"] - fitted.results["mean"], atol=1e-6)


def test_a_broken_plugin_says_why():
    module = ModuleType("demo")
    module.interpd_register_ops = hookimpl(lambda: [len])
    with pytest.raises(InternalError, match="is not a function marked @op"):
        InProcessModel({"demo": module})
    assert torch.is_grad_enabled()
