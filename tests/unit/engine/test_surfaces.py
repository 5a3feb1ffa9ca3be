"""What everybody calls by its name stays what it is."""

import os

import numpy as np
import pytest
import torch

from interpd.engine.guard import TorchState
from interpd.engine.surfaces import Surfaces
from interpd.engine.weights import Weights
from interpd.errors import OpFailed

NUMBERS = np.zeros(3)
"""Which compares with nothing as a whole."""


@pytest.mark.parametrize("replacement", [len, None, NUMBERS], ids=["function", "nothing", "array"])
def test_a_name_that_means_something_else_is_put_back_and_named(replacement):
    surfaces, softmax, split, sigmoid = Surfaces(), torch.softmax, torch.Tensor.split, torch.Tensor.sigmoid
    # of the methods of a tensor, some are inherited
    torch.softmax = torch.Tensor.split = torch.Tensor.sigmoid = replacement
    assert surfaces.put_back() == ["torch.softmax", "torch.Tensor.sigmoid", "torch.Tensor.split"]
    assert torch.softmax is softmax
    assert torch.Tensor.split is split
    assert torch.Tensor.sigmoid is sigmoid
    assert surfaces.put_back() == []


def test_a_name_that_is_taken_away_comes_back():
    surfaces, softmax = Surfaces(), torch.nn.functional.softmax
    del torch.nn.functional.softmax
    assert surfaces.put_back() == ["torch.nn.functional.softmax"]
    assert torch.nn.functional.softmax is softmax


def test_what_torch_does_to_itself_is_nobodys_fault(monkeypatch):
    surfaces = Surfaces()
    monkeypatch.setattr(torch, "manual_seed", torch._disable_dynamo(lambda seed: seed))
    assert surfaces.put_back() == []


def test_variables_are_put_back_and_new_ones_stay(monkeypatch):
    monkeypatch.setenv("INTERPD_SHARED", "here")
    monkeypatch.setenv("HOME", "/home/of/somebody")
    monkeypatch.delenv("OF_A_LIBRARY", raising=False)
    surfaces = Surfaces()
    os.environ["HOME"] = "/elsewhere"
    del os.environ["INTERPD_SHARED"]
    monkeypatch.setenv("OF_A_LIBRARY", "1")
    assert sorted(surfaces.put_back()) == ["os.environ['HOME']", "os.environ['INTERPD_SHARED']"]
    assert (os.environ["HOME"], os.environ["INTERPD_SHARED"]) == ("/home/of/somebody", "here")
    assert os.environ["OF_A_LIBRARY"] == "1"


def test_what_was_changed_before_a_plugin_ran_is_not_its_doing(monkeypatch):
    weights = Weights(torch.nn.Linear(2, 2))
    monkeypatch.setattr(torch, "softmax", len)
    with weights.watched("run", "op 'x'"):
        pass
    assert torch.softmax is len
    with pytest.raises(OpFailed, match=r"op 'x' changed what others use, which was put back: 'torch.softmax'"):  # noqa: SIM117
        with weights.watched("run", "op 'x'"):
            torch.softmax = None
    assert torch.softmax is len
    assert weights.blame is None


def test_settings_of_torch_are_put_back():
    before = TorchState.now()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.set_num_threads(before.settings[3] + 1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("medium")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(3)
    before.restore()
    after = TorchState.now()
    assert after.settings == before.settings
    assert torch.equal(after.random, before.random)
    assert torch.zeros(1).device.type == "cpu"
