import os
import re
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from interpd_client.grpc_transport import GrpcTransport

from interpd.errors import Draining, Unavailable
from interpd.graph.run import Done
from interpd.worker.listeners import DOCUMENTED, listeners

pytestmark = pytest.mark.ray

README = Path(__file__).resolve().parents[2] / "interpd" / "worker" / "README.md"


class Follower(threading.Thread):
    """Runs a request to its end in a thread of its own."""

    def __init__(self, transport, request):
        super().__init__()
        self.transport, self.request, self.end = transport, request, None
        self.started = threading.Event()
        self.start()

    def run(self):
        try:
            for event in self.transport.run(self.request):
                self.end = event
                if type(event).__name__ == "Started":
                    self.started.set()
        except Exception as error:
            self.end = error


def is_alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(processes, port, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [p for p in processes if is_alive(p)] == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def state_dirs(pid):
    return list(Path(tempfile.gettempdir()).glob(f"interpd-{pid}-*"))


@pytest.fixture
def transport_of():
    made = []

    def connect(daemon):
        made.append(GrpcTransport(daemon.address))
        return made[-1]

    yield connect
    for transport in made:
        transport.close()


def test_a_daemon_answers_at_the_address_that_it_prints(daemon, transport_of, request_of):
    events = list(transport_of(daemon).run(request_of()))
    assert isinstance(events[-1], Done)


def test_its_listeners_are_exactly_the_documented_ones_and_on_loopback(daemon):
    found = listeners(daemon.pid, daemon.port)
    assert {listener.role for listener in found} == DOCUMENTED.keys()
    assert all(listener.is_loopback for listener in found)
    assert sum(listener.role == "service" for listener in found) == 1


def test_the_readme_lists_every_role_that_listens():
    section = README.read_text(encoding="utf-8").partition("## What listens")[2]
    assert re.findall(r"^\| ([a-z ]+) \|", section, re.MULTILINE) == ["role", *DOCUMENTED]


def test_nothing_but_its_own_line_reaches_standard_output(daemon, transport_of, request_of):
    with pytest.raises(Unavailable):
        list(transport_of(daemon).run(request_of("fake.crash")))
    os.set_blocking(daemon._process.stdout.fileno(), False)
    assert daemon._process.stdout.read() is None
    assert isinstance(list(transport_of(daemon).run(request_of()))[-1], Done)


def test_sigterm_lets_runs_finish_refuses_new_ones_and_leaves_nothing(fake_daemon, transport_of, request_of):
    daemon = fake_daemon()
    transport = transport_of(daemon)
    running = Follower(transport, request_of("fake.sleep", params={"seconds": 2.0}))
    assert running.started.wait(10)
    processes, port, pid = daemon.descendants(), daemon.port, daemon.pid
    daemon.send(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(Draining) as refused:
        list(transport.run(request_of()))
    assert refused.value.retry_after_s > 0
    assert daemon.wait_end() == 0
    running.join()
    assert isinstance(running.end, Done)
    wait_gone(processes, port)
    assert state_dirs(pid) == []


def test_sigterm_loses_nothing_that_was_accepted(fake_daemon, transport_of, request_of):
    daemon = fake_daemon("models=fake:x=fake", "scheduler.max_in_flight=2")
    running = [Follower(transport_of(daemon), request_of("fake.sleep", params={"seconds": 1.0})) for _ in range(6)]
    large = Follower(transport_of(daemon), request_of("fake.numbers", params={"n": 10_000_000}))
    statistics = transport_of(daemon).statistics
    deadline = time.monotonic() + 10.0
    while statistics(10.0).n_accepted < 7:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with grpc.insecure_channel(daemon.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        daemon.send(signal.SIGTERM)
        while health.Check(health_pb2.HealthCheckRequest()).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert daemon.wait_end() == 0
    for follower in (*running, large):
        follower.join()
        assert isinstance(follower.end, Done), follower.end


def test_a_second_signal_ends_the_grace(fake_daemon, transport_of, request_of):
    daemon = fake_daemon()
    running = Follower(transport_of(daemon), request_of("fake.sleep"))
    assert running.started.wait(10)
    daemon.send(signal.SIGINT)
    time.sleep(0.5)
    daemon.send(signal.SIGINT)
    assert daemon.wait_end(15) == 0
    running.join()
    assert isinstance(running.end, Draining)


def test_a_daemon_killed_with_sigkill_leaves_no_process_no_port_and_no_file(fake_daemon):
    daemon = fake_daemon()
    processes, port, pid = daemon.descendants(), daemon.port, daemon.pid
    assert state_dirs(pid) != []
    daemon.send(signal.SIGKILL)
    daemon.wait_end()
    wait_gone(processes, port)
    assert state_dirs(pid) == []


def test_a_model_that_fails_does_not_stop_the_others(fake_daemon, transport_of):
    daemon = fake_daemon("models=fake:x=fake,fake:broken=bad")
    states = {status.name: status.state for status in transport_of(daemon).models(10.0)}
    assert states == {"fake": "ready", "bad": "failed"}
    assert "source 'fake:broken' cannot be loaded" in daemon.log()


def test_a_daemon_without_any_model_that_loads_gives_up_and_says_why(fake_daemon):
    with pytest.raises(RuntimeError, match="no configured model could be loaded"):
        fake_daemon("models=fake:broken=bad")


def test_a_taken_port_is_said(fake_daemon, daemon):
    with pytest.raises(RuntimeError, match=f"cannot listen on '127.0.0.1:{daemon.port}'"):
        fake_daemon(f"port={daemon.port}")


def test_a_public_address_is_refused_with_the_reason(fake_daemon):
    with pytest.raises(RuntimeError, match=r"cannot listen on '0\.0\.0\.0': only loopback addresses"):
        fake_daemon("host=0.0.0.0")
