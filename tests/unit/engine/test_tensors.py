"""Tensors as data."""

import math

import pytest
import torch

from interpd.engine.tensors import COPIED_BYTES, all_finite, from_data, to_data

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_found_wherever_it_stands(dtype, value):
    for place in (0, 500, 999):
        tensor = torch.linspace(-1, 1, 1000).to(dtype)
        tensor[place] = value
        assert not all_finite(tensor)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_largest_numbers_are_finite(dtype):
    limits = torch.finfo(dtype)
    assert all_finite(torch.tensor([limits.min, limits.max, limits.tiny], dtype=dtype))
    assert all_finite(torch.zeros((), dtype=dtype))
    assert all_finite(torch.zeros((0, 3), dtype=dtype))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64, torch.bool], ids=str)
@pytest.mark.parametrize("n", [1, COPIED_BYTES], ids=["small", "large"])
def test_data_comes_back_as_it_was(dtype, n):
    tensor = torch.randint(0, 2, (2, n)).to(dtype)
    data = to_data(tensor.T)
    assert data.shape == (n, 2)
    assert torch.equal(from_data(data), tensor.T)


def test_a_scalar_and_an_empty_tensor_are_data_too():
    assert to_data(torch.tensor(3.0)).to_numpy().shape == ()
    assert to_data(torch.zeros(0, 4)).to_numpy().shape == (0, 4)


def test_large_data_cannot_be_written_to():
    data = to_data(torch.zeros(COPIED_BYTES)).data
    with pytest.raises(TypeError):
        data[0] = 1
