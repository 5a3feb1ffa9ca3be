"""Variants of one prompt: batched is solo, equal seeds draw equal numbers, tokens come as they are made."""

import json

import pytest
import torch
from backpack_tests.tiny import N_PADDING, tiny_backpack

import interpd_backpack.worker
import interpd_client
from interpd_backpack.variants import generate
from interpd_client import CallerError

PROMPT = "The nurse said that"
N = 8


def without_two(prompt):
    prompt.senses[:, 2] = prompt.senses[:, 2] * 0.0


def doubled(prompt):
    prompt.senses[:, 1] = prompt.senses[:, 1] * 2.0


VARIANTS = (None, without_two, doubled)


@pytest.fixture(scope="module")
def model():
    made = tiny_backpack(torch.float64)
    with interpd_client.local(made, plugins={"backpack": interpd_backpack.worker}) as client:
        yield client.model("backpack")


def made(model, prompts=PROMPT, variants=VARIANTS, **options):
    def never(prompt, edit):
        raise AssertionError("no variant is an edit")

    options = {"max_new_tokens": N, "ignore_eos": True, **options}
    return generate(model, prompts, variants, put_in_force=never, **options)


def by_hand(scaled, sense, n=N, prompt=PROMPT):
    """Greedy tokens of the bare model, one whole pass for each."""
    model, tokenizer = tiny_backpack(torch.float64)
    ids = tokenizer(prompt).input_ids
    factors = torch.ones(4, dtype=torch.float64)
    factors[sense] = scaled
    model.backpack.sense_network.register_forward_hook(lambda m, a, out: out * factors[:, None, None])
    n_prompt = len(ids)
    for _ in range(n):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        logits[len(tokenizer) :] = -torch.inf
        ids.append(int(logits.argmax()))
    return tuple(ids[n_prompt:])


def test_each_variant_is_what_a_run_of_its_own_and_the_bare_model_give(model):
    found = made(model)
    assert found.names == ("unedited", "without_two", "doubled")
    wanted = (by_hand(1.0, 0), by_hand(0.0, 2), by_hand(2.0, 1))
    assert tuple(found[name].token_ids for name in found.names) == wanted
    assert len(set(wanted)) == 3
    for name, variant in zip(found.names, VARIANTS, strict=True):
        assert made(model, variants=[variant])[name] == found[name]


def test_variants_of_a_prompt_draw_the_same_numbers_and_prompts_others(model):
    variants = {"a": None, "b": None, "c": doubled}
    prompts = [PROMPT, "The doctor ate fish", PROMPT]
    found = made(model, prompts, variants, do_sample=True, seed=5)
    assert all(found.of("a", prompt) == found.of("b", prompt) for prompt in range(3))
    assert found.of("a", 0) != found.of("a", 2)
    alone = made(model, "The doctor ate fish", {"c": doubled}, do_sample=True, seed=6)
    assert alone["c"] == found.of("c", 1)


def test_a_seed_that_was_not_given_is_told(model):
    found = made(model, variants=[None], do_sample=True)
    again = made(model, variants=[None], do_sample=True, seed=found.options["seed"])
    assert found["unedited"] == again["unedited"]


@pytest.mark.slow
def test_more_rows_than_a_request_takes_are_several_requests(model, monkeypatch):
    whole = made(model, [PROMPT, "The doctor ate fish"], do_sample=True, seed=1)
    limits = model.manifest.limits
    monkeypatch.setattr(type(limits), "n_prompts", property(lambda self: 4), raising=False)
    assert made(model, [PROMPT, "The doctor ate fish"], do_sample=True, seed=1).continuations == whole.continuations


def test_tokens_come_with_the_name_of_their_variant(model):
    seen = []
    found = made(model, on_token=seen.append)
    for name in found.names:
        mine = [event for event in seen if event.variant == name]
        assert tuple(event.token_id for event in mine) == found[name].token_ids
        assert "".join(event.text for event in mine) == found[name].text


def test_rows_that_no_token_has_are_never_drawn(model):
    n_tokens = model.info.sizes["d_vocab"] - N_PADDING
    found = made(model, variants=[None], do_sample=True, seed=0, temperature=50.0, max_new_tokens=24)
    assert max(found["unedited"].token_ids) < n_tokens
    plain = model.generate(PROMPT, max_new_tokens=24, do_sample=True, seed=0, temperature=50.0, ignore_eos=True).run()
    assert plain.token_ids == found["unedited"].token_ids


def test_continuations_are_compared_and_shown(model):
    found = made(model)
    first = found["unedited"].token_ids
    parts = found.compare("doubled").first_difference
    assert first[:parts] == found["doubled"].token_ids[:parts]
    assert first[parts] != found["doubled"].token_ids[parts]
    assert found.compare("unedited").first_difference is None
    assert not any(found.compare("unedited").marks)
    assert len(found.rows()) == 3
    assert json.loads(found.to_json())["names"] == ["unedited", "without_two", "doubled"]
    assert "differs from token" in found.to_html()
    found.show()


def test_what_is_no_variant_is_refused(model):
    for variants, message in (
        ([], "no variants"),
        ([None, None], "several variants are called"),
        (["x"], "expected an edit, a function of a prompt of the trace, or None, got 'x'"),
    ):
        with pytest.raises(CallerError, match=message):
            made(model, variants=variants)
    with pytest.raises(CallerError, match="give seed"):
        made(model, seeds=(1, 2, 3))


def test_a_text_is_predicted_with_weights_of_ones_own(model):
    bare, tokenizer = tiny_backpack(torch.float64)
    ids = tokenizer(PROMPT).input_ids
    own = torch.rand(1, 4, len(ids), len(ids), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with model.trace(PROMPT) as t:
        t.sense_weights = own.numpy()
        t.save(logits=t.logits)
    senses = bare.backpack.sense_table(torch.tensor(ids))
    wanted = torch.einsum("lij,jld->id", own[0], senses) @ bare.lm_head.weight.T
    assert (torch.tensor(t.result["logits"][0]) - wanted).abs().max() < 1e-10


@pytest.mark.slow
def test_padding_of_a_model_that_is_loaded_is_never_drawn(tmp_path):
    made, tokenizer = tiny_backpack()
    made.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    with interpd_client.local(str(tmp_path), plugins={"backpack": interpd_backpack.worker}) as client:
        (name,) = (one.name for one in client.models())
        loaded = client.model(name)
        options = {"do_sample": True, "seed": 0, "temperature": 50.0, "max_new_tokens": 24, "ignore_eos": True}
        drawn = [loaded.generate(PROMPT, **{**options, "seed": seed}).run().token_ids for seed in range(4)]
    assert max(max(ids) for ids in drawn) < len(tokenizer)
