"""Generations of decoders that no site table is known of: their rows step together only where that leaves no trace.

The oracle is the bare model without a cache: the whole text anew for each token.
"""

from functools import cache

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from interpd.config import ModelSpec
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import Loaded, make_resident
from interpd.errors import FeatureUnsupported
from interpd.graph.ir import Generation, Prompt
from interpd.plugin.registry import load_registry
from interpd.testing.bench import Bench, ask

SIZES = {
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
CONFIGS = {
    # convolutions, whose states are rows of the cache, too
    "lfm2": {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention", "conv"], "conv_L_cache": 3},
    # no argument for positions, and none made of the mask
    "bart": {"d_model": 24, "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 44},
    # positions that begin behind the number of the padding token
    "roberta": {"is_decoder": True, "pad_token_id": 1, "max_position_embeddings": 66},
    # no counting of positions that are cached
    "bamba": {
        "num_key_value_heads": 2,
        "mamba_n_heads": 6,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
        "mamba_d_state": 4,
        "attn_layer_indices": [1],
    },
    # state that is kept in the modules
    "recurrent_gemma": {"lru_width": 24, "attention_window_size": 16},
}
GENERATIONS = (((5, 9, 3), 2), ((7,), 5), ((11, 4, 8, 6, 2), 3), ((13, 4), 6), ((9, 9, 5, 3), 4))


@cache
def bench_of(kind):
    config = AutoConfig.for_model(kind, **{**SIZES, **CONFIGS[kind]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            parameter.normal_(float(parameter.ndim == 1 and name.endswith("weight")), 0.3)
    registry = load_registry([])
    resident = make_resident(Loaded(model, None, ModelSpec(kind), ""), registry)
    return Bench(NnsightEngine(resident, registry), model)


def generating(ids, n):
    return ask([], {}, Prompt(token_ids=ids), generation=Generation(n, ignore_eos=True))


def test_prompts_that_cannot_be_padded_take_requests_of_their_own():
    request = ask([], {}, *(Prompt(token_ids=ids) for ids in ((5, 9), (7,))), generation=Generation(2))
    error = bench_of("bart").run(request).error
    assert isinstance(error, FeatureUnsupported)
    assert "not the same with padding on its left: give each prompt a request of its own" in error.message


def written_anew(model, ids, n):
    for _ in range(n):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
        ids = (*ids, int(logits[0, -1].argmax()))
    return ids[-n:]


@pytest.mark.filterwarnings("ignore:Module .* has a submodule named")
@pytest.mark.parametrize("kind", ["lfm2", "bart", "roberta", pytest.param("bamba", marks=pytest.mark.slow)])
def test_texts_in_company_are_those_that_the_model_writes_alone(kind):
    bench = bench_of(kind)
    outcomes = bench.run_all(*(generating(*one) for one in GENERATIONS))
    for outcome, (ids, n) in zip(outcomes, GENERATIONS, strict=True):
        assert outcome.done.generated[0].token_ids == written_anew(bench.model, ids, n), (ids, n)


@pytest.mark.slow
def test_a_model_that_keeps_its_state_in_its_modules_does_not_generate():
    error = bench_of("recurrent_gemma").run(generating((7, 3), 2)).error
    assert isinstance(error, FeatureUnsupported)
    assert "keeps its state outside of past_key_values" in error.message
