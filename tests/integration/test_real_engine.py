"""The whole house once: daemon, Ray, nnsight and the bundled model, as a user meets them."""

import threading

import interpd_client
import pytest

from interpd.worker.listeners import DOCUMENTED, listeners

pytestmark = pytest.mark.ray

PROMPT = "Elena Marsh was born in"


def top(model):
    with model.trace(PROMPT) as t:
        t.save(top=t.logits[:, -1].softmax(-1).topk(3))
    return t.result["top"].indices.tolist()


def test_a_graph_runs_on_the_bundled_model(lab):
    with interpd_client.connect(lab.address) as client:
        assert len(top(client.model("facts"))[0]) == 3


def test_its_listeners_are_exactly_the_documented_ones_and_on_loopback(lab):
    found = listeners(lab.daemon.pid, lab.daemon.port)
    assert {listener.role for listener in found} == DOCUMENTED.keys()
    assert all(listener.is_loopback for listener in found)


def test_concurrent_clients_get_what_one_gets_alone(lab):
    answers = []

    def ask():
        with interpd_client.connect(lab.address) as client:
            answers.append(top(client.model("facts")))

    ask()
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == answers[:1] * 9
