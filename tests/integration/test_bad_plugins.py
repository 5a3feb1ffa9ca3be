"""A real daemon with the real engine, and a plugin that does everything wrong."""

import os
import signal
import threading
import time

import interpd_client
import numpy as np
import psutil
import pytest

from interpd.errors import OpFailed, WorkerLost
from interpd.graph.ir import Generation, Graph, Node, Ref, Steps
from interpd.graph.run import Done

pytestmark = pytest.mark.ray

SOON_S = 5.0
"""Within which a lost worker is told to those who wait."""


def test_the_plugin_is_listed_and_one_that_ends_its_importer_is_broken(lab):
    plugins = {info.name: info for info in lab.transport().manifest("facts", 10.0).plugins}
    assert plugins["bad"].status == "loaded"
    assert (plugins["broken"].status, plugins["broken"].distribution) == ("broken", "interpd-bad")
    assert "a plugin is not used plugin=broken model=facts" in lab.daemon.log()
    problems = {
        "broken": "SystemExit: this plugin cannot be imported",
        "missing": "module 'interpd_bad' has no attribute 'nothing'",
        "gone": "No module named 'interpd_bad_gone'",
        "newer": "hook 'interpd_register_wishes': there is no such hook",
        "absent": "plugin 'absent' is allowed but not installed",
    }
    for name, text in problems.items():
        assert plugins[name].status == "broken"
        assert text in plugins[name].problem
    assert plugins["unused"].status == "not_allowed"


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("bad.raises", "op 'bad.raises@1' of plugin 'bad' raised ZeroDivisionError: nobody divides by me"),
        ("bad.exits", "op 'bad.exits@1' of plugin 'bad' raised SystemExit: 3"),
        ("bad.lies_about_shape", "broke its declaration: output 'out' wants float[batch=1 pos=6 d_model=128], got"),
        ("bad.lies_about_kind", "broke its declaration: output 'out' is of type str"),
        ("bad.lies_about_dtype", "output 'out' wants float[batch=1 pos=6 d_model=128], got int64["),
        ("bad.gives_nothing", "output 'out' is of type NoneType"),
        ("bad.mutates", "changed port 'h' in place"),
        ("bad.signals", "raised ValueError: signal only works in main thread"),
        (
            "bad.patches",
            "changed what others use, which was put back: 'torch.softmax', 'torch.nn.functional.layer_norm'",
        ),
        ("bad.method_raises", "method 'bad.method_raises@1' of plugin 'bad' raised ZeroDivisionError"),
        ("bad.method_exits", "method 'bad.method_exits@1' of plugin 'bad' raised SystemExit: 3"),
        ("bad.method_lies", "broke its declaration"),
    ],
)
def test_what_goes_wrong_is_blamed_on_the_operation_and_its_neighbours_have_their_answers(lab, op, message):
    alone = lab.value()
    neighbours = [lab.ask() for _ in range(3)]
    error = lab.ask(op).end()
    assert type(error) is OpFailed
    assert message in error.message
    for neighbour in neighbours:
        assert isinstance(neighbour.end(), Done)
        assert np.allclose(neighbour.value(), alone, atol=1e-5)


def test_the_traceback_of_a_plugin_is_in_the_daemons_log(lab):
    error = lab.ask("bad.raises").end()
    assert error.facts["place"].startswith("interpd_bad/") or error.facts["place"].startswith("interpd_bad.py:")
    deadline = time.monotonic() + SOON_S
    while "a plugin failed" not in lab.daemon.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "ZeroDivisionError: nobody divides by me" in lab.daemon.log()


def test_nan_stays_with_the_one_who_made_it(lab):
    alone = lab.value()
    runs = [lab.ask("bad.nan" if i == 3 else None) for i in range(8)]
    ends = [run.end() for run in runs]
    assert [end.non_finite for end in ends] == [("value",) if i == 3 else () for i in range(8)]
    values = [run.value() for run in runs]
    assert np.isnan(values[3]).all()
    assert all(np.allclose(value, alone, atol=1e-5) for i, value in enumerate(values) if i != 3)


def test_what_an_operation_changes_in_torch_is_put_back(lab):
    before = lab.value()
    assert isinstance(lab.ask("bad.litters").end(), Done)
    after = lab.value()
    assert lab.ask("bad.patches").end().reason == "OP_FAILED"
    with interpd_client.connect(lab.address) as client, client.model("facts").trace("Elena") as t:
        t.save(mean=t.logits.softmax(-1).sum(-1).mean())
    assert abs(float(t.result["mean"]) - 1) < 1e-5
    assert before.dtype == after.dtype
    assert np.array_equal(before, after)


def decoding(lab):
    """A generation that takes half a minute."""
    site = {"site": "layers.2.resid_post", "positions": (-1,)}
    nodes = (Node("site.read", params=site, steps=Steps()), Node("bad.dawdles", (Ref(0),)))
    long = Generation(max_new_tokens=100, ignore_eos=True)
    return lab.ask(graph=Graph(nodes, {"value": Ref(1)}), generation=long, stream_tokens=True)


@pytest.mark.parametrize("start", [lambda lab: lab.ask("bad.method_goes_on"), decoding], ids=["method", "decoding"])
def test_a_worker_killed_in_mid_pass_is_told_soon_and_whoever_tries_again_has_the_answer(lab, start):
    before = lab.value()
    run = start(lab)
    assert run.running.wait(10)
    os.kill(lab.worker().pid, signal.SIGKILL)
    killed = time.monotonic()
    error = run.end()
    took_s = time.monotonic() - killed
    print(f"told after {took_s:.2f} s")
    assert took_s < SOON_S
    assert type(error) is WorkerLost
    assert error.retry_after_s > 0
    with interpd_client.connect(lab.address) as client:
        assert np.array_equal(client.run(lab.request())["value"], before)


@pytest.mark.parametrize("op", ["bad.loops", "bad.method_hangs"])
def test_what_hangs_is_stopped_and_named_and_its_neighbour_may_try_again(lab, op):
    culprit = lab.ask(op)
    time.sleep(0.5)
    neighbour = lab.ask()
    error = culprit.end()
    assert type(error) is OpFailed
    kind = "method" if "method" in op else "op"
    assert error.message.startswith(f"'{kind} {op}@1' took longer than 2 s (worker.op_timeout_s)")
    assert type(neighbour.end()) is WorkerLost
    assert len(lab.value()) == 1


@pytest.mark.parametrize("op", ["bad.spins", "bad.kills"])
def test_what_nobody_can_look_into_is_a_lost_worker_all_the_same(lab, op):
    error = lab.ask(op).end()
    assert type(error) in (WorkerLost, OpFailed)
    assert len(lab.value()) == 1


def test_a_process_that_a_plugin_forks_off_serves_nobody(lab):
    n_restarts, before = lab.statistics().n_restarts, lab.value()
    for _ in range(3):
        assert isinstance(lab.ask("bad.forks").end(), Done)
        assert np.array_equal(lab.value(), before)
    assert not [child for child in lab.worker().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert lab.statistics().n_restarts == n_restarts


def test_a_request_that_ends_every_worker_ends_for_its_client_and_others_get_through(lab):
    n_restarts, started, answers = lab.statistics().n_restarts, time.monotonic(), []

    def neighbour():
        with interpd_client.connect(lab.address) as client:
            answers.extend(client.run(lab.request())["value"] for _ in range(20))

    beside = threading.Thread(target=neighbour)
    with interpd_client.connect(lab.address) as client:
        beside.start()
        with pytest.raises(OpFailed, match="died 3 times while it held this request"):
            client.run(lab.request("bad.crashes"))
        assert time.monotonic() - started < 60.0
        with pytest.raises(OpFailed, match="has ended its worker 3 times"):
            client.run(lab.request("bad.crashes"))
        beside.join(60)
    assert len(answers) == 20
    assert lab.statistics().n_restarts == n_restarts + 3
