"""Any subset of the names of a weight will do, as long as they agree."""

import itertools
import json

import pytest
import torch
from backpack_tests.checkpoint.forms import ALIASES, WPE, WTE, published
from backpack_tests.tiny import tiny_backpack, tiny_config

from interpd.errors import InvalidRequest
from interpd_backpack.checkpoint.names import check_weights, expected_shapes, is_backpack, own_weights

NAMES = {own: (own, *(alias for alias, of in ALIASES.items() if of == own)) for own in (WTE, WPE)}


def subsets(names):
    return itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(1, len(names) + 1))


def test_any_subset_of_the_names_gives_the_same_weights():
    model, _ = tiny_backpack()
    state, shapes = published(model), expected_shapes(tiny_config())
    own = dict(model.named_parameters())
    everything = {name for names in NAMES.values() for name in names}
    kinds = list(itertools.product(subsets(NAMES[WTE]), subsets(NAMES[WPE])))
    assert len(kinds) == 21
    for wte, wpe in kinds:
        there = {name: weight for name, weight in state.items() if name not in everything or name in (*wte, *wpe)}
        weights = own_weights(there, "it")
        check_weights(weights, shapes, "it")
        assert weights.keys() == own.keys()
        assert all(torch.equal(weights[name], weight) for name, weight in own.items())
    nameless = {name: weight for name, weight in state.items() if name not in NAMES[WPE]}
    with pytest.raises(InvalidRequest, match=f"it lacks '{WPE}' of the 56 weights"):
        check_weights(own_weights(nameless, "it"), shapes, "it")


def test_masks_are_dropped_and_the_biases_of_attention_are_kept():
    model, _ = tiny_backpack()
    weights = own_weights(published(model), "it")
    assert "backpack.gpt2_model.h.2.attn.c_attn.bias" in weights
    assert "backpack.sense_weight_net.c_attn.bias" in weights
    assert not [name for name in weights if name.endswith((".attn.bias", "masked_bias"))]


@pytest.mark.parametrize(
    ("config", "names", "known"),
    [
        ({"model_type": "gpt2", "num_senses": 16}, [], True),
        ({"model_type": "gpt2"}, ["backpack.sense_network.ln.bias"], True),
        ({"model_type": "gpt2"}, ["transformer.wte.weight"], False),
        ({"model_type": "never heard of"}, [], False),
    ],
)
def test_a_backpack_is_known_by_its_senses(config, names, known):
    assert is_backpack(json.loads(json.dumps(config)), names) is known
