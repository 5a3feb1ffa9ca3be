"""Second copies of weights: what uses them, and that they change no number beyond rounding."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from interpd.engine.packed_weights import pack_weights
from interpd.engine.twin import twin_of


def layers():
    torch.manual_seed(0)
    model = nn.ModuleDict({"linear": nn.Linear(30, 70), "bare": nn.Linear(30, 41, bias=False), "conv": Conv1D(50, 30)})
    return model.requires_grad_(False)


@pytest.fixture
def both():
    """(layers with second copies, the same without)"""
    plain = layers()
    packed = deepcopy(plain)
    assert pack_weights(packed, 1 << 20) == 4 * 30 * (70 + 41 + 50)
    return packed, plain


def close(one, other):
    return torch.allclose(one, other, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_several_rows_agree_to_rounding_and_one_row_bit_for_bit(both):
    packed, plain = both
    for name in plain:
        for x in (torch.randn(2, 1, 30), torch.randn(16, 9, 30)):
            assert close(packed[name](x), plain[name](x))
        for x in (torch.randn(1, 9, 30), torch.randn(9, 30)):
            assert torch.equal(packed[name](x), plain[name](x))
    strided = torch.randn(3, 9, 30)[:, ::4]
    assert close(packed["linear"](strided), plain["linear"](strided))


def test_gradients_go_through_the_weights_themselves(both):
    packed, plain = both
    x = torch.randn(3, 4, 30)
    found, wanted = (model["conv"](x.requires_grad_()) for model in (packed, plain))
    assert torch.equal(found, wanted)
    assert found.requires_grad


@torch.no_grad()
def test_a_weight_that_was_changed_or_replaced_is_what_counts(both):
    packed, _ = both
    x = torch.randn(3, 4, 30)
    packed["linear"].weight.mul_(2)
    assert close(packed["linear"](x), x @ packed["linear"].weight.T + packed["linear"].bias)
    packed["bare"].weight = nn.Parameter(torch.randn(41, 30), requires_grad=False)
    assert close(packed["bare"](x), x @ packed["bare"].weight.T)


def test_twins_share_the_second_copy_and_the_names_of_types_stay(both):
    packed, _ = both
    twin = twin_of(packed)
    for name, module in packed.items():
        assert twin[name].__dict__["interpd_packed_weight"] is module.__dict__["interpd_packed_weight"]
    assert [type(module).__name__ for module in packed.values()] == ["Linear", "Linear", "Conv1D"]


def test_what_does_not_fit_or_is_no_plain_float32_layer_stays_as_it_is():
    class Other(nn.Linear):
        pass

    model = nn.ModuleList([nn.Linear(8, 8), nn.Linear(4, 4), Other(4, 4), nn.Linear(4, 4).double()])
    model.requires_grad_(False).append(nn.Linear(4, 4))
    assert pack_weights(model, 4 * 8 * 8 - 1) == 4 * 4 * 4
    assert ["interpd_packed_weight" in module.__dict__ for module in model] == [False, True, False, False, False]
