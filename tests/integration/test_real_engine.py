"""The whole house once: daemon, Ray, nnsight and the bundled model, with a client that outlives its worker."""

import os
import signal
import threading
from pathlib import Path

import interpd_client
import pytest

from interpd.testing.daemon_process import DaemonProcess

pytestmark = pytest.mark.ray

FACTS = Path(__file__).resolve().parents[2] / "interpd" / "zoo" / "facts"
PROMPT = "Elena Marsh was born in"


@pytest.fixture(scope="module")
def facts_daemon():
    with DaemonProcess("interpd", "serve", "--port", "0", "--model", f"{FACTS}=facts") as daemon:
        yield daemon


@pytest.fixture
def model(facts_daemon):
    with interpd_client.connect(facts_daemon.address) as client:
        yield client.model("facts")


def top(model):
    with model.trace(PROMPT) as t:
        t.save(top=t.logits[:, -1].softmax(-1).topk(3))
    return t.result["top"].indices.tolist()


def test_a_graph_runs_on_the_bundled_model(model):
    assert len(top(model)[0]) == 3


def test_concurrent_clients_get_what_one_gets_alone(facts_daemon, model):
    alone, answers = top(model), []

    def ask():
        with interpd_client.connect(facts_daemon.address) as client:
            answers.append(top(client.model("facts")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [alone] * 8


def test_a_client_whose_worker_is_killed_gets_its_answer_from_the_next_one(facts_daemon, model):
    before = top(model)
    (worker,) = [p for p in facts_daemon.descendants() if p.cmdline()[:1] and "ReplicaActor" in p.cmdline()[0]]
    os.kill(worker.pid, signal.SIGKILL)
    assert top(model) == before
