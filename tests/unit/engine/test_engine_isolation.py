"""Whatever one request does, its neighbours in the pass get what they would have got without it."""

import time
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.errors import (
    BlobNotFound,
    CallerError,
    DeadlineExceeded,
    DeviceOutOfMemory,
    FeatureUnsupported,
    InvalidGraph,
    OpFailed,
)
from interpd.graph.digest import blob_digest
from interpd.graph.ir import Blob, Generation, Ref, Steps
from interpd.graph.run import Cancelled, Done, Failed
from interpd.graph.types import TensorData
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import hookimpl, op
from interpd.testing.bench import Bench, ask, call, read, write

SITE = "layers.1.resid_post"
Stream = Float[Tensor, "batch pos d_model"]


@op("naughty.mutate")
def mutate(x: Stream) -> Stream:
    """The input, doubled in place."""
    return x.mul_(2)


@op("naughty.mutate_unseen")
def mutate_unseen(x: Stream) -> Stream:
    """A copy; the input is changed behind the back of its version counter."""
    x.data.fill_(torch.nan)
    return torch.zeros_like(x)


@op("naughty.fail")
def fail(x: Stream) -> Stream:
    """Nothing."""
    raise KeyError("lost")


@op("naughty.leave")
def leave(x: Stream) -> Stream:
    """Nothing."""
    raise SystemExit(3)


@op("naughty.lie")
def lie(x: Stream) -> Float[Tensor, "batch pos"]:
    """Something of another shape."""
    return x


@op("naughty.globals")
def change_globals(x: Stream) -> Stream:
    """The input, after changing torch for everybody."""
    torch.manual_seed(0)
    torch.rand(3)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(True)
    return x + 0


def naughty_plugin():
    module = ModuleType("naughty")
    module.interpd_register_ops = hookimpl(lambda: [mutate, mutate_unseen, fail, leave, lie, change_globals])
    module.interpd_register_ops.__name__ = "interpd_register_ops"
    return module


@pytest.fixture(scope="module")
def bench():
    registry = load_registry(["naughty"], candidates=[built_in(), candidate_of(naughty_plugin(), "naughty")])
    assert [plugin.status for plugin in registry.plugins] == ["loaded", "loaded"], registry.plugins
    return Bench.tiny("gpt2", registry=registry)


def healthy(prompt="The cat sat"):
    nodes = [read(SITE), call("torch.mul", Ref(0), 1.5), write(Ref(1), SITE), read("logits")]
    return ask(nodes, {"logits": 3}, prompt)


def naughty(name):
    return ask([read(SITE), call(f"naughty.{name}", Ref(0)), read("logits")], {"out": 1, "l": 2}, "The cat ran")


def next_to(bench, request):
    """The outcomes of a request and of a healthy one that shares its pass."""
    alone = bench.run(healthy())["logits"]
    bad, good = bench.run_all(request, healthy())
    assert good.done.cost.shared_with == (2,)
    assert np.allclose(good["logits"], alone, atol=1e-5)
    return bad


def test_nan_stays_in_its_own_rows_and_is_reported(bench):
    nodes = [write(TensorData.from_numpy(np.full(1, np.nan, np.float32)), SITE), read("logits")]
    bad = next_to(bench, ask(nodes, {"logits": 1}, "The cat ran away"))
    assert bad.done.non_finite == ("logits",)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_of_sixteen_that_share_a_pass_fifteen_get_the_very_bits_whatever_one_of_them_writes(bench, poison):
    def written(factor):
        # what shares rows as long as it is alike is told apart by its text
        others = [healthy(f"The cat sat on {letter}") for letter in "abcdefghijklmno"]
        nodes = [read(SITE), call("torch.mul", Ref(0), float(factor)), write(Ref(1), SITE), read("logits")]
        return bench.run_all(*others, ask(nodes, {"logits": 3}, "The cat ran away"))

    clean, spoilt = written(1.5), written(poison)
    for before, after in zip(clean[:15], spoilt[:15], strict=True):
        assert after.done.cost.shared_with == (16,)
        assert after.done.non_finite == ()
        assert before["logits"].tobytes() == after["logits"].tobytes()
    assert spoilt[15].done.non_finite == ("logits",)
    assert not np.isfinite(spoilt[15]["logits"]).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fail", "raised KeyError: 'lost'"),
        ("leave", "raised SystemExit: 3"),
        ("lie", "broke its declaration"),
        ("mutate", "changed port 'x' in place"),
    ],
)
def test_a_failing_operation_is_named_and_ends_its_own_request_only(bench, name, message):
    error = next_to(bench, naughty(name)).error
    assert type(error) is OpFailed
    assert message in str(error)
    assert f"naughty.{name}" in str(error)
    assert error.facts["node"] == "nodes[1]"


def test_an_operation_gets_copies_so_nothing_that_it_does_to_them_is_seen(bench):
    nodes = [read(SITE), call("naughty.mutate_unseen", Ref(0))]
    result = bench.run(ask(nodes, {"before": 0, "zeros": 1}, "The cat ran"))
    assert np.isfinite(result["before"]).all()


def test_an_operation_cannot_change_the_weights(bench):
    before = bench.model.transformer.wte.weight.clone()
    nodes = [
        call("param.read", name="transformer.wte.weight"),
        call("torch.unsqueeze", Ref(0), dim=0),
        call("naughty.mutate_unseen", Ref(1)),
    ]
    bench.run(ask(nodes, {"zeros": 2}, "a"))
    assert torch.equal(bench.model.transformer.wte.weight, before)


def test_the_global_state_of_torch_is_put_back(bench):
    random, dtype = torch.get_rng_state(), torch.get_default_dtype()
    next_to(bench, naughty("globals"))
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_default_dtype() == dtype
    assert torch.is_grad_enabled()


def test_the_provenance_names_the_plugins_that_were_used(bench):
    assert bench.run(naughty("globals")).done.provenance.plugins == (("naughty", "0"),)
    assert bench.run(healthy()).done.provenance.plugins == ()


def test_what_only_the_values_can_tell_is_the_callers_error(bench):
    nodes = [
        read("logits", positions=(-1,)),
        call("torch.argmax", Ref(0), dim=-1),
        call("torch.one_hot", Ref(1), num_classes=2),
    ]
    error = next_to(bench, ask(nodes, {"out": 2}, "The cat ran")).error
    assert isinstance(error, CallerError)
    assert "torch.one_hot" in str(error)


def test_an_invalid_graph_fails_with_all_violations_and_is_never_run(bench):
    nodes = [read("layers.9.resid_post"), write(Ref(5), SITE)]
    error = bench.run(ask(nodes, {"a": 0}, "The cat ran")).error
    assert isinstance(error, InvalidGraph)
    assert len(error.violations) >= 2


def test_a_constant_that_was_not_uploaded_is_missing(bench):
    nodes = [write(Blob("0" * 64, "float32", (1,)), SITE), read("logits")]
    assert isinstance(bench.run(ask(nodes, {"logits": 1}, "The cat ran")).error, BlobNotFound)


def test_an_uploaded_constant_is_used(bench):
    zeros = TensorData.from_numpy(np.zeros((1, 1, 24), np.float32))
    bench.engine.put_blob(blob_digest(zeros), zeros)
    nodes = [write(Blob(blob_digest(zeros), "float32", (1, 1, 24)), SITE), read(SITE)]
    assert not bench.run(ask(nodes, {"out": 1}, "The cat ran"))["out"].any()


@pytest.fixture
def fragile(bench):
    """A bench on whose model a pass raises in which the last block is given a number that is too big."""

    def broken(module, args):
        if (args[0].abs() > 1e20).any():
            raise RuntimeError("too big a number")

    hook = bench.model.transformer.h[2].register_forward_pre_hook(broken)
    yield bench
    hook.remove()


TOO_BIG = TensorData.from_numpy(np.full(24, 1e30, np.float32))


def test_when_the_models_forward_fails_only_the_guilty_request_does(fragile):
    nodes = [write(TOO_BIG, "layers.1.resid_post"), read("logits")]
    error = next_to_retried(fragile, ask(nodes, {"logits": 1}, "The cat ran"))
    assert isinstance(error, CallerError)
    assert "'layers.1.resid_post' in force, the model's forward pass raised RuntimeError: too big" in str(error)


def next_to_retried(bench, request):
    alone = bench.run(healthy())["logits"]
    bad, good = bench.run_all(request, healthy())
    assert np.array_equal(good["logits"], alone)
    assert good.done.cost.shared_with == (1,)
    return bad.error


def test_a_failing_step_of_a_generation_ends_the_guilty_one_and_the_others_go_on(fragile):
    bench, options = fragile, Generation(6, ignore_eos=True)
    bad = ask([write(TOO_BIG, "layers.1.resid_post", steps=Steps(3, 4))], {}, "The cat ran", generation=options)
    nodes = [read(SITE, positions=(-1,))]
    good = ask(nodes, {"hidden": 0}, "The cat sat", generation=options)
    alone = bench.run(good)
    failed, healthy_one = bench.run_all(bad, good)
    assert "too big a number" in failed.error.message
    assert healthy_one.done.generated == alone.done.generated
    assert np.allclose(healthy_one["hidden"], alone["hidden"], atol=1e-5)


def test_a_pass_that_is_too_big_for_the_device_is_run_request_by_request(bench):
    def only_one_row(module, args, kwargs):
        if kwargs["input_ids"].shape[0] > 1:
            raise torch.OutOfMemoryError("tried to allocate too much")

    alone = bench.run(healthy())["logits"]
    handle = bench.model.register_forward_pre_hook(only_one_row, with_kwargs=True)
    small = bench.run_all(healthy(), healthy())
    big = bench.run(ask([read("logits"), read("logits", invoke=1)], {"a": 0, "b": 1}, "a", "b"))
    handle.remove()
    assert all(np.array_equal(outcome["logits"], alone) for outcome in small)
    assert isinstance(big.error, DeviceOutOfMemory)


def test_several_prompts_at_a_place_without_rows_are_refused(bench):
    nodes = [read("transformer.wpe.output"), read("logits", invoke=1)]
    error = bench.run(ask(nodes, {"a": 0, "b": 1}, "The cat", "a")).error
    assert isinstance(error, FeatureUnsupported)
    assert "not rows" in str(error)


def test_a_cancel_in_the_middle_of_a_generation_leaves_the_others_as_they_were(bench):
    options = Generation(8, ignore_eos=True)
    first = ask([], {}, "The cat ran", generation=options)
    second = ask([read(SITE, positions=(-1,))], {"hidden": 0}, "The cat sat", generation=options)
    alone = bench.run(second)
    outcomes = bench.start(first, second)
    for _ in range(3):
        bench.step(outcomes)
    bench.engine.cancel(first.run_id)
    while bench.engine.has_work:
        bench.step(outcomes)
    cancelled, other = outcomes[first.run_id], outcomes[second.run_id]
    assert cancelled.events[-1] == Cancelled(first.run_id, "running")
    assert other.done.generated == alone.done.generated
    assert other.done.cost.shared_with == (2, 2, 2, 1, 1, 1, 1, 1)


def test_a_cancel_before_the_first_step_and_of_an_unknown_run(bench):
    request = healthy()
    outcomes = bench.start(request)
    bench.engine.cancel(request.run_id)
    bench.engine.cancel("nobody")
    bench.step(outcomes)
    assert outcomes[request.run_id].events == [Cancelled(request.run_id, "queued")]
    assert not bench.engine.has_work


def test_a_run_past_its_deadline_ends_before_the_next_pass(bench):
    late = ask([read("logits")], {"logits": 0}, "The cat ran", deadline_s=time.time() - 1)
    bad, good = bench.run_all(late, healthy())
    assert isinstance(bad.error, DeadlineExceeded)
    assert good.done.cost.shared_with == (1,)


def test_every_run_has_exactly_one_terminal_event_and_it_is_the_last(bench):
    requests = [healthy(), naughty("fail"), healthy("a"), ask([read("nowhere")], {"x": 0}, "a")]
    for outcome in bench.run_all(*requests):
        ends = [event for event in outcome.events if isinstance(event, Done | Failed | Cancelled)]
        assert len(ends) == 1
        assert ends[0] is outcome.events[-1]


def test_long_work_and_short_take_turns(bench):
    generation = ask([], {}, "The cat ran", generation=Generation(20, ignore_eos=True))
    outcomes = bench.start(generation)
    bench.step(outcomes)
    short = healthy()
    outcomes.update(bench.start(short))
    for _ in range(3):
        bench.step(outcomes)
    assert isinstance(outcomes[short.run_id].events[-1], Done)
    assert not isinstance(outcomes[generation.run_id].events[-1], Done)
    bench.engine.cancel(generation.run_id)
    bench.step(outcomes)


def test_engines_that_share_no_passes_run_each_request_alone():
    bench = Bench.tiny("gpt2", share_passes=False)
    for outcome in bench.run_all(healthy(), healthy()):
        assert outcome.done.cost.shared_with == (1,)


def test_a_place_whose_rows_are_not_prompts_is_never_shared(bench):
    site = "transformer.wpe.output"
    nodes = [read(site), call("torch.mul", Ref(0), 0.0), write(Ref(1), site), read("logits")]
    bad, good = bench.run_all(ask(nodes, {"logits": 3}, "The cat ran"), healthy())
    assert bad.done.cost.shared_with == (1,)
    assert np.array_equal(good["logits"], bench.run(healthy())["logits"])


def test_the_watchdog_sees_what_runs(bench):
    seen = []

    def spy(module, args):
        seen.append(bench.engine.busy_with)

    handle = bench.model.transformer.h[0].register_forward_pre_hook(spy)
    request = healthy()
    bench.run(request)
    handle.remove()
    assert seen == [((request.run_id,), "pass")]
    assert bench.engine.busy_with == ((), "")
