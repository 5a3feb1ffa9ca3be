"""Methods that wait at the same time share their passes, and each gets what it would have got alone."""

from functools import partial
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from interpd.errors import CallerError, OpFailed
from interpd.graph.ir import Prompt, Ref
from interpd.plugin.discovery import built_in, candidate_of
from interpd.plugin.registry import load_registry
from interpd.sdk import MethodContext, Recomputed, hookimpl, method
from interpd.testing.bench import Bench, ask, call, read, write

PROMPTS = ("The cat sat on the mat", "Once upon a time", "a little girl")
SITE, DEEP = "layers.1.resid_post", "layers.2.resid_post"
Stream = Float[Tensor, "..."]


def changed(value):
    """Something that tells rows, positions and places of a site apart, and keeps what is hidden hidden."""
    places = torch.linspace(0.5, 1.5, value.numel()).reshape(value.shape).to(value.dtype)
    return torch.where(value.isfinite(), value * places, value)


@method("crowd.sweep")
def sweep(ctx: MethodContext, *, sites: tuple[str, ...], reads: tuple[str, ...]) -> Stream:
    """What sites become with each site in turn changed; in two rows, of which the second is shorter."""
    n = ctx.input_ids.shape[1]
    ids = ctx.input_ids.repeat(2, 1)
    sides = {} if ctx.target_ids is None else {"target_ids": ctx.target_ids.repeat(2, 1)}
    found = []
    for site in sites:
        values = ctx.session.forward(ids, reads=reads, edits={site: changed}, lengths=[n, n - 1], **sides)
        found += [values[name].nan_to_num().clamp(-1e3, 1e3)[:, :, : n - 1].flatten() for name in reads]
    return torch.cat(found)


@method("crowd.passes")
def passes(ctx: MethodContext, *, n: int, site: str = DEEP, grad: bool = False) -> Stream:
    """The mean of a site over passes in which an earlier one is scaled."""
    total = 0
    for i in range(n):
        edits = {SITE: lambda value, i=i: value * (1 + i)}
        total = total + ctx.session.forward(ctx.input_ids, reads=[site], edits=edits, grad=grad)[site].detach()
    return total / n


@method("crowd.wrong")
def wrong(ctx: MethodContext, *, how: str) -> Stream:
    """The deepest site, after an edit that ..."""
    edits = {
        "nan": lambda value: value * torch.nan,
        "raises": lambda value: {}[0],
        "leaves": lambda value: exit(3),
        "shape": lambda value: value[:, :1],
        "huge": lambda value: value * 0 + 1e30,
        "none": lambda value: value,
    }
    return ctx.session.forward(ctx.input_ids, reads=[DEEP], edits={SITE: edits[how]})[DEEP]


@method("crowd.without")
def without(ctx: MethodContext, target: Recomputed[Float[Tensor, ""]]) -> Stream:
    """The target with each token in turn replaced by the first, and of prefixes."""
    n = ctx.input_ids.shape[1]
    ids = ctx.input_ids.repeat(n, 1)
    edits = {"layers.0.resid_post": lambda value: value * 1.5}
    return ctx.session.forward(ids, values=[target], lengths=[n, *range(2, n + 1)], edits=edits)[target]


@method("crowd.ramble")
def ramble(ctx: MethodContext, *, n: int) -> Float32[Tensor, ""]:
    """Nothing, after turns without a pass."""
    for i in range(n):
        ctx.progress(i, n)
    return torch.zeros(())


METHODS = [sweep, passes, wrong, without, ramble]


def make_bench(architecture, **options):
    module = ModuleType("crowd")
    module.interpd_register_methods = hookimpl(lambda: METHODS)
    module.interpd_register_methods.__name__ = "interpd_register_methods"
    registry = load_registry(["crowd"], candidates=[built_in(), candidate_of(module, "crowd")])
    return Bench.tiny(architecture, registry=registry, **options)


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def bench(request):
    return make_bench(request.param)


@pytest.fixture(scope="module")
def gpt2():
    return make_bench("gpt2")


def scaled(site):
    """A write of the graph that doubles a site."""
    return [read(site), call("torch.mul", Ref(0), 2.0), write(Ref(1), site)]


def both_ways(bench, *makers):
    """Pairs of outcomes, together and alone. A maker makes a request each time that it is called."""
    alone = [bench.run(maker()) for maker in makers]
    return list(zip(bench.run_all(*(maker() for maker in makers)), alone, strict=True))


def assert_equal(pairs, atol=1e-5):
    for together, alone in pairs:
        assert np.allclose(together["x"], alone["x"], atol=atol, rtol=1e-4)
        assert together.done.cost.n_passes == alone.done.cost.n_passes
        assert together.done.cost.n_tokens == alone.done.cost.n_tokens
        assert together.done.cost.n_layers_run == alone.done.cost.n_layers_run


def n_passes(outcomes):
    """Of the model: each of those that share one counts a part of it."""
    return sum(1 / n for outcome in outcomes for n in outcome.done.cost.shared_with)


def test_concurrent_methods_take_as_many_passes_as_one(bench):
    ran = []
    handle = bench.model.register_forward_pre_hook(lambda module, args: ran.append(module))
    makers = [partial(ask, [call("crowd.passes", n=6)], {"x": 0}, prompt) for prompt in (*PROMPTS, *PROMPTS)]
    outcomes = bench.run_all(*(maker() for maker in makers))
    handle.remove()
    assert len(ran) == round(n_passes(outcomes)) == 6
    assert all(outcome.done.cost.shared_with == (6,) * 6 for outcome in outcomes)
    assert_equal(both_ways(bench, *makers))


def test_methods_that_begin_later_join_and_those_that_end_leave(bench):
    long, short = (ask([call("crowd.passes", n=n)], {"x": 0}, PROMPTS[0]) for n in (10, 3))
    outcomes = bench.start(long)
    for _ in range(4):
        bench.step(outcomes)
    outcomes.update(bench.start(short))
    while bench.engine.has_work:
        bench.step(outcomes)
    shares = outcomes[long.run_id].done.cost.shared_with
    assert sorted(shares) == [1] * 7 + [2] * 3
    assert outcomes[short.run_id].done.cost.shared_with == (2,) * 3


def test_whoever_asks_for_no_pass_keeps_nobody_waiting_for_long(bench):
    request = ask([call("crowd.passes", n=5)], {"x": 0}, PROMPTS[0])
    outcomes = bench.start(request, ask([call("crowd.ramble", n=100)], {"x": 0}, "A"))
    for _ in range(15):
        bench.step(outcomes)
    assert outcomes[request.run_id].done.cost.shared_with == (1,) * 5
    bench.engine.cancel(list(outcomes)[1])
    bench.step(outcomes)


def test_the_writes_of_each_graph_are_in_force_in_its_own_rows(bench):
    plainly = [partial(ask, [call("crowd.passes", n=2)], {"x": 0}, prompt) for prompt in PROMPTS]
    written = [[*scaled(site), call("crowd.passes", n=2)] for site in ("embed", "layers.1.resid_mid", SITE)]
    pairs = both_ways(bench, *plainly, *(partial(ask, nodes, {"x": 3}, PROMPTS[1]) for nodes in written))
    assert_equal(pairs)
    # those with a write read, too, and so begin one turn later
    assert pairs[0][0].done.cost.shared_with[-1] == 6


SWEPT = {"llama": "", "opt": "", "gpt_neox": "layers.1.", "pegasus": "layers.1."}
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in SWEPT.items()]


@pytest.mark.parametrize(("architecture", "part"), [("gpt2", "layers.1."), *SLOW])
def test_every_site_is_edited_and_read_in_its_own_rows_and_positions(architecture, part):
    bench = make_bench(architecture)
    manifest = bench.engine.describe()
    sites = [site for site in manifest.sites.values() if site.canonical and site.shares_pass and site.writable]
    two_sided = manifest.model.has_encoder
    last = "decoder.layers.2" if two_sided else "layers.2"
    for eager in (False, True):
        names = tuple(s.name for s in sites if s.eager_attention == eager and part in s.name)
        reads = (f"{last}.resid_post", f"{last}.attn.pattern" if eager else f"{last}.mlp.out")
        targets = ("on the mat", "on the", "the mat") if two_sided else (None,) * 3
        texts = [Prompt(text=text, target_text=target) for text, target in zip(PROMPTS, targets, strict=True)]
        sweeps = [call("crowd.sweep", sites=names, reads=reads)]
        pairs = both_ways(bench, *(partial(ask, sweeps, {"x": 0}, text) for text in texts))
        assert_equal(pairs, atol=1e-4)
        assert all(together.done.cost.shared_with == (3,) * len(names) for together, _ in pairs)


def test_values_are_recomputed_from_each_rows_own_tokens(bench, own_log_probability):
    nodes = [*own_log_probability, call("crowd.without", Ref(6))]
    pairs = both_ways(bench, *(partial(ask, nodes, {"x": 7}, prompt) for prompt in PROMPTS))
    assert_equal(pairs, atol=1e-4)
    assert pairs[0][0].done.cost.shared_with == (3, 3)


@pytest.fixture
def fragile(gpt2):
    """A bench on whose model a pass raises in which the last block is given a number that is too big."""

    def broken(module, args):
        if (args[0].abs() > 1e20).any():
            raise RuntimeError("too big a number")

    hook = gpt2.model.transformer.h[2].register_forward_pre_hook(broken)
    yield gpt2
    hook.remove()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", ""),
        ("raises", "raised KeyError: 0"),
        ("leaves", "raised SystemExit: 3"),
        ("shape", "edit at 'layers.1.resid_post' returned"),
        ("huge", "too big a number"),
    ],
)
def test_what_one_method_does_leaves_the_others_alone(fragile, how, message):
    good = [partial(ask, [call("crowd.wrong", how="none")], {"x": 0}, prompt) for prompt in PROMPTS]
    alone = [fragile.run(maker()) for maker in good]
    bad, *others = fragile.run_all(
        ask([call("crowd.wrong", how=how)], {"x": 0}, PROMPTS[0]), *(maker() for maker in good)
    )
    for outcome, expected in zip(others, alone, strict=True):
        assert np.allclose(outcome["x"], expected["x"], atol=1e-5)
        assert outcome.done.cost.shared_with == ((1,) if how == "huge" else (4,))
    if how == "nan":
        assert bad.done.non_finite == ("x",)
    else:
        assert type(bad.error) is OpFailed
        assert message in str(bad.error)


def test_a_value_that_one_cannot_have_is_its_own_affair(gpt2):
    nodes = [read(SITE), call("torch.sum", Ref(0)), call("crowd.without", Ref(1))]
    bad = [read(SITE, positions=(3,)), call("torch.sum", Ref(0)), call("crowd.without", Ref(1))]
    alone = gpt2.run(ask(nodes, {"x": 2}, PROMPTS[0]))["x"]
    failed, good = gpt2.run_all(ask(bad, {"x": 2}, PROMPTS[0]), ask(nodes, {"x": 2}, PROMPTS[0]))
    assert isinstance(failed.error, CallerError)
    assert "position 3 is outside of 2 tokens" in str(failed.error)
    assert np.allclose(good["x"], alone, atol=1e-5)


def shared_by(bench, *requests):
    return {outcome.done.cost.shared_with[-1] for outcome in bench.run_all(*requests)}


def plain(prompt=PROMPTS[0], **options):
    return ask([call("crowd.passes", n=1)], {"x": 0}, prompt, **options)


@pytest.mark.parametrize(
    "other",
    [
        lambda: ask([call("crowd.passes", n=1, grad=True)], {"x": 0}, PROMPTS[0]),
        lambda: ask([call("crowd.passes", n=1, site="layers.2.attn.pattern")], {"x": 0}, PROMPTS[0]),
        lambda: ask([call("crowd.passes", n=1, site="transformer.wpe.output")], {"x": 0}, PROMPTS[0]),
        lambda: plain(reproducible=True),
        lambda: plain("a"),
    ],
    ids=["gradients", "eager attention", "no rows", "reproducible", "padding"],
)
def test_passes_of_another_kind_run_apart(gpt2, other):
    assert shared_by(gpt2, plain(), plain()) == {2}
    assert shared_by(gpt2, plain(), other()) == {1}


def test_passes_are_shared_as_far_as_the_limits_allow(gpt2):
    n = len(gpt2.engine.tokenize([Prompt(text=PROMPTS[0])])[0].ids)
    bench = make_bench("gpt2", max_batch_tokens=2 * n)
    assert sorted(o.done.cost.shared_with for o in bench.run_all(*(plain() for _ in range(3)))) == [(1,), (2,), (2,)]
    assert shared_by(make_bench("gpt2", share_passes=False), plain(), plain()) == {1}


def test_a_cancel_while_a_method_waits_for_company(gpt2):
    first, second = plain(), plain()
    outcomes = gpt2.start(first, second)
    for _ in range(3):
        gpt2.step(outcomes)
    assert len(gpt2.engine._methods._tasks) == 2
    gpt2.engine.cancel(first.run_id)
    while gpt2.engine.has_work:
        gpt2.step(outcomes)
    assert outcomes[second.run_id].done.cost.shared_with == (1,)
