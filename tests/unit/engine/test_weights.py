"""Nothing that a plugin does to what it is given changes the next request's numbers."""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.errors import OpFailed, WorkerLost
from interpd.graph.ir import Ref
from interpd.graph.schema import AdapterInfo
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import artifact, hookimpl, method, op
from interpd.testing.bench import Bench, ask, call, read
from interpd.testing.tiny_adapters import adapted_by_peft, save_adapter
from interpd.testing.tiny_models import tiny_model

PROMPT = "The cat sat"
WEIGHT = "transformer.wte.weight"
Stream = Float[Tensor, "batch pos d_model"]
built = []
"""The model, as a plugin that made it would hold it."""


@artifact("direction")
@dataclass(frozen=True)
class Direction:
    """A vector."""

    vector: Float[Tensor, " d_model"]


@op("rude.op")
def rude_op(x: Stream) -> Stream:
    """Its input, and other weights."""
    built[0].transformer.wte.weight.add_(1)
    return x * 1


@op("rude.hook")
def rude_hook(x: Stream) -> Stream:
    """Its input; a hook stays behind."""
    built[0].transformer.h[0].register_forward_hook(lambda module, args, output: output * 0)
    return x * 1


@method("rude.parameter")
def rude_parameter(ctx) -> Float[Tensor, "vocab d_model"]:
    """A weight that it adds to, by three ways."""
    ctx.session.parameter(WEIGHT).add_(1)
    ctx.session.parameter(WEIGHT).data.add_(1)
    ctx.session.parameter(WEIGHT).numpy()[:] = 7
    return ctx.session.parameter(WEIGHT)


@method("rude.model")
def rude_model(ctx) -> Float[Tensor, " d_model"]:
    """Nothing, once it has changed a model that it holds."""
    built[0].transformer.wte.weight.add_(1)
    ctx.raise_if_cancelled()
    return torch.zeros(24)


@method("rude.ports")
def rude_ports(ctx, parts: tuple[Float[Tensor, "vocab d_model"], ...]) -> Float[Tensor, "vocab d_model"]:
    """Its parts, added to in place."""
    return parts[0].add_(1)


@method("rude.artifact")
def rude_artifact(ctx, *, along: Direction) -> Float[Tensor, " d_model"]:
    """Its artifact, added to in place."""
    return along.vector.add_(1)


@method("kind.keep")
def keep(ctx) -> Float[Tensor, " d_model"]:
    """A direction of zeros, kept."""
    ctx.save_artifact("zeros", Direction(torch.zeros(24)))
    return torch.zeros(24)


@method("kind.show")
def show(ctx, *, along: Direction) -> Float[Tensor, " d_model"]:
    """The vector of its artifact."""
    return along.vector * 1


@pytest.fixture
def bench():
    module = ModuleType("rude")
    methods = [rude_parameter, rude_model, rude_ports, rude_artifact, keep, show]

    @hookimpl
    def interpd_register_ops():
        return [rude_op, rude_hook]

    @hookimpl
    def interpd_register_methods():
        return methods

    @hookimpl
    def interpd_register_artifacts():
        return [Direction]

    for hook in (interpd_register_ops, interpd_register_methods, interpd_register_artifacts):
        setattr(module, hook.__name__, hook)
    registry = load_registry(["rude"], candidates=[built_in(), candidate_of(module, "rude")])
    bench = Bench.tiny("gpt2", registry=registry)
    built[:] = [bench.model]
    yield bench
    built.clear()


def logits(bench):
    return bench.run(ask([read("logits")], {"logits": 0}, PROMPT))["logits"]


def test_a_method_gets_copies_of_weights(bench):
    before, weight = logits(bench), bench.model.transformer.wte.weight.clone()
    given = bench.run(ask([call("rude.parameter")], {"weight": 0}, PROMPT))["weight"]
    assert np.array_equal(given, weight.numpy())
    assert np.array_equal(logits(bench), before)


def test_a_method_gets_copies_of_its_ports_several_values_in_one_included(bench):
    before = logits(bench)
    nodes = [call("param.read", name=WEIGHT), call("rude.ports", (Ref(0),))]
    bench.run(ask(nodes, {"x": 1}, PROMPT))
    assert np.array_equal(logits(bench), before)


def test_an_artifact_that_a_method_changes_is_loaded_again(bench):
    bench.run(ask([call("kind.keep")], {"x": 0}, PROMPT)).done  # noqa: B018, raises for a run that failed
    error = bench.run(ask([call("rude.artifact", along="zeros")], {"x": 0}, PROMPT)).error
    assert isinstance(error, OpFailed)
    assert "changed artifact 'along'.vector in place" in str(error)
    assert not bench.run(ask([call("kind.show", along="zeros")], {"x": 0}, PROMPT))["x"].any()


def test_weights_changed_by_an_operation_end_every_run_of_the_pass_and_then_the_engine(bench):
    bad, bystander = (
        ask([read("embed"), call("rude.op", Ref(0))], {"x": 1}, PROMPT),
        ask([read("embed")], {"x": 0}, "A"),
    )
    outcomes = bench.start(bad, bystander)
    bench.step(outcomes)
    assert isinstance(outcomes[bad.run_id].error, OpFailed)
    assert isinstance(outcomes[bystander.run_id].error, WorkerLost)
    with pytest.raises(WorkerLost, match=r"changed the model's weights in place: 'transformer.wte.weight'"):
        bench.step(outcomes)


def test_a_hook_that_is_left_behind_ends_the_engine(bench):
    request = ask([read("embed"), call("rude.hook", Ref(0))], {"x": 1}, PROMPT)
    outcomes = bench.start(request)
    bench.step(outcomes)
    assert "changed the number of hooks on modules by +1" in str(outcomes[request.run_id].error)
    with pytest.raises(WorkerLost):
        bench.step(outcomes)


def test_weights_changed_by_a_method_end_its_run_and_then_the_engine(bench):
    request = ask([call("rude.model")], {"x": 0}, PROMPT)
    outcomes = bench.start(request)
    while len(outcomes[request.run_id].events) < 2:  # started, failed
        bench.step(outcomes)
    assert isinstance(outcomes[request.run_id].error, OpFailed)
    assert bench.engine.has_work
    with pytest.raises(WorkerLost):
        bench.step(outcomes)


def test_the_provenance_names_the_files_of_the_artifacts_that_were_used(bench):
    bench.run(ask([call("kind.keep")], {"x": 0}, PROMPT))
    digest = bench.engine.describe().artifacts["zeros"].digest
    done = bench.run(ask([call("kind.show", along="zeros")], {"x": 0}, PROMPT)).done
    assert done.provenance.artifacts == (("zeros", digest),)
    assert bench.run(ask([read("logits")], {"logits": 0}, PROMPT)).done.provenance.artifacts == ()


def test_a_buffer_that_the_models_own_passes_write_to_is_blamed_on_nobody(tmp_path):
    """LongRoPE chooses its frequencies anew in every pass, also in those that test the sites of an adapter."""
    model, bench = tiny_model("phi3_long").model, Bench.tiny("phi3_long")
    folder = save_adapter(tmp_path / "a", model)
    oracle = adapted_by_peft(model, folder)
    assert bench.engine.put_adapter(AdapterInfo("a", str(folder), "sha256:a"), str(folder)).n_modules
    for prompt in ("The cat sat", "Once upon a time there was a little girl named Lily."):
        found = bench.run(ask([read("logits")], {"logits": 0}, prompt, adapter="a"))["logits"]
        assert np.allclose(found, oracle(bench.ids(prompt)).logits, atol=1e-4)
