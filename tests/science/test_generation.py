"""Generation against transformers' own, and per-step reads and writes against a loop written by hand."""

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from interpd.graph.ir import Generation, Ref, Steps
from interpd.graph.run import TokenGenerated
from interpd.graph.types import TensorData
from interpd.testing.bench import Bench, ask, call, read, write

PROMPTS = ("The cat sat", "Once upon a time, there was a little girl", "Lisbon", "Elena Marsh was born in")
N = 8


@pytest.fixture(scope="module", params=["gpt2", "llama", "mistral", "qwen2"])
def generating(request):
    return Bench.tiny(request.param)


def generate(prompt=PROMPTS[0], nodes=(), outputs=None, **options):
    settings = {"max_new_tokens": N, "ignore_eos": True, **options}
    return ask(nodes, outputs or {}, prompt, generation=Generation(**settings))


def tokens(result, invoke=0):
    return list(result.done.generated[invoke].token_ids)


def of_transformers(bench, prompt, **options):
    ids = bench.ids(prompt)
    settings = {"max_new_tokens": N, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **options}
    return bench.model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :].tolist()


def steered_by_hand(bench, prompt, vector, steps):
    """Greedy tokens while ``vector`` is added to the output of block 1 at some steps; and the block's outputs."""
    blocks = bench.model.transformer.h if bench.model.config.model_type == "gpt2" else bench.model.model.layers
    now, seen, chosen = [0], [], []

    def steer(module, args, output):
        output = output + vector if now[0] in steps else output
        seen.append(output[:, -1:].detach())
        return output

    handle = blocks[1].register_forward_hook(steer)
    cache, ids = DynamicCache(config=bench.model.config), bench.ids(prompt)
    for step in range(N):
        now[0] = step
        logits = bench.model(ids, past_key_values=cache, use_cache=True).logits
        ids = logits[:, -1].argmax(-1, keepdim=True)
        chosen.append(int(ids))
    handle.remove()
    return chosen, torch.stack(seen)


def test_greedy_tokens_are_those_of_transformers(generating):
    for prompt in PROMPTS:
        assert tokens(generating.run(generate(prompt))) == of_transformers(generating, prompt)


def test_tokens_that_the_config_suppresses_are_never_chosen(generating, monkeypatch):
    plain = tokens(generating.run(generate()))
    monkeypatch.setattr(generating.model.generation_config, "suppress_tokens", sorted(set(plain)))
    without = tokens(generating.run(generate()))
    assert not set(without) & set(plain)
    assert without == of_transformers(generating, PROMPTS[0])
    drawn = tokens(generating.run(generate(do_sample=True, seed=0, temperature=0.01)))
    assert not set(drawn) & set(plain)


def test_prompts_of_all_lengths_step_together_and_get_the_tokens_they_get_alone(generating):
    request = ask([], {}, *PROMPTS, generation=Generation(N, ignore_eos=True))
    result = generating.run(request)
    assert result.done.cost.n_passes == N
    for invoke, prompt in enumerate(PROMPTS):
        assert tokens(result, invoke) == of_transformers(generating, prompt)


def test_strangers_step_together(generating):
    requests = [generate(prompt) for prompt in ("The cat sat", "The cat ran", "The cat is")]
    for request, result in zip(requests, generating.run_all(*requests), strict=True):
        assert result.done.cost.shared_with == (3,) * N
        assert tokens(result) == of_transformers(generating, request.prompts[0].text)


def test_steering_at_some_steps_equals_a_loop_by_hand(generating):
    vector = torch.linspace(-2, 2, 24)
    nodes = [
        read("layers.1.resid_post", steps=Steps(2, 5)),
        call("torch.add", Ref(0), TensorData.from_numpy(vector.numpy())),
        write(Ref(1), "layers.1.resid_post", steps=Steps(2, 5)),
        read("layers.1.resid_post", positions=(-1,)),
    ]
    requests = [generate(prompt, nodes, {"hidden": 3}) for prompt in PROMPTS[:2]]
    for request, result in zip(requests, generating.run_all(*requests), strict=True):
        chosen, hidden = steered_by_hand(generating, request.prompts[0].text, vector, range(2, 5))
        assert tokens(result) == chosen
        assert np.allclose(result["hidden"], hidden, atol=1e-5)


def test_a_value_of_the_prefill_is_written_at_later_steps(gpt2):
    nodes = [
        read("layers.1.resid_post", positions=(0,), steps=Steps(0, 1)),
        write(Ref(0), "layers.1.resid_post", steps=Steps(1, None)),
        read("layers.1.resid_post", steps=Steps(3, 4)),
    ]
    result = gpt2.run(generate(nodes=nodes, outputs={"first": 0, "later": 2}))
    assert np.array_equal(result["first"], result["later"])


def test_values_cross_between_prompts_at_each_step(gpt2):
    site = "layers.1.resid_post"
    nodes = [read(site, positions=(-1,), steps=Steps(1, None)), write(Ref(0), site, invoke=1, steps=Steps(1, None))]
    nodes.append(read(site, invoke=1, steps=Steps(1, None)))
    request = ask(nodes, {"a": 0, "b": 2}, *PROMPTS[:2], generation=Generation(N, ignore_eos=True))
    result = gpt2.run(request)
    assert result["a"].shape == (N - 1, 1, 1, 24)
    assert np.array_equal(result["a"], result["b"])


def test_a_late_value_of_one_generation_enters_the_next_one(gpt2):
    nodes = [
        read("layers.2.resid_post", positions=(-1,), steps=Steps(0, 1)),
        write(Ref(0), "layers.0.resid_post", invoke=1, steps=Steps(1, None)),
        read("layers.0.resid_post", invoke=1, steps=Steps(1, 2)),
    ]
    request = ask(nodes, {"a": 0, "b": 2}, *PROMPTS[:2], generation=Generation(N, ignore_eos=True))
    result = gpt2.run(request)
    assert np.array_equal(result["a"], result["b"])
    assert tokens(result) == of_transformers(gpt2, PROMPTS[0])


def test_writing_the_logits_chooses_the_token(gpt2):
    only = np.full((1, 1, 321), -1e9, np.float32)
    only[..., 7] = 0
    nodes = [write(TensorData.from_numpy(only), "logits")]
    assert tokens(gpt2.run(generate(nodes=nodes))) == [7] * N


def test_logits_of_every_step_come_back_stacked(gpt2):
    result = gpt2.run(generate(nodes=[read("logits", positions=(-1,))], outputs={"logits": 0}))
    assert result["logits"].shape == (N, 1, 1, 321)
    assert result["logits"].argmax(-1).ravel().tolist() == tokens(result)


def test_patterns_of_every_step_see_the_keys_of_their_own_prompt(gpt2):
    nodes = [read("layers.1.attn.pattern", steps=Steps(3, 4))]
    requests = [generate(prompt, nodes, {"pattern": 0}) for prompt in ("The cat sat on", "The cat sat on the mat")]
    for request, result in zip(requests, gpt2.run_all(*requests), strict=True):
        n_keys = gpt2.ids(request.prompts[0].text).shape[1] + 3
        assert result["pattern"].shape == (1, 4, 1, n_keys)
        assert np.allclose(result["pattern"].sum(-1), 1, atol=1e-5)


def sampled(prompt, seed=11, **options):
    return generate(prompt, do_sample=True, seed=seed, temperature=1.3, top_k=50, top_p=0.9, **options)


def test_a_seed_gives_the_same_tokens_whoever_shares_the_passes(generating):
    alone = tokens(generating.run(sampled(PROMPTS[0])))
    among, *_ = generating.run_all(sampled(PROMPTS[0]), sampled("The cat ran", seed=5), sampled("The dog sat", seed=6))
    assert tokens(among) == alone
    assert tokens(generating.run(sampled(PROMPTS[0], seed=12))) != alone


def test_tokens_of_a_nucleus_are_those_that_transformers_keeps(gpt2):
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    from interpd.engine.sampling import Sampler

    logits = torch.randn(321, generator=torch.Generator().manual_seed(0)) * 3
    options = Generation(1, do_sample=True, temperature=0.7, top_k=40, top_p=0.8)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(0.7), TopKLogitsWarper(40), TopPLogitsWarper(0.8)])
    expected = warpers(None, logits[None])[0]
    assert torch.equal(Sampler(options, 0, torch.device("cpu"))._warped(logits), expected)


def test_stop_conditions_end_a_prompt_and_not_its_neighbours(gpt2):
    free = tokens(gpt2.run(generate()))
    third = free[2]
    first_time = free.index(third)
    stopped, neighbour = gpt2.run_all(generate(stop_token_ids=(third,)), generate("The cat ran"))
    assert tokens(stopped) == free[: first_time + 1]
    assert stopped.done.generated[0].stop_reason == "stop_token"
    assert tokens(neighbour) == of_transformers(gpt2, "The cat ran")
    assert neighbour.done.generated[0].stop_reason == "length"


def test_a_stop_string_ends_the_text_that_holds_it(gpt2):
    text = gpt2.run(generate()).done.generated[0].text
    result = gpt2.run(generate(stop_strings=(text[2:5],)))
    assert text[2:5] in result.done.generated[0].text
    assert result.done.generated[0].stop_reason == "stop_string"
    assert len(tokens(result)) < N


def test_the_end_token_of_the_model_ends_a_prompt(gpt2):
    only = np.full((1, 1, 321), -1e9, np.float32)
    only[..., 1] = 0
    nodes = [write(TensorData.from_numpy(only), "logits", steps=Steps(3, 4)), read("embed", positions=(-1,))]
    result = gpt2.run(generate(nodes=nodes, outputs={"embed": 1}, ignore_eos=False))
    assert result.done.generated[0].stop_reason == "eos"
    assert len(tokens(result)) == 4
    assert result["embed"].shape == (4, 1, 1, 24)


def test_an_output_of_a_step_that_never_ran_is_absent_with_a_warning(gpt2):
    free = tokens(gpt2.run(generate()))
    request = generate(nodes=[read("embed", steps=Steps(6, 7))], outputs={"late": 0}, stop_token_ids=(free[0],))
    result = gpt2.run(request)
    assert "late" in result.done.warnings[0]


def test_a_write_whose_source_had_ended_is_reported(gpt2):
    site, sixth = "layers.1.resid_post", Steps(6, 7)
    nodes = [read(site, positions=(-1,), steps=sixth), write(Ref(0), site, invoke=1, steps=sixth)]
    own, other = (tokens(gpt2.run(generate(prompt))) for prompt in (PROMPTS[0], PROMPTS[2]))
    ends = next(token for token in own[:6] if token not in other)
    options = Generation(N, ignore_eos=True, stop_token_ids=(ends,))
    result = gpt2.run(ask(nodes, {}, PROMPTS[0], PROMPTS[2], generation=options))
    assert len(tokens(result, 0)) < 6 < len(tokens(result, 1))
    assert "nodes[1] (write at 'layers.1.resid_post') is not in force from step 6 on" in result.done.warnings[0]


def test_streamed_texts_add_up_to_the_text(generating):
    request = ask([], {}, PROMPTS[0], generation=Generation(N, ignore_eos=True), stream_tokens=True)
    result = generating.run(request)
    streamed = [event for event in result.events if isinstance(event, TokenGenerated)]
    assert [event.token_id for event in streamed] == tokens(result)
    assert [event.step for event in streamed] == list(range(N))
    assert result.done.generated[0].text.startswith("".join(event.text for event in streamed))


def test_a_generation_ends_where_the_model_has_no_more_positions(gpt2):
    long = "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d"
    n_prompt = gpt2.ids(long).shape[1]
    result = gpt2.run(generate(long, max_new_tokens=64 - n_prompt + 1))
    assert len(tokens(result)) == 64 - n_prompt + 1


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_padding_makes_no_nan_in_eager_attention_whatever_the_dtype(architecture):
    bench = Bench.tiny(architecture, dtype=torch.float64)
    nodes = [read("layers.0.attn.pattern", invoke=1, steps=Steps(0, 1)), read("logits", invoke=1, positions=(-1,))]
    request = ask(nodes, {"pattern": 0, "logits": 1}, *PROMPTS[:3], generation=Generation(N, ignore_eos=True))
    result = bench.run(request)
    assert not result.done.non_finite
    for invoke, prompt in enumerate(PROMPTS[:3]):
        assert tokens(result, invoke) == of_transformers(bench, prompt)
