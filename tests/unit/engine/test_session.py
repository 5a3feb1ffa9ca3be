"""Methods: multi-pass work that takes turns with everybody else's."""

import gc
import pickle
import sys
import time
import weakref
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interpd.errors import CallerError, DeadlineExceeded, Interrupted, OpFailed
from interpd.graph.ir import Ref
from interpd.graph.run import Cancelled, Done, Progress, Result, Started
from interpd.graph.types import TensorData
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import artifact, hookimpl, method
from interpd.testing.bench import Bench, ask, call, read, write

SITE = "layers.1.resid_post"
PROMPT = "The cat sat"
Stream = Float[Tensor, "batch pos d_model"]
log = []


@artifact("direction")
@dataclass(frozen=True)
class Direction:
    """A vector."""

    vector: Float[Tensor, " d_model"]


@method("work.mean")
def mean(ctx, *, n: int) -> Stream:
    """The mean of n passes, with progress."""
    total = 0
    for i in range(n):
        total = total + ctx.session.forward(ctx.input_ids, reads=[SITE])[SITE]
        ctx.progress(i + 1, n, "passes")
        ctx.partial("so_far", total / (i + 1))
    return total / n


@method("work.rows")
def rows(ctx) -> Float[Tensor, "row pos d_model"]:
    """The site in a batch of the prompt and of its first two tokens."""
    ids = torch.zeros(2, ctx.input_ids.shape[1], dtype=torch.int64)
    ids[0] = ctx.input_ids[0]
    ids[1, :2] = ctx.input_ids[0, :2]
    return ctx.session.forward(ids, reads=[SITE], lengths=[ids.shape[1], 2])[SITE]


@method("work.edited")
def edited(ctx, x: Stream) -> Stream:
    """What the last layer becomes when x is put at the site."""
    return ctx.session.forward(ctx.input_ids, reads=["layers.2.resid_post"], edits={SITE: lambda value: x})[
        "layers.2.resid_post"
    ]


@method("work.gradient")
def gradient(ctx, *, site: str) -> Stream:
    """The gradient of logit 5 by a site."""
    values = ctx.session.forward(ctx.input_ids, reads=[site, "logits"], grad=True)
    return torch.autograd.grad(values["logits"][0, -1, 5], values[site])[0]


@method("work.written")
def written(ctx, *, sites: tuple[str, ...]) -> Float[Tensor, " n"]:
    """Whether these are the sites that the graph writes to."""
    return torch.tensor([float(ctx.session.written == sites)])


@method("work.draws")
def draws(ctx) -> Float[Tensor, " n"]:
    """Random numbers, drawn before and after a pass."""
    torch.manual_seed(3)
    first = torch.rand(2)
    torch.set_grad_enabled(False)
    ctx.session.forward(ctx.input_ids, reads=[SITE])
    return torch.cat([first, torch.rand(2)])


@method("work.cleanup")
def cleanup(ctx) -> Stream:
    """Passes without end."""
    try:
        while True:
            ctx.session.forward(ctx.input_ids, reads=["embed"])
    except Interrupted as error:
        log.append(type(error).__name__)
        raise
    finally:
        log.append("cleaned")


@method("work.deaf")
def deaf(ctx) -> Stream:
    """Passes without end, whatever is raised."""
    while True:
        try:
            ctx.raise_if_cancelled()
        except Interrupted:
            log.append("ignored")


@method("work.wrong")
def wrong(ctx, *, how: str) -> Stream:
    """Fails in one of several ways."""
    if how == "site":
        ctx.session.forward(ctx.input_ids, reads=["layers.1.resid_pots"])
    if how == "edit":
        ctx.session.forward(ctx.input_ids, reads=["logits"], edits={SITE: lambda value: value[:, :1]})
    if how == "nested":
        inner = ctx.session.forward
        inner(ctx.input_ids, reads=["logits"], edits={SITE: lambda value: inner(ctx.input_ids, reads=[SITE])[SITE]})
    if how == "unread":
        return ctx.session.forward(ctx.input_ids, reads=["embed"])[SITE]
    if how == "one row":
        ctx.session.forward(ctx.input_ids[0])
    if how == "floats":
        ctx.session.forward(ctx.input_ids.float())
    if how == "vocabulary":
        ctx.session.forward(ctx.input_ids + 10**6)
    if how == "no graph":
        values = ctx.session.forward(ctx.input_ids, reads=[SITE, "logits"])
        torch.autograd.grad(values["logits"].sum(), values[SITE])
    if how == "weight":
        ctx.session.parameter("lm_head.wait")
    if how == "class":
        ctx.save_artifact("thing", [1, 2])
    if how == "raise":
        raise ZeroDivisionError("in a method")
    if how == "refuse":
        raise CallerError("the plugin's own words")
    if how == "leave":
        sys.exit(3)
    return torch.zeros(3)


@method("work.busy")
def busy(ctx) -> Stream:
    """Work without end and without a pass."""
    while True:
        ctx.progress(0, 0)
        ctx.partial("so_far", torch.zeros(2))


@method("work.survives")
def survives(ctx) -> Stream:
    """The site, after a pass that failed."""
    try:
        ctx.session.forward(ctx.input_ids, reads=["nowhere"])
    except CallerError:
        log.append("told")
    return ctx.session.forward(ctx.input_ids, reads=[SITE])[SITE]


@method("work.keep")
def keep(ctx) -> Float[Tensor, " d_model"]:
    """The direction that it keeps as an artifact."""
    value = ctx.session.forward(ctx.input_ids, reads=[SITE])[SITE][0, -1]
    ctx.save_artifact("found", Direction(value))
    return value


@method("work.use")
def use(ctx, *, along: Direction) -> Float[Tensor, " d_model"]:
    """The vector of an artifact."""
    return along.vector + 0


@method("work.forgets")
def forgets(ctx, *, grad: bool) -> Float[Tensor, " n"]:
    """How many values of a pass are left when the method has let go of them."""
    seen = []

    def scaled(value):
        seen.append(weakref.ref(value))
        return value * 1.5

    values = ctx.session.forward(ctx.input_ids, reads=["embed", "logits"], edits={SITE: scaled}, grad=grad)
    seen += [weakref.ref(value) for value in values.values()]
    del values
    return torch.tensor([float(sum(value() is not None for value in seen))])


METHODS = [forgets, busy, mean, rows, edited, gradient, written, draws, cleanup, deaf, wrong, survives, keep, use]


def plugin():
    module = ModuleType("work")

    def interpd_register_methods():
        return METHODS

    def interpd_register_artifacts():
        return [Direction]

    module.interpd_register_methods = hookimpl(interpd_register_methods)
    module.interpd_register_artifacts = hookimpl(interpd_register_artifacts)
    return module


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def bench(request):
    registry = load_registry(["work"], candidates=[built_in(), candidate_of(plugin(), "work")])
    assert [info.problem for info in registry.plugins] == ["", ""]
    return Bench.tiny(request.param, registry=registry)


@pytest.fixture(autouse=True)
def _fresh_log():
    log.clear()


def site_of(bench, prompt=PROMPT):
    return bench.model(bench.ids(prompt), output_hidden_states=True).hidden_states[2].detach()


def test_a_method_returns_a_value_of_the_graph(bench):
    nodes = [call("work.mean", n=2), call("torch.mul", Ref(0), 2.0)]
    result = bench.run(ask(nodes, {"mean": 0, "twice": 1}, PROMPT))
    assert np.array_equal(result["mean"], site_of(bench))
    assert np.array_equal(result["twice"], 2 * result["mean"])
    assert result.done.cost.n_passes == 2


def test_progress_and_partial_results_come_as_they_arise(bench):
    events = bench.run(ask([call("work.mean", n=3)], {"mean": 0}, PROMPT)).events
    assert [event.done for event in events if isinstance(event, Progress)] == [1, 2, 3]
    assert [event.name for event in events if isinstance(event, Result) and event.partial] == ["so_far"] * 3


def test_rows_of_different_lengths_are_told_apart(bench):
    result = bench.run(ask([call("work.rows")], {"rows": 0}, PROMPT))["rows"]
    expected = bench.model(bench.ids(PROMPT)[:, :2], output_hidden_states=True).hidden_states[2].detach()
    assert np.allclose(result[:1], site_of(bench), atol=1e-5)
    assert np.allclose(result[1:, :2], expected, atol=1e-5)


def test_ports_take_values_of_the_graph_and_edits_put_them_in_force(bench):
    nodes = [read(SITE), call("torch.mul", Ref(0), 2.0), call("work.edited", Ref(1))]
    nodes += [write(Ref(1), SITE, invoke=1), read("layers.2.resid_post", invoke=1)]
    result = bench.run(ask(nodes, {"edited": 2, "written": 4}, PROMPT, PROMPT))
    assert np.allclose(result["edited"], result["written"], atol=1e-5)


def test_the_writes_of_its_prompt_are_in_force_in_every_pass_and_every_row(bench):
    nodes = [
        read("layers.0.resid_post"),
        call("tensor.setitem", Ref(0), (0, -1), 0.0),
        write(Ref(1), "layers.0.resid_post"),
        call("work.rows"),
        read(SITE),
    ]
    result = bench.run(ask(nodes, {"rows": 3, "site": 4}, PROMPT))
    assert np.allclose(result["rows"][:1], result["site"], atol=1e-5)
    short = [write(TensorData.from_numpy(np.zeros(1, np.float32)), SITE), read(SITE)]
    assert not bench.run(ask([short[0], call("work.rows")], {"rows": 1}, PROMPT))["rows"][1, :2].any()


@pytest.mark.parametrize("site", ["layers.0.resid_post", "layers.1.resid_mid", "embed"])
def test_gradients_of_a_method_are_those_of_the_graph(bench, site):
    nodes = [read(site), read("logits"), call("tensor.getitem", Ref(1), (0, -1, 5)), call("site.grad", Ref(2), Ref(0))]
    expected = bench.run(ask(nodes, {"gradient": 3}, PROMPT))["gradient"]
    found = bench.run(ask([call("work.gradient", site=site)], {"gradient": 0}, PROMPT))["gradient"]
    assert np.allclose(found, expected, atol=1e-6)


def test_a_method_knows_where_the_graph_writes(bench):
    nodes = [read(SITE), write(Ref(0), "layers.2.mlp.out"), call("work.written", sites=("layers.2.mlp.out",))]
    assert bench.run(ask(nodes, {"same": 2}, PROMPT))["same"] == 1
    assert bench.run(ask([call("work.written", sites=())], {"same": 0}, PROMPT))["same"] == 1


@pytest.mark.parametrize("grad", [False, True])
def test_what_a_method_lets_go_of_is_held_by_nobody(bench, grad):
    gc.disable()
    try:
        assert bench.run(ask([call("work.forgets", grad=grad)], {"n": 0}, PROMPT))["n"] == 0
    finally:
        gc.enable()


def test_a_method_has_a_random_state_of_its_own(bench):
    before = torch.get_rng_state()
    result = bench.run(ask([call("work.draws")], {"draws": 0}, PROMPT))["draws"]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert np.array_equal(result, torch.rand(4))


def test_others_go_on_between_the_passes_of_a_method(bench):
    long = ask([call("work.mean", n=50)], {"mean": 0}, PROMPT)
    outcomes = bench.start(long)
    bench.step(outcomes)
    short = ask([read("logits")], {"logits": 0}, PROMPT)
    outcomes.update(bench.start(short))
    for _ in range(3):
        bench.step(outcomes)
    assert isinstance(outcomes[short.run_id].events[-1], Done)
    while bench.engine.has_work:
        bench.step(outcomes)
    assert outcomes[long.run_id].done.cost.n_passes == 50


@pytest.mark.parametrize("name", ["cleanup", "deaf"])
def test_a_cancel_is_raised_out_of_the_call_that_the_method_waits_in(bench, name):
    request = ask([call(f"work.{name}")], {"x": 0}, PROMPT)
    outcomes = bench.start(request)
    for _ in range(3):
        bench.step(outcomes)
    bench.engine.cancel(request.run_id)
    bench.step(outcomes)
    assert outcomes[request.run_id].events[-1] == Cancelled(request.run_id, "running")
    assert not bench.engine.has_work
    assert log == (["Cancelled", "cleaned"] if name == "cleanup" else ["ignored"])


def test_a_deadline_ends_a_method(bench):
    request = ask([call("work.cleanup")], {"x": 0}, PROMPT, deadline_s=time.time() + 0.05)
    assert isinstance(bench.run(request).error, DeadlineExceeded)
    assert log == ["DeadlineExceeded", "cleaned"]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("site", OpFailed, "nearest is 'layers.1.resid_post'"),
        ("edit", OpFailed, "edit at 'layers.1.resid_post' returned"),
        ("nested", OpFailed, "only from its own code"),
        ("unread", OpFailed, "'layers.1.resid_post' is not in reads=['embed']: name it there"),
        ("one row", OpFailed, "], expected whole numbers of shape [batch, pos]"),
        ("floats", OpFailed, "input_ids is float32[1, "),
        ("vocabulary", OpFailed, "is the first"),
        ("no graph", OpFailed, "only with grad=True"),
        ("weight", OpFailed, "no weight 'lm_head.wait'; nearest is 'lm_head.weight'"),
        ("class", OpFailed, "artifact 'thing': list is no artifact class"),
        ("refuse", CallerError, "the plugin's own words"),
        ("raise", OpFailed, "work.wrong@1"),
        ("raise", OpFailed, "test_session.py:"),
        ("leave", OpFailed, "raised SystemExit: 3"),
        ("shape", OpFailed, "broke its declaration"),
    ],
)
def test_a_method_that_fails_ends_its_run_and_no_other(bench, how, error, message):
    bad, good = bench.run_all(
        ask([call("work.wrong", how=how)], {"x": 0}, PROMPT), ask([read("logits")], {"logits": 0}, PROMPT)
    )
    assert type(bad.error) is error
    assert message in str(bad.error)
    assert np.array_equal(good["logits"], bench.model(bench.ids(PROMPT)).logits.detach())


def test_a_site_that_the_caller_named_and_that_does_not_exist_is_the_callers_error(bench):
    error = bench.run(ask([call("work.gradient", site="embd")], {"x": 0}, PROMPT)).error
    assert type(error) is CallerError
    assert "no site 'embd'; nearest is 'embed'" in str(error)


def test_a_failure_names_the_plugins_own_line_and_brings_its_traceback(bench):
    error = bench.run(ask([call("work.wrong", how="raise")], {"x": 0}, PROMPT)).error
    assert error.facts["source"] == 'raise ZeroDivisionError("in a method")'
    assert "engine/test_session.py:" in error.facts["place"]
    assert 'raise ZeroDivisionError("in a method")' in pickle.loads(pickle.dumps(error)).trace


def test_a_method_without_a_pass_says_that_it_started_how_far_it_is_and_can_be_cancelled(bench):
    request = ask([call("work.busy")], {"x": 0}, PROMPT)
    outcomes = bench.start(request)
    for _ in range(4):
        bench.step(outcomes)
    assert [type(event) for event in outcomes[request.run_id].events] == [Started, Progress, Result, Progress]
    bench.engine.cancel(request.run_id)
    bench.step(outcomes)
    assert isinstance(outcomes[request.run_id].events[-1], Cancelled)


def test_a_method_may_go_on_after_a_pass_that_failed(bench):
    result = bench.run(ask([call("work.survives")], {"x": 0}, PROMPT))
    assert np.array_equal(result["x"], site_of(bench))
    assert log == ["told"]


def test_an_artifact_that_a_method_keeps_is_listed_and_usable(bench):
    kept = bench.run(ask([call("work.keep")], {"x": 0}, PROMPT))["x"]
    assert bench.engine.describe().artifacts["found"].kind == "direction"
    assert np.array_equal(bench.run(ask([call("work.use", along="found")], {"x": 0}, PROMPT))["x"], kept)
