"""Generations that are joined while they are under way, against the same generations alone."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from interpd.engine import nnsight_engine
from interpd.graph.ir import Generation, Ref, Steps
from interpd.graph.run import Cancelled, TokenGenerated
from interpd.graph.types import TensorData
from interpd.testing.bench import Bench, ask, call, read, write
from interpd.testing.tiny_models import ARCHITECTURES

SOME = ("gpt2", "mistral", "gemma2")
LONG = "When Mary and John went to the store, John gave a drink to Mary. The quick brown fox"
PROMPTS = ("The cat sat", LONG, "Lisbon", "Once upon a time, there was a little girl", "Elena Marsh was born in")
SITE = "layers.1.resid_post"
ORDERS = ((0, 1, 2, 3, 4), (1, 4, 0, 3, 2))
EXACT = 2e-6
"""In double precision: norms and rotary embeddings compute in single precision whatever the model's dtype."""


@pytest.fixture(scope="module", params=SOME)
def exact(request):
    return Bench.tiny(request.param, dtype=torch.float64)


def generate(prompt, nodes=(), outputs=None, n=8, **options):
    fields = {key: options.pop(key) for key in ("stream_tokens", "reproducible", "deadline_s") if key in options}
    settings = {"max_new_tokens": n, "ignore_eos": True, **options}
    return ask(
        nodes,
        outputs or {},
        *([prompt] if isinstance(prompt, str) else prompt),
        generation=Generation(**settings),
        **fields,
    )


def steered(bench, prompt, seed, **options):
    """Steers one block from step 1 on, and reads another at all steps and the logits of two."""
    rng = np.random.default_rng(seed)
    manifest = bench.engine.describe()
    # an architecture without a table has raw paths only
    last = f"layers.{manifest.model.n_layers - 1}.resid_post"
    written, seen = (SITE, last) if SITE in manifest.sites else ("model.layers.0.output", "model.norm.output")
    width = manifest.model.sizes["d_model"]
    nodes = [
        read(written, steps=Steps(1, None)),
        call("torch.add", Ref(0), TensorData.from_numpy(rng.standard_normal(width))),
        write(Ref(1), written, steps=Steps(1, None)),
        read(seen, positions=(-1,)),
        read("logits", steps=Steps(2, 4), positions=(-1,)),
    ]
    return generate(prompt, nodes, {"seen": 3, "logits": 4}, **options)


def arriving(bench, arrivals, cancel_at=()):
    """Outcomes of requests that arrive at steps of the engine; ``arrivals``: (step, request), in order."""
    outcomes, waiting, step = {}, list(arrivals), 0
    cancels = dict(cancel_at)
    while waiting or bench.engine.has_work:
        while waiting and waiting[0][0] <= step:
            outcomes |= bench.start(waiting.pop(0)[1])
        if step in cancels:
            bench.engine.cancel(cancels[step])
        bench.step(outcomes)
        step += 1
    return [outcomes[request.run_id] for _, request in arrivals]


def tokens(outcome, invoke=0):
    return outcome.done.generated[invoke].token_ids


def assert_alike(found, wanted, tolerance):
    assert [text.token_ids for text in found.done.generated] == [text.token_ids for text in wanted.done.generated]
    names = {event.name for event in wanted.events if hasattr(event, "name")}
    for name in names:
        assert found[name].shape == wanted[name].shape
        assert np.allclose(found[name], wanted[name], rtol=tolerance, atol=tolerance * abs(wanted[name]).max())


def test_whoever_arrives_joins_at_the_next_step_and_leaves_when_done(gpt2):
    arrivals = [(0, generate(LONG, n=9)), (2, generate("Lisbon")), (4, generate("The cat", n=3))]
    first, second, third = arriving(gpt2, arrivals)
    # prefills are passes of their own, and take turns with the steps
    assert first.done.cost.shared_with == (1, 1, 1, 2, 3, 3, 2, 2, 2)
    assert second.done.cost.shared_with == (1, 2, 3, 3, 2, 2, 2, 1)
    assert third.done.cost.shared_with == (1, 3, 3)


def compare_orders(bench, orders):
    requests = [steered(bench, prompt, seed, n=4 + 2 * seed) for seed, prompt in enumerate(PROMPTS)]
    alone = [bench.run(request) for request in requests]
    for order in orders:
        together = arriving(bench, [(2 * at, requests[index]) for at, index in enumerate(order)])
        assert max(max(outcome.done.cost.shared_with) for outcome in together) >= 3
        for index, outcome in zip(order, together, strict=True):
            assert_alike(outcome, alone[index], EXACT)


def test_arrivals_leave_everybodys_numbers_as_they_are_alone(exact):
    compare_orders(exact, ORDERS)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in (*SOME, "phi3_long")])
def test_arrivals_leave_everybodys_numbers_alone_in_all_families(architecture):
    # a model that turns its positions by the longest row (phi3_long) refuses what would cross that length
    compare_orders(Bench.tiny(architecture, dtype=torch.float64), ORDERS)


def test_a_seed_gives_its_tokens_whoever_arrives_and_whenever(gpt2):
    requests = [
        generate(prompt, do_sample=True, temperature=1.3, top_k=50, top_p=0.9, seed=seed, ignore_eos=False, n=10)
        for seed, prompt in enumerate(PROMPTS)
    ]
    alone = [tokens(gpt2.run(request)) for request in requests]
    together = arriving(gpt2, [(at, request) for at, request in enumerate(requests)])
    assert [tokens(outcome) for outcome in together] == alone


def test_tokens_stream_by_the_steps_of_their_own_request(gpt2):
    arrivals = [(0, generate(LONG, n=9)), (3, generate(PROMPTS[0], n=5, stream_tokens=True))]
    _, streaming = arriving(gpt2, arrivals)
    told = [event for event in streaming.events if isinstance(event, TokenGenerated)]
    assert [event.step for event in told] == [0, 1, 2, 3, 4]
    assert tuple(event.token_id for event in told) == tokens(streaming)


def test_prompts_that_exchange_values_keep_doing_so_among_arrivals(gpt2):
    nodes = [
        read(SITE, positions=(-1,), steps=Steps(1, None)),
        write(Ref(0), SITE, invoke=1, steps=Steps(1, None)),
        read(SITE, invoke=1, steps=Steps(1, None)),
    ]
    request = generate(PROMPTS[:2], nodes, {"given": 0, "taken": 2})
    alone = gpt2.run(request)
    among, *_ = arriving(gpt2, [(0, request), (1, generate("Lisbon", n=12)), (2, generate(LONG, n=3))])
    assert np.array_equal(among["given"], among["taken"])
    assert_alike(among, alone, 1e-5)


def test_patterns_see_the_keys_of_their_own_prompt_after_a_join(gpt2):
    nodes = [read("layers.1.attn.pattern", steps=Steps(5, 6))]
    requests = [generate(prompt, nodes, {"pattern": 0}) for prompt in ("Lisbon", LONG)]
    outcomes = arriving(gpt2, [(0, requests[0]), (2, requests[1])])
    for request, outcome in zip(requests, outcomes, strict=True):
        assert outcome["pattern"].shape == (1, 4, 1, gpt2.ids(request.prompts[0].text).shape[1] + 5)
        assert np.allclose(outcome["pattern"].sum(-1), 1, atol=1e-5)


def test_only_passes_of_one_kind_are_joined(gpt2):
    nodes = [read("layers.1.attn.pattern", positions=(-1,), steps=Steps(1, 2))]
    plain, eager = arriving(gpt2, [(0, generate("The cat sat")), (2, generate("The cat ran", nodes, {"pattern": 0}))])
    private = generate("The cat is", reproducible=True)
    among, private = arriving(gpt2, [(0, generate("The cat sat")), (2, private)])
    for outcome in (plain, eager, among, private):
        assert set(outcome.done.cost.shared_with) == {1}


def test_nobody_joins_where_passes_are_not_shared():
    bench = Bench.tiny("gpt2", share_passes=False)
    for outcome in arriving(bench, [(0, generate("The cat sat")), (2, generate("The cat ran"))]):
        assert set(outcome.done.cost.shared_with) == {1}


def test_a_join_stays_within_the_positions_of_a_pass():
    bench = Bench.tiny("gpt2", max_batch_tokens=24)
    requests = [generate("The cat sat", n=10) for _ in range(4)]
    outcomes = arriving(bench, [(at, request) for at, request in enumerate(requests)])
    n_prompt = bench.ids("The cat sat").shape[1]
    assert 1 < max(max(one.done.cost.shared_with) for one in outcomes) <= 24 // (n_prompt + 1)
    assert len({tokens(outcome) for outcome in outcomes}) == 1


@contextmanager
def passes(bench):
    """A list that grows by (rows, positions, cached columns) of each pass of the model."""
    seen = []

    def note(module, args, kwargs):
        cache = kwargs.get("past_key_values")
        seen.append((*kwargs["input_ids"].shape, cache.get_seq_length() if cache else 0))

    hook = bench.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def test_columns_that_only_leavers_needed_go_with_them(gpt2):
    with passes(gpt2) as seen:
        arriving(gpt2, [(0, generate(LONG, n=4)), (1, generate("Lisbon", n=10))])
    n_long, n_short = (gpt2.ids(text).shape[1] for text in (LONG, "Lisbon"))
    assert max(columns for _, _, columns in seen) >= n_long
    assert seen[-1] == (1, 1, n_short + 8)


def test_prefills_steps_and_plain_passes_take_turns_however_many_wait(gpt2):
    crowd = [generate(text) for text in ("a", "The cat sat on", LONG)]
    plain = [ask([read("logits")], {"logits": 0}, text) for text in ("The dog", LONG)]
    with passes(gpt2) as seen:
        arriving(gpt2, [(0, generate("Lisbon", n=20)), *((2, one) for one in (*crowd, *plain))])
    kinds = "".join("step " if cached else "prefill/pass " for _, _, cached in seen).split()
    # those who came in between wait for one step at most before each of theirs
    first, last = kinds.index("prefill/pass", 1), max(i for i, kind in enumerate(kinds) if kind == "prefill/pass")
    between = kinds[first : last + 1]
    assert between.count("prefill/pass") == len(crowd) + len(plain)
    assert between.count("step") in (2, 3)


def test_newcomers_of_similar_length_share_their_prefill_within_bounds(gpt2, monkeypatch):
    # different ones: equal prompts would be one row
    texts = [f"The {noun} sat on the mat" for noun in ("dog", "hat", "mat", "rat", "bird")]
    newcomers = [(2, generate(text, n=2)) for text in texts]
    (n_prompt,) = {gpt2.ids(text).shape[1] for text in texts}
    for most, sizes in ((2048, [5]), (2 * n_prompt, [2, 2, 1])):
        monkeypatch.setattr(nnsight_engine, "MAX_PREFILL_TOKENS", most)
        with passes(gpt2) as seen:
            arriving(gpt2, [(0, generate("Lisbon", n=20)), *newcomers])
        assert [rows for rows, n_pos, cached in seen if not cached][1:] == sizes


def test_a_row_that_fails_or_is_cancelled_leaves_its_company_as_it_was(exact):
    bench = exact
    first, last = steered(bench, LONG, 1, n=10), steered(bench, "Lisbon", 2, n=10)
    alone = [bench.run(request) for request in (first, last)]
    nodes = [
        read("logits", steps=Steps(3, 4)),
        call("torch.index_select", Ref(0), TensorData.from_numpy(np.asarray([10_000])), dim=1),
        write(Ref(1), "logits", steps=Steps(3, 4)),
    ]
    bad = generate("The cat ran", nodes)
    cancelled = generate("The dog", n=40)
    found = arriving(bench, [(0, first), (1, bad), (2, cancelled), (4, last)], cancel_at=[(7, cancelled.run_id)])
    assert found[1].error
    assert isinstance(found[2].events[-1], Cancelled)
    for outcome, wanted in zip((found[0], found[3]), alone, strict=True):
        assert_alike(outcome, wanted, EXACT)


def test_those_left_by_a_pass_that_failed_are_joined_again(gpt2):
    def broken(module, args):
        if (args[0].abs() > 1e20).any():
            raise RuntimeError("the device is broken")

    requests = [generate("The cat sat", n=12), generate("The cat ran", n=12)]
    alone = [tokens(gpt2.run(request)) for request in requests]
    too_much = TensorData.from_numpy(np.full(24, 1e30, "float32"))
    bad = generate("Lisbon", [write(too_much, SITE, steps=Steps(2, 3))])
    hook = gpt2.model.transformer.h[2].register_forward_pre_hook(broken)
    try:
        found = arriving(gpt2, [(0, requests[0]), (1, requests[1]), (1, bad)])
    finally:
        hook.remove()
    assert "the device is broken" in found[2].error.message
    assert [tokens(outcome) for outcome in found[:2]] == alone
    assert found[0].done.cost.shared_with[-1] == 2


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_a_step_that_fails_half_way_through_the_layers_is_as_if_it_had_not_been(architecture):
    bench = Bench.tiny(architecture, dtype=torch.float64)
    requests = [steered(bench, prompt, seed, n=10) for seed, prompt in enumerate((LONG, "Lisbon"))]
    alone = [bench.run(request) for request in requests]
    n_shared = 0

    def fail_now_and_then(module, args, output):
        nonlocal n_shared
        n_shared += output.shape[0] > 1
        if output.shape[0] > 1 and n_shared in (2, 5):
            raise torch.OutOfMemoryError("too big")

    hook = bench.model.model.layers[1].register_forward_hook(fail_now_and_then)
    try:
        # the prefill of both, and a step
        for arrivals in ((0, 0), (0, 2)):
            n_shared = 1 if arrivals == (0, 0) else 0
            for outcome, wanted in zip(arriving(bench, list(zip(arrivals, requests, strict=True))), alone, strict=True):
                assert_alike(outcome, wanted, EXACT)
    finally:
        hook.remove()
    assert n_shared == 2


def test_what_is_too_big_together_goes_on_apart(gpt2):
    def only_one_row(module, args, kwargs):
        if kwargs["input_ids"].shape[0] > 1:
            raise torch.OutOfMemoryError("only one row")

    requests = [generate("The cat sat", n=12), generate("The cat ran", n=12)]
    alone = [tokens(gpt2.run(request)) for request in requests]
    hook = gpt2.model.register_forward_pre_hook(only_one_row, with_kwargs=True)
    try:
        found = arriving(gpt2, list(zip((0, 3), requests, strict=True)))
    finally:
        hook.remove()
    assert [tokens(outcome) for outcome in found] == alone
    assert set(found[0].done.cost.shared_with) == {1}
