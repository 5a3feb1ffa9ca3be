"""Edited Backpacks that write side by side: each as if it were alone, and from one prefill where prompts are equal."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from interpd.graph.ir import Generation, Ref, Slice, Steps
from interpd.testing.bench import ask, call, read, write

PROMPT, OTHER, LONG = "The nurse said that she", "The dog ate fish", "The doctor said that the teacher"
N = 5
GREEDY = Generation(max_new_tokens=N, ignore_eos=True)
PLAIN = ("senses", 1.0)


def writing(*asked, generation=GREEDY, **options):
    """One request: of each (prompt, (site, factor)) the sense 1 is scaled there, at every step; its last logits."""
    nodes, outputs = [], {}
    for invoke, (_, (site, factor)) in enumerate(asked):
        if factor != 1.0:
            at, sense = len(nodes), (Slice(0), 1)
            nodes += [
                read(site, invoke=invoke),
                call("tensor.getitem", Ref(at), sense),
                call("torch.mul", Ref(at + 1), factor),
                call("tensor.setitem", Ref(at), sense, Ref(at + 2)),
                write(Ref(at + 3), site, invoke=invoke),
            ]
        outputs[f"{invoke}"] = len(nodes)
        nodes.append(read("logits", invoke=invoke, positions=(-1,)))
    return ask(nodes, outputs, *(prompt for prompt, _ in asked), generation=generation, **options)


def by_hand(bench, prompt, site, factor):
    """(new tokens, logits of each step) without a cache, the modules' outputs scaled by hooks."""
    module = {"senses": "sense_network", "sense_weights": "sense_weight_net"}[site]

    def scale(_, args, output):
        scaled = output.clone()
        scaled[:, 1] *= factor
        return scaled

    ids, seen = bench.ids(prompt), []
    handle = getattr(bench.model.backpack, module).register_forward_hook(scale)
    try:
        with torch.no_grad():
            for _ in range(N):
                seen.append(bench.model(ids, use_cache=False).logits[:, -1])
                ids = torch.cat([ids, seen[-1].argmax(-1, keepdim=True)], dim=1)
    finally:
        handle.remove()
    return tuple(ids[0, -N:].tolist()), torch.stack(seen).numpy()


def assert_is(outcome, invoke, expected):
    ids, logits = expected
    assert outcome.done.generated[invoke].token_ids == ids
    assert np.abs(outcome[f"{invoke}"][:, 0] - logits).max() <= 1e-10 * np.abs(logits).max()


@contextmanager
def counted(bench):
    """(rows of each pass in the blocks, and in the mixture)."""
    blocks, mixture = [], []
    parts = ((bench.model.backpack.gpt2_model.h[0].ln_1, blocks), (bench.model.backpack.sense_weight_net, mixture))
    handles = [
        module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(len(args[0]))) for module, seen in parts
    ]
    yield blocks, mixture
    for handle in handles:
        handle.remove()


@pytest.fixture(scope="module")
def expected(bench):
    """What comes out by hand, each computed once."""
    known = {}

    def of(prompt, edit):
        if (prompt, edit) not in known:
            known[prompt, edit] = by_hand(bench, prompt, *edit)
        return known[prompt, edit]

    return of


VARIANTS = [PLAIN, ("senses", 3.0), ("senses", -2.0), ("sense_weights", 0.0)]


def test_variants_of_one_prompt_come_from_one_prefill(bench, expected):
    with counted(bench) as (blocks, mixture):
        outcome = bench.run(writing(*((PROMPT, edit) for edit in VARIANTS)))
    assert (blocks, mixture) == ([1, 4, 4, 4, 4], [4] * N)
    for invoke, edit in enumerate(VARIANTS):
        assert_is(outcome, invoke, expected(PROMPT, edit))


def test_users_with_edits_of_their_own_write_in_one_batch_of_padded_rows(bench, expected):
    asked = [(OTHER, ("senses", 3.0)), (LONG, ("sense_weights", 0.0)), (PROMPT, PLAIN), (OTHER, PLAIN)]
    with counted(bench) as (blocks, _):
        outcomes = bench.run_all(*(writing(one) for one in asked))
    # those of equal prompts share the prefill, strangers or not
    assert blocks[0] == 3
    for outcome, (prompt, edit) in zip(outcomes, asked, strict=True):
        assert_is(outcome, 0, expected(prompt, edit))


def test_whoever_is_beside_an_edit_gets_the_same_bits_as_beside_none(bench):
    beside = [bench.run_all(writing((PROMPT, PLAIN)), writing((LONG, edit)))[0] for edit in VARIANTS]
    for outcome in beside[1:]:
        assert np.array_equal(outcome["0"], beside[0]["0"])


def test_newcomers_join_those_under_way(bench, expected):
    asked = [(LONG, ("senses", 3.0)), (PROMPT, ("sense_weights", 0.0)), (OTHER, PLAIN)]
    requests = [writing(one) for one in asked]
    outcomes = bench.start(requests[0])
    for request in requests[1:]:
        for _ in range(2):
            bench.step(outcomes)
        outcomes |= bench.start(request)
    while bench.engine.has_work:
        bench.step(outcomes)
    for request, (prompt, edit) in zip(requests, asked, strict=True):
        assert_is(outcomes[request.run_id], 0, expected(prompt, edit))


def test_padding_has_no_weight(bench):
    nodes = [read("sense_weights", invoke=invoke) for invoke in range(2)]
    sums = [call("torch.sum", Ref(invoke), dim=-1) for invoke in range(2)]
    last = [call("tensor.getitem", Ref(2 + invoke), (Slice(0), Slice(0), -1)) for invoke in range(2)]
    request = ask([*nodes, *sums, *last], {"0": 4, "1": 5}, OTHER, LONG, generation=GREEDY)
    outcome = bench.run(request)
    for invoke in range(2):
        assert np.abs(outcome[f"{invoke}"] - 1).max() < 1e-12


def test_an_edit_of_one_step_stays_in_the_cache(bench):
    """Senses that were written at the prompt are what later steps mix."""
    first = Steps(0, 1)
    nodes = [
        read("senses", steps=first),
        call("torch.mul", Ref(0), 3.0),
        write(Ref(1), "senses", steps=first),
        read("logits", positions=(-1,)),
    ]
    outcome = bench.run(ask(nodes, {"0": 3}, PROMPT, generation=GREEDY))
    ids = bench.ids(PROMPT)
    n_prompt = ids.shape[1]

    def scale(_, args, output):
        return torch.cat([output[:, :, :n_prompt] * 3.0, output[:, :, n_prompt:]], dim=2)

    handle = bench.model.backpack.sense_network.register_forward_hook(scale)
    whole = torch.tensor([[*ids[0].tolist(), *outcome.done.generated[0].token_ids]])
    with torch.no_grad():
        logits = bench.model(whole, use_cache=False).logits[0, n_prompt - 1 : -1].numpy()
    handle.remove()
    assert np.abs(outcome["0"][:, 0, 0] - logits).max() <= 1e-10 * np.abs(logits).max()


def test_who_fails_beside_others_fails_alone(bench, expected):
    nodes = [
        read("senses", steps=Steps(0, 1)),
        call("tokens.ids"),
        call("torch.add", Ref(1), 10_000),
        call("module.call", Ref(2), module="backpack.sense_table"),
        call("torch.transpose", Ref(3), dim0=1, dim1=2),
        call("torch.add", Ref(0), Ref(4)),
        write(Ref(5), "senses", steps=Steps(0, 1)),
    ]
    bad = ask(nodes, {}, PROMPT, generation=GREEDY)
    failed, fine = bench.run_all(bad, writing((PROMPT, ("senses", 3.0))))
    assert "'backpack.sense_table' knows the token ids" in failed.error.message
    assert_is(fine, 0, expected(PROMPT, ("senses", 3.0)))
