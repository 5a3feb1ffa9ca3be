"""What a daemon has to live through: killed workers, crowds, hours of work."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import interpd_client as interpd
import numpy as np
import psutil
import pytest
from interpd_client.grpc_transport import GrpcTransport
from load import Load, ask, is_same

pytestmark = pytest.mark.slow

KILLING_S = 120.0
READY_S = 5.0
CROWD = 500
SOAK_S = float(os.environ.get("SOAK_SECONDS", "120"))
"""Of the soak; a release is soaked for 600 s."""
WARM_SHARE = 0.25
"""Of the soak, before the first look: pools and caches fill."""
GROWTH_BYTES = 48 << 20
GROWTH_PER_S = 0.05e6
"""What measurement noise of a process of hundreds of megabytes may look like."""


def kill_again_and_again(lab, seconds):
    """Kills the worker 5 s after each time that it is ready; how often."""
    transport, n_kills, end = lab.transport(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        if any(model.n_ready for model in transport.models(10.0)):
            time.sleep(READY_S)
            lab.worker().send_signal(signal.SIGKILL)
            n_kills += 1
        time.sleep(0.1)
    return n_kills


def test_a_worker_killed_again_and_again_under_load_loses_nothing_and_answers_nothing_wrong(own_lab):
    lab = own_lab("--worker-restart-backoff-s", "0.1", "--worker-max-restarts", "1000")
    with Load(lab.address) as load:
        n_kills = kill_again_and_again(lab, KILLING_S)
    assert load.wrong == []
    assert n_kills >= 3
    assert load.n_retried > 0
    assert load.n_right > 100
    lab.wait_idle(60.0)
    # a worker that is killed while it starts was not lost
    assert lab.statistics().n_restarts >= 3
    assert lab.daemon.log().count("a bug") == 0, lab.daemon.log()
    print(f"{n_kills} kills, {load.n_right} right answers, {load.n_retried} tries that were told to come again")


def test_five_hundred_clients_at_once_all_get_their_answers(own_lab):
    lab = own_lab()
    with closing(GrpcTransport(lab.address)) as transport:
        load = Load(lab.address, 0)
        before = footprint(lab)
    gate = threading.Barrier(CROWD)

    def one_client(number):
        with interpd.connect(lab.address, progress=False, n_retries=200) as client:
            layer = number % 5
            gate.wait()
            with client.model("facts").trace("Elena Marsh was born in") as t:
                t.save(value=t.layers[layer].resid_post)
            return is_same({"value": np.asarray(t.result["value"])}, {"value": load.expected[f"read {layer}"]["value"]})

    with ThreadPoolExecutor(CROWD) as pool:
        assert all(pool.map(one_client, range(CROWD)))
    lab.wait_idle(30.0)
    settled(lambda: footprint(lab)["n_files"] <= before["n_files"] + 20)
    settled(lambda: footprint(lab)["n_threads"] <= before["n_threads"] + 20)
    with closing(GrpcTransport(lab.address)) as transport:
        assert is_same(ask(transport, load.requests["read 0"]).values, load.expected["read 0"])


def footprint(lab):
    """Of the daemon and its worker: memory, threads, open files."""
    processes = [psutil.Process(lab.daemon.pid), lab.worker()]
    return {
        "bytes": [process.memory_full_info().uss for process in processes],
        "n_threads": sum(process.num_threads() for process in processes),
        "n_files": sum(process.num_fds() for process in processes),
    }


def settled(condition, timeout_s=30.0):
    """Waits until it is so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_hours_of_work_leave_memory_threads_and_files_as_they_were(own_lab):
    lab, seen = own_lab(), []
    with Load(lab.address, 3, pause_s=0.05) as load:
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < SOAK_S:
            if elapsed > WARM_SHARE * SOAK_S:
                seen.append((elapsed, footprint(lab)))
            time.sleep(SOAK_S / 100)
    assert load.wrong == []
    times = np.array([when for when, _ in seen])
    for place, who in enumerate(("daemon", "worker")):
        sizes = np.array([look["bytes"][place] for _, look in seen])
        per_s = np.polyfit(times, sizes, 1)[0]
        print(
            f"{who}: {sizes[0] / 1e6:.0f} to {sizes[-1] / 1e6:.0f} MB, {per_s / 1e3:.1f} kB/s; {load.n_right} answers"
        )
        assert per_s < GROWTH_PER_S or sizes[-1] - sizes[0] < GROWTH_BYTES
    for what in ("n_threads", "n_files"):
        early, late = (np.median([look[what] for _, look in part]) for part in (seen[:10], seen[-10:]))
        print(f"{what[2:]}: {early:.0f} to {late:.0f}")
        assert late <= early + 5, (what, early, late)


def test_a_plugin_that_leaks_costs_a_restart_and_no_more(own_lab, bad_plugin):
    most = str(1500 << 20)
    lab = own_lab("--plugin", "bad", "--worker-max-resident-bytes", most, "--worker-restart-backoff-s", "0.1")
    # a gigabyte is let pass, two are not
    for op, n_times in (("bad.leaks_files", 1), ("bad.leaks_threads", 1), ("bad.leaks_memory", 2)):
        n_restarts = lab.statistics().n_restarts
        for _ in range(n_times):
            lab.ask(op).end()
        settled(lambda before=n_restarts: lab.statistics().n_restarts > before)
        settled(lambda: any(model.n_ready for model in lab.transport().models(10.0)))
        assert len(lab.value()) == 1
