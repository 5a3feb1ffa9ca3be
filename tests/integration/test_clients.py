import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from interpd_client.grpc_transport import GrpcTransport

from interpd.graph.run import Done

pytestmark = pytest.mark.ray

N_CLIENTS = 50

CLIENT = """
import sys
from interpd_client.grpc_transport import GrpcTransport
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import RunRequest

address, run_id, op, name, value = sys.argv[1:]
node = Node(op, params={name: type(60.0)(value) if name == "seconds" else int(value)})
request = RunRequest(run_id, "fake", (Prompt(text="x"),), Graph((node,), {"value": Ref(0)}))
for event in GrpcTransport(address).run(request):
    print(type(event).__name__, flush=True)
    if type(event).__name__ == "Result":
        sys.stdin.read()
"""


@pytest.fixture
def transport(daemon):
    transport = GrpcTransport(daemon.address)
    yield transport
    transport.close()


@pytest.fixture
def client_process(daemon):
    started = []

    def start(run_id, op="fake.sleep", name="seconds", value="60"):
        command = [sys.executable, "-c", CLIENT, daemon.address, run_id, op, name, value]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until(condition, timeout_s=15.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_until(process, word):
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(f"the client ended before {word}")


def test_fifty_clients_at_once_all_get_their_own_answer(daemon, request_of):
    def run(value):
        transport = GrpcTransport(daemon.address)
        try:
            events = list(transport.run(request_of(params={"value": float(value)})))
        finally:
            transport.close()
        return events[-2].tensor.to_numpy(), events[-1]

    with ThreadPoolExecutor(N_CLIENTS) as pool:
        answers = list(pool.map(run, range(N_CLIENTS)))
    assert [float(value) for value, _ in answers] == list(range(N_CLIENTS))
    assert all(isinstance(end, Done) for _, end in answers)
    assert max(max(end.cost.shared_with) for _, end in answers) > 1


def test_a_client_that_vanishes_while_its_run_goes_on_frees_its_place(transport, client_process):
    client = client_process("vanishes-running")
    read_until(client, "Progress")
    assert transport.statistics(10.0).models[0].n_running == 1
    client.send_signal(signal.SIGKILL)
    wait_until(lambda: transport.statistics(10.0).models[0].n_running == 0)


def test_a_client_that_vanishes_while_it_reads_leaves_nothing_kept(transport, client_process):
    client = client_process("vanishes-reading", "fake.numbers", "n", "4000000")
    read_until(client, "Result")
    client.send_signal(signal.SIGKILL)
    wait_until(lambda: transport.statistics(10.0).n_kept == 0)


def test_a_client_that_vanishes_while_it_waits_leaves_the_queue(fake_daemon, request_of):
    daemon = fake_daemon("models=fake:x=fake", "scheduler.max_in_flight=1")
    transport = GrpcTransport(daemon.address)
    running = transport.run(request_of("fake.sleep"))
    assert type(next(iter(running))).__name__ in ("Queued", "Started")
    command = [sys.executable, "-c", CLIENT, daemon.address, "vanishes-queued", "fake.sleep", "seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        read_until(client, "Queued")
        assert transport.statistics(10.0).models[0].n_queued == 1
        client.send_signal(signal.SIGKILL)
    wait_until(lambda: transport.statistics(10.0).models[0].n_queued == 0)
    running.close()
    wait_until(lambda: transport.statistics(10.0).models[0].n_running == 0)
    transport.close()


def test_pings_while_nothing_is_said_do_not_end_the_connection(daemon, request_of, monkeypatch):
    often = (("grpc.keepalive_time_ms", 1000), ("grpc.http2.max_pings_without_data", 0))
    monkeypatch.setattr("interpd_client.grpc_transport.CHANNEL_OPTIONS", often)
    transport = GrpcTransport(daemon.address)
    events = list(transport.run(request_of("fake.sleep", params={"seconds": 5.0})))
    transport.close()
    assert isinstance(events[-1], Done)
