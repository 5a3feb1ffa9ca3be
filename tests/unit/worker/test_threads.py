"""How many threads a replica's tensor library gets."""

import pytest

from interpd.specs import ModelSpec
from interpd.worker import threads


@pytest.fixture(autouse=True)
def six_cores(monkeypatch):
    monkeypatch.setattr(threads, "n_threads_here", lambda: 6)


def test_a_model_that_is_alone_gets_all_cores():
    assert threads.with_threads(ModelSpec("m"), 1).num_cpus == 6.0


def test_replicas_share_the_cores_and_each_gets_one_at_least():
    assert threads.with_threads(ModelSpec("m"), 4).num_cpus == 1.0
    assert threads.with_threads(ModelSpec("m"), 3).num_cpus == 2.0
    assert threads.with_threads(ModelSpec("m"), 7).num_cpus == 1.0


def test_what_was_asked_for_is_given():
    assert threads.with_threads(ModelSpec("m", num_cpus=2.5), 1).num_cpus == 2.5


def test_a_replica_on_gpus_needs_one_thread():
    assert threads.with_threads(ModelSpec("m", num_gpus=0.5), 1).num_cpus == 1.0


def test_this_machine_has_a_core():
    assert threads.n_threads_here() >= 1
