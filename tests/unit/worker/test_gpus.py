"""How many GPUs a model gets."""

import pytest

from interpd.config import ModelSpec
from interpd.errors import InvalidRequest, LimitExceeded
from interpd.worker.gpus import with_gpus


def test_a_model_that_says_nothing_gets_a_free_gpu():
    assert with_gpus(ModelSpec("m"), 2.0, 4.0).num_gpus == 1.0


def test_a_node_without_gpus_gives_none():
    assert with_gpus(ModelSpec("m"), 0.0, 0.0).num_gpus == 0.0


def test_a_model_for_the_cpu_takes_no_gpu():
    assert with_gpus(ModelSpec("m", device="cpu"), 2.0, 4.0).num_gpus == 0.0


def test_a_fraction_is_left_alone():
    assert with_gpus(ModelSpec("m", num_gpus=0.25, replicas=4), 1.0, 1.0).num_gpus == 0.25


def test_serving_on_the_cpu_beside_busy_gpus_is_said(caplog):
    assert with_gpus(ModelSpec("m"), 0.5, 4.0).num_gpus == 0.0
    assert "no GPU is free: serving on the CPU" in caplog.text


def test_more_than_is_free_is_refused():
    with pytest.raises(LimitExceeded, match="asks for 3 GPUs, 2 are free"):
        with_gpus(ModelSpec("m", num_gpus=1.0, replicas=3), 2.0, 4.0)


def test_cuda_without_gpus_is_refused():
    with pytest.raises(InvalidRequest, match="set num_gpus"):
        with_gpus(ModelSpec("m", device="cuda:0"), 2.0, 4.0)
