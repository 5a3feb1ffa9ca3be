"""Generations of encoder-decoder models against transformers' greedy ``generate`` and layers written out by hand."""

from functools import cache

import numpy as np
import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache
from two_stacks_written_out import logits as written_out

from interpd.engine.decoder_positions import can_be_padded
from interpd.errors import FeatureUnsupported
from interpd.graph.ir import Generation, Prompt, Ref, Steps
from interpd.graph.run import TokenGenerated
from interpd.graph.types import TensorData
from interpd.testing.bench import Bench, ask, call, read, write

FAMILIES = ("t5", "bart", "marian", "pegasus", "t5_gated", "mbart")
# of three source lengths and three lengths of the decoder's own prompt
PROMPTS = (
    Prompt(text="The cat sat on the mat", target_text="on the"),
    Prompt(text="Elena"),
    Prompt(text="Lisbon is the", target_ids=(5, 7, 200, 9, 11)),
    Prompt(text="Once upon a time", target_ids=(30,)),
)


def lanes(*fast):
    return [pytest.param(name, marks=() if name in fast else [pytest.mark.slow]) for name in FAMILIES]


@cache
def bench_of(architecture):
    return Bench.tiny(architecture, dtype=torch.float64)


@pytest.fixture
def with_rules():
    """Makes the model of a bench demand something of its texts, until the test ends."""
    before = []

    def demand(bench, **rules):
        for name, value in rules.items():
            before.append((bench.model.generation_config, name, getattr(bench.model.generation_config, name)))
            setattr(bench.model.generation_config, name, value)

    yield demand
    for config, name, value in reversed(before):
        setattr(config, name, value)


def sides(bench, prompt):
    tokens = bench.engine.tokenize([prompt])[0]
    return torch.tensor([tokens.ids]), torch.tensor([tokens.target.ids])


def theirs(bench, prompt, n_new):
    """The new tokens of ``generate``."""
    source, target = sides(bench, prompt)
    found = bench.model.generate(
        input_ids=source,
        attention_mask=torch.ones_like(source),
        decoder_input_ids=target,
        max_new_tokens=n_new,
        num_beams=1,
        do_sample=False,
        # the one that transformers would make has as many layers as the encoder
        past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
    )
    return tuple(found[0, target.shape[1] :].tolist())


def generating(prompt, n_new, **options):
    return ask([], {}, prompt, generation=Generation(n_new), **options)


def ours(outcome):
    (found,) = outcome.done.generated
    return found.token_ids


@pytest.mark.parametrize("architecture", lanes("bart"))
def test_texts_in_company_are_those_of_generate(with_rules, architecture):
    bench = bench_of(architecture)
    # random models repeat themselves
    with_rules(bench, no_repeat_ngram_size=1)
    lengths = (4, 9, 6, 1)
    requests = [generating(prompt, n) for prompt, n in zip(PROMPTS, lengths, strict=True)]
    # they arrive while the others decode: rows join, and leave at different steps
    waiting, outcomes = list(requests), {}
    while waiting or bench.engine.has_work:
        if waiting:
            outcomes |= bench.start(waiting.pop(0))
        bench.step(outcomes)
    for prompt, n, request in zip(PROMPTS, lengths, requests, strict=True):
        outcome = outcomes[request.run_id]
        assert ours(outcome) == theirs(bench, prompt, n)
    assert max(n for one in outcomes.values() for n in one.done.cost.shared_with) > 1


RULES = {
    "forced_bos": {"forced_bos_token_id": 40},
    "forced_eos": {"forced_eos_token_id": 1},
    "bad_words": {"bad_words_ids": [[46], [167], [253, 253], [277, 277, 277]]},
    "suppressed": {"suppress_tokens": list(range(100, 321)), "begin_suppress_tokens": list(range(3, 80))},
    "least": {"min_length": 6, "eos_token_id": list(range(0, 320, 2))},
    "least_new": {"min_new_tokens": 3, "eos_token_id": list(range(0, 320, 2))},
    "no_repeats": {"no_repeat_ngram_size": 2, "repetition_penalty": 1.7},
    "not_the_source": {"encoder_no_repeat_ngram_size": 2, "encoder_repetition_penalty": 50.0},
    "bias": {"sequence_bias": [[[60], 30.0], [[60, 61], 40.0]], "renormalize_logits": True},
    "decay": {"exponential_decay_length_penalty": (2, 9.0)},
}
RULED = (Prompt(token_ids=(5, 9, 100, 7, 3)), Prompt(token_ids=(40, 60, 12), target_ids=(50,)))


USUAL = ("forced_bos", "bad_words", "no_repeats")


@pytest.mark.parametrize(
    "rules",
    [pytest.param(rules, id=name, marks=() if name in USUAL else [pytest.mark.slow]) for name, rules in RULES.items()],
)
def test_the_rules_of_a_generation_config_are_carried_out_as_generate_does(with_rules, rules):
    bench = bench_of("bart")
    plain = [theirs(bench, prompt, 8) for prompt in RULED]
    with_rules(bench, **rules)
    expected = [theirs(bench, prompt, 8) for prompt in RULED]
    assert expected != plain
    found = bench.run_all(*(generating(prompt, 8) for prompt in RULED))
    assert [ours(outcome) for outcome in found] == expected


def test_beams_are_not_searched_and_said_so(with_rules):
    bench = bench_of("bart")
    expected = theirs(bench, PROMPTS[1], 3)
    with_rules(bench, num_beams=4)
    outcome = bench.run(generating(PROMPTS[1], 3))
    assert ours(outcome) == expected
    assert outcome.done.warnings == (
        "the model's generation config asks for 4 beams; texts are written token by token here, without beams",
    )


def test_what_cannot_be_carried_out_is_refused(with_rules):
    bench = bench_of("bart")
    with_rules(bench, guidance_scale=2.0)
    with pytest.raises(FeatureUnsupported, match="sets 'guidance_scale', which is not carried out here"):
        bench.run(generating(PROMPTS[1], 3)).done  # noqa: B018
    assert bench.run(ask([read("logits")], {"x": 0}, PROMPTS[1])).done


def test_an_end_that_is_forced_is_none_for_who_ignores_ends(with_rules):
    bench = bench_of("bart")
    with_rules(bench, forced_eos_token_id=1)
    request = ask([], {}, PROMPTS[1], generation=Generation(3, ignore_eos=True))
    (found,) = bench.run(request).done.generated
    assert (len(found.token_ids), found.token_ids[-1] != 1, found.stop_reason) == (3, True, "length")


@pytest.mark.parametrize("architecture", lanes("bart"))
def test_steered_texts_in_company_are_those_of_one_long_pass(architecture):
    """Writes at all steps on the decoder's side and at the only step of the encoder's; reads at steps of both."""
    bench, n_new = bench_of(architecture), 5
    steered, pattern = "decoder.layers.1.resid_mid", "decoder.layers.1.cross_attn.pattern"
    encoded, kept = "encoder.layers.1.resid_post", "decoder.layers.0.cross_attn.v"
    vector = torch.linspace(-1, 1, 24, dtype=torch.float64)

    def change(name, value):
        return value + vector if name in (steered, encoded) else value * 1.5 if name == kept else value

    nodes = [
        *(node for site in (steered, encoded) for node in adding(site, vector)),
        *scaling(kept, 1.5),
        read("logits", positions=(-1,)),
        read(pattern, positions=(-1,)),
        read(encoded),
        read(kept),
    ]
    nodes = renumbered(nodes)
    outputs = {name: len(nodes) - 4 + index for index, name in enumerate(("logits", "pattern", "encoded", "kept"))}
    generation = Generation(n_new, ignore_eos=True)
    requests = [ask(nodes, outputs, prompt, generation=generation) for prompt in PROMPTS[:3]]
    for prompt, outcome in zip(PROMPTS, bench.run_all(*requests), strict=False):
        tokens, seen = long_passes(bench, prompt, n_new, change)
        assert ours(outcome) == tokens
        for step in range(n_new):
            close(outcome["logits"][step], seen[step]["logits"][:, -1:])
            close(outcome["pattern"][step], seen[step][pattern][:, :, -1:])
        close(outcome["encoded"], seen[0][encoded])
        close(outcome["kept"], seen[0][kept])


def adding(site, vector):
    return [read(site), call("torch.add", Ref(-1), TensorData.from_numpy(vector.numpy())), write(Ref(-1), site)]


def scaling(site, factor):
    return [read(site), call("torch.mul", Ref(-1), factor), write(Ref(-1), site)]


def renumbered(nodes):
    """Nodes whose reference -1 means the node before them."""
    from dataclasses import replace

    def moved(arg, index):
        return Ref(index - 1) if arg == Ref(-1) else arg

    return [replace(node, inputs=tuple(moved(arg, i) for arg in node.inputs)) for i, node in enumerate(nodes)]


def long_passes(bench, prompt, n_new, change):
    """(greedy tokens, what each site means at each step), each step a pass over everything so far."""
    source, target = sides(bench, prompt)
    n_prompt, steps = target.shape[1], []
    for _ in range(n_new):
        seen = {}

        def at(name, value, seen=seen):
            seen[name] = change(name, value)
            return seen[name]

        with torch.no_grad():
            found = written_out(bench.model, source, target, at)
        steps.append(seen)
        target = torch.cat([target, found[:, -1:].argmax(-1)], dim=1)
    return tuple(target[0, n_prompt:].tolist()), steps


def close(found, expected):
    expected = expected.numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_what_is_read_at_one_step_is_that_of_its_own_position():
    bench = bench_of("bart")
    site = "decoder.layers.2.resid_post"
    nodes = [read(site, steps=Steps(2, 3)), read(site, steps=Steps(0, 1))]
    request = ask(nodes, {"third": 0, "first": 1}, PROMPTS[2], generation=Generation(4, ignore_eos=True))
    outcome = bench.run_all(request, generating(PROMPTS[0], 6))[0]
    _, seen = long_passes(bench, PROMPTS[2], 3, lambda name, value: value)
    close(outcome["third"], seen[2][site][:, -1:])
    close(outcome["first"], seen[0][site])


def test_positions_are_counted_on_both_sides():
    bench = bench_of("bart")
    outcome = bench.run(ask([], {}, PROMPTS[0], generation=Generation(4, ignore_eos=True)))
    source, target = sides(bench, PROMPTS[0])
    cost = outcome.done.cost
    assert (cost.n_tokens, cost.n_layers_run, cost.n_passes) == (source.shape[1] + target.shape[1] + 3, 5, 4)


def test_the_encoder_runs_once():
    bench, ran = bench_of("bart"), []
    handle = bench.model.get_encoder().register_forward_hook(lambda *_: ran.append(1))
    try:
        bench.run(generating(PROMPTS[0], 5)).done  # noqa: B018
    finally:
        handle.remove()
    assert ran == [1]


def test_what_begins_every_target_is_no_text(with_rules):
    bench = bench_of("bart")
    with_rules(bench, forced_bos_token_id=0)
    side = bench.engine._access.resident.target_side
    assert {0, 1} <= side.starts
    request = ask([], {}, Prompt(text="The cat"), generation=Generation(4, ignore_eos=True), stream_tokens=True)
    outcome = bench.run(request)
    (found,) = outcome.done.generated
    assert found.token_ids[0] == 0
    assert "<s>" not in found.text
    assert next(event.text for event in outcome.events if isinstance(event, TokenGenerated)) == ""


def test_a_request_that_fails_on_its_way_costs_the_others_nothing():
    bench = bench_of("bart")
    # step 2 has one position
    failing = [read("logits", steps=Steps(2, 3)), call("tensor.getitem", Ref(0), (0, 0)), call("torch.argmax", Ref(1))]
    failing += [call("tensor.getitem", Ref(0), (0, Ref(2)))]
    bad = ask(failing, {"x": 3}, PROMPTS[2], generation=Generation(6, ignore_eos=True))
    requests = [generating(PROMPTS[0], 6), bad, generating(PROMPTS[1], 6)]
    outcomes = bench.run_all(*requests)
    assert "cannot be computed" in str(outcomes[1].error)
    assert [ours(outcomes[place]) for place in (0, 2)] == [theirs(bench, prompt, 6) for prompt in PROMPTS[:2]]


@pytest.mark.parametrize("architecture", lanes("bart"))
def test_decoders_are_padded_on_the_left_without_a_trace(architecture):
    assert can_be_padded(bench_of(architecture).model)


@pytest.mark.slow
def test_a_decoder_that_cannot_be_padded_decodes_alone(monkeypatch):
    bench = Bench.tiny("bart")
    monkeypatch.setattr(bench.engine, "_stateful", True)
    outcomes = bench.run_all(*(generating(prompt, 3) for prompt in PROMPTS[:2]))
    assert [outcome.done.cost.shared_with for outcome in outcomes] == [(1, 1, 1), (1, 1, 1)]
