"""Rows of a cache that come, go and move: each keeps the keys that it would have alone."""

import pytest
import torch
from transformers import LlamaConfig, MistralConfig

from interpd.engine.kv_cache import RowCache

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
CONFIGS = {"full": LlamaConfig(**SIZES), "window": MistralConfig(**SIZES, sliding_window=4)}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def keys_of(rows, positions):
    """Keys ``[batch 1 pos 4]`` that tell whose and at which of its positions."""
    return torch.tensor([[[[10.0 * row + place] * 4 for place in positions]] for row in rows])


def filled(config, row, n):
    """A cache of one row, ``n`` positions long."""
    cache = RowCache(config)
    grow(cache, keys_of([row], range(n)))
    return cache


def grow(cache, keys):
    for layer in range(2):
        cache.past.update(keys, -keys, layer)
    cache.n_columns += keys.shape[2]


def own_keys(cache, index, n):
    """The last keys of one row, at most ``n``, by layer; and that the values are theirs."""
    found = []
    for layer in cache.past.layers:
        assert torch.equal(layer.values, -layer.keys)
        found.append(layer.keys[index, 0, -min(n, layer.keys.shape[2]) :, 0].tolist())
    return found


def assert_columns(cache, n):
    assert cache.n_columns == n
    for layer in cache.past.layers:
        assert layer.get_seq_length() == n
        # get_mask_sizes: how wide the next step's mask has to be
        assert layer.get_mask_sizes(1)[0] == layer.keys.shape[2] + 1


def test_the_shorter_one_is_padded_on_the_left(config):
    cache = filled(config, 1, 2)
    cache.take_in([filled(config, 2, 6), filled(config, 3, 3)])
    assert_columns(cache, 6)
    for index, n in enumerate((2, 6, 3)):
        for layer, keys in zip(cache.past.layers, own_keys(cache, index, n), strict=True):
            wanted = [10.0 * (index + 1) + place for place in range(n)]
            assert keys == wanted[-layer.keys.shape[2] :]


def test_columns_that_nobody_needs_any_more_go(config):
    cache = filled(config, 1, 2)
    cache.take_in([filled(config, 2, 6), filled(config, 3, 3)])
    cache.keep([0, 2], 3)
    assert_columns(cache, 3)
    assert own_keys(cache, 0, 2) == [[10.0, 11.0]] * 2
    assert own_keys(cache, 1, 3) == [[30.0, 31.0, 32.0]] * 2


def test_rows_grow_together_after_a_join(config):
    cache = filled(config, 1, 2)
    cache.take_in([filled(config, 2, 6)])
    grow(cache, torch.cat([keys_of([1], [2]), keys_of([2], [6])]))
    assert_columns(cache, 7)
    assert own_keys(cache, 0, 3) == [[10.0, 11.0, 12.0]] * 2


def test_a_pass_is_undone_where_it_was_done(config):
    cache = filled(config, 1, 6)
    before = [layer.keys.clone() for layer in cache.past.layers]
    state = cache.state()
    cache.past.update(keys_of([1], [6]), -keys_of([1], [6]), 0)
    cache.restore(state)
    assert_columns(cache, 6)
    for layer, keys in zip(cache.past.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)


def test_a_copy_of_some_rows_is_nobody_elses(config):
    cache = filled(config, 1, 2)
    cache.take_in([filled(config, 2, 6)])
    alone = cache.copy_of([0], 2)
    grow(alone, keys_of([1], [2]))
    assert_columns(alone, 3)
    assert_columns(cache, 6)
    assert own_keys(alone, 0, 3) == [[10.0, 11.0, 12.0]] * 2


def test_caches_that_hold_more_than_keys_and_values_are_not_joined():
    from transformers import Lfm2Config

    odd = RowCache(Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]))
    assert "LinearAttentionLayer" in odd.obstacle
    assert not RowCache(CONFIGS["window"]).obstacle
