"""Sampling and stopping, token by token."""

import pytest
import torch

from interpd.engine import generation as generating
from interpd.engine.sampling import Continuation, Sampler, choose, end_ids
from interpd.graph.ir import Generation, Graph, Prompt
from interpd.graph.run import Progress, RunRequest, TokenGenerated

CPU = torch.device("cpu")


@pytest.fixture
def gpt2(residents):
    return residents("gpt2")


def ids_of(resident, text):
    return resident.tokenize(Prompt(text=text)).ids


def continuation(resident, **options):
    settings = {"max_new_tokens": 10, **options}
    return Continuation(resident, Generation(**settings), settings["max_new_tokens"], end_ids(resident))


def fed(resident, text, **options):
    """A continuation after the tokens of ``text``, and the pieces that it gave."""
    going = continuation(resident, **options)
    return going, [going.add(token) for token in ids_of(resident, text) if not going.reason]


def chosen(sampler, logits):
    return choose([sampler], logits[None])[0]


def test_greedy_is_the_greatest_logit():
    assert chosen(Sampler(Generation(1), 0, CPU), torch.tensor([0.0, 3.0, 1.0])) == 1


def test_rows_are_chosen_together_each_in_its_own_way():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 1.0, 2.0], [float("nan"), 1.0, 2.0]])
    drawing = Sampler(Generation(1, do_sample=True, top_k=1, seed=0), 0, CPU)
    assert choose([Sampler(Generation(1), 0, CPU), drawing, drawing], logits) == [1, 2, 0]


def test_the_draws_of_a_seed_differ_between_prompts_and_not_between_calls():
    logits, options = torch.zeros(1000), Generation(1, do_sample=True, seed=4)
    draws = [[chosen(Sampler(options, invoke, CPU), logits) for _ in range(2)] for invoke in (0, 1)]
    assert draws[0][0] == draws[0][1]
    assert draws[0][0] != draws[1][0]


def test_prompts_of_equal_seeds_draw_equal_numbers():
    logits, options = torch.zeros(1000), Generation(1, do_sample=True, seeds=(4, 4, 5))
    samplers = [Sampler(options, invoke, CPU) for invoke in range(3)]
    first, second, third = ([chosen(sampler, logits) for _ in range(3)] for sampler in samplers)
    assert first == second != third


def test_a_low_temperature_is_nearly_greedy_and_top_k_of_one_exactly():
    logits = torch.tensor([0.0, 1.0, 0.9])
    cold = Sampler(Generation(1, do_sample=True, temperature=0.01, seed=0), 0, CPU)
    one = Sampler(Generation(1, do_sample=True, top_k=1, seed=0), 0, CPU)
    assert {chosen(sampler, logits) for sampler in (cold, one) for _ in range(50)} == {1}


def test_top_p_keeps_at_least_the_likeliest():
    logits = torch.tensor([5.0, 1.0, 1.0])
    sampler = Sampler(Generation(1, do_sample=True, top_p=0.01, seed=0), 0, CPU)
    assert {chosen(sampler, logits) for _ in range(50)} == {0}


def test_logits_that_are_not_finite_still_give_a_token():
    sampler = Sampler(Generation(1, do_sample=True, seed=0), 0, CPU)
    assert 0 <= chosen(sampler, torch.full((7,), torch.nan)) < 7


def test_the_number_of_new_tokens_is_bounded(gpt2):
    going, _ = fed(gpt2, "The cat sat on the mat", max_new_tokens=3)
    assert (len(going.ids), going.reason) == (3, "length")


def test_the_end_token_ends_the_text_and_is_not_part_of_it(gpt2):
    going = continuation(gpt2)
    for token in (*ids_of(gpt2, "The cat"), gpt2.tokenizer.eos_token_id):
        going.add(token)
    assert (going.reason, going.text) == ("eos", "The cat")


def test_the_end_token_is_a_token_like_others_when_it_is_ignored(gpt2):
    going = continuation(gpt2, ignore_eos=True)
    going.add(gpt2.tokenizer.eos_token_id)
    assert going.reason == ""


def test_a_stop_string_is_found_across_tokens_and_stays_in_the_text(gpt2):
    going, _ = fed(gpt2, "The cat sat on the mat.", stop_strings=("t on t",), max_new_tokens=30)
    assert going.reason == "stop_string"
    assert "t on t" in going.text
    assert "mat" not in going.text


def test_pieces_add_up_to_the_text(gpt2):
    going, pieces = fed(gpt2, "The cat sat on the mat.", max_new_tokens=30)
    assert "".join(pieces) == going.text == "The cat sat on the mat."


def test_a_character_of_several_tokens_comes_as_one_piece(gpt2):
    going, pieces = fed(gpt2, "a → b", max_new_tokens=30)
    assert "".join(pieces) == going.text == "a → b"
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)
    assert "" in pieces


def test_all_end_tokens_of_a_generation_config_count(gpt2):
    before = gpt2.model.generation_config.eos_token_id
    gpt2.model.generation_config.eos_token_id = [5, 6]
    try:
        assert {5, 6, gpt2.tokenizer.eos_token_id} <= end_ids(gpt2)
    finally:
        gpt2.model.generation_config.eos_token_id = before


def test_the_text_begins_with_the_space_that_a_first_token_hides():
    from interpd.config import ModelSpec
    from interpd.engine.resident import make_resident
    from interpd.worker.loading import load_model

    facts = make_resident(load_model(ModelSpec("facts")))
    prompt, whole = (ids_of(facts, text) for text in ("Elena Marsh was born in", "Elena Marsh was born in Mirefield."))
    new = whole[len(prompt) :]
    going = Continuation(facts, Generation(10), 10, end_ids(facts), prompt)
    pieces = [going.add(token) for token in new]
    assert "".join(pieces) == going.text == " Mirefield."


def events_of(resident, **fields):
    """The events of 5 new tokens for each of two prompts."""
    from interpd.engine.nnsight_engine import NnsightEngine
    from interpd.plugin.registry import load_registry

    engine = NnsightEngine(resident, load_registry([]))
    prompts = (Prompt(text="The cat"), Prompt(text="The dog sat"))
    engine.submit(RunRequest("g", "tiny", prompts, Graph((), {}), generation=Generation(5, ignore_eos=True), **fields))
    events = []
    while engine.has_work:
        events += engine.step()
    return events


def test_a_generation_says_how_far_it_is_once_per_step_of_its_request(gpt2, monkeypatch):
    monkeypatch.setattr(generating, "PROGRESS_S", 0.0)
    told = [event for event in events_of(gpt2) if isinstance(event, Progress)]
    assert [(event.done, event.total, event.message) for event in told] == [(n, 5, "tokens") for n in (1, 2, 3, 4)]


def test_a_generation_that_is_short_or_streams_its_tokens_says_nothing_more(gpt2, monkeypatch):
    monkeypatch.setattr(generating, "PROGRESS_S", 60.0)
    assert not [event for event in events_of(gpt2) if isinstance(event, Progress)]
    monkeypatch.setattr(generating, "PROGRESS_S", 0.0)
    streamed = events_of(gpt2, stream_tokens=True)
    assert not [event for event in streamed if isinstance(event, Progress)]
    assert sum(isinstance(event, TokenGenerated) for event in streamed) == 10
