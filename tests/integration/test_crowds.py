"""Many at once, and those who hold on to what they have: nobody takes more than is bounded, and all is given back."""

import asyncio
import threading
import time

import grpc
import psutil
import pytest
from load import failure

from interpd.errors import Overloaded
from interpd.graph.ir import Graph, Node, Ref
from interpd.graph.run import Done
from interpd.wire.chunks import chunks_of
from interpd.wire.events import EventAssembler
from interpd.wire.graphs import request_to_proto
from interpd.wire.status import from_rpc_error
from interpd.wire.v1 import artifact_service_pb2 as artifacts_pb
from interpd.wire.v1 import artifact_service_pb2_grpc, graph_service_pb2_grpc, model_service_pb2, model_service_pb2_grpc

pytestmark = pytest.mark.ray

HELD = 64 << 20
LARGE = 16 << 20
N_CALLS = 1_000
N_CONNECTIONS = 200


def memory(lab):
    """Bytes of the daemon's own and its worker's own."""
    return sum(process.memory_full_info().uss for process in (psutil.Process(lab.daemon.pid), lab.worker()))


def wait_until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_readers_that_stop_hold_a_bounded_memory_and_whoever_comes_later_is_told(own_lab):
    lab = own_lab("--scheduler-held-bytes", str(HELD))
    large = Graph((Node("torch.zeros", params={"size": (LARGE // 4,)}),), {"value": Ref(0)})
    lab.value(graph=large)
    before, held, refused = memory(lab), [], []
    with grpc.insecure_channel(lab.address) as channel:
        stub = graph_service_pb2_grpc.GraphServiceStub(channel)
        for _ in range(12):
            call = stub.RunGraph(request_to_proto(lab.request(graph=large)))
            try:
                for _ in range(3):
                    next(call)
                held.append(call)
            except grpc.RpcError as error:
                refused.append(from_rpc_error(error))
        assert 1 <= len(held) <= HELD // LARGE + 1
        assert [type(error) for error in refused] == [Overloaded] * (12 - len(held))
        # each result may lie once in the daemon, in the worker and in what joins them
        assert memory(lab) - before < 3 * HELD
        assert len(lab.value()) == 1
        for call in held:
            call.cancel()
    lab.wait_idle()
    assert lab.value(graph=large).size == LARGE // 4


def test_uploads_that_are_never_finished_are_bounded_and_give_their_room_back(lab):
    header = artifacts_pb.UploadArtifactHeader(
        model="facts", name="never", kind="none", n_bytes=1 << 30, digest="0" * 64
    )
    before, end = memory(lab), threading.Event()

    def parts():
        yield artifacts_pb.UploadArtifactRequest(header=header)
        yield artifacts_pb.UploadArtifactRequest(chunk=next(chunks_of(bytes(4 << 20))))
        end.wait()

    with grpc.insecure_channel(lab.address) as channel:
        upload = artifact_service_pb2_grpc.ArtifactServiceStub(channel).UploadArtifact
        calls = [upload.future(parts()) for _ in range(6)]
        wait_until(lambda: sum(call.done() for call in calls) >= 2)
        errors = [from_rpc_error(call.exception()) for call in calls if call.done()]
        assert memory(lab) - before < 256 << 20
        end.set()
        for call in calls:
            call.cancel()
    assert len(errors) == 2
    assert all(isinstance(error, Overloaded) for error in errors), errors
    assert len(lab.value()) == 1


def test_a_thousand_calls_at_once_and_hundreds_of_connections_leave_nothing_open(lab):
    daemon = psutil.Process(lab.daemon.pid)
    lab.value()
    before = daemon.num_fds()

    async def calls():
        async with grpc.aio.insecure_channel(lab.address) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            question = model_service_pb2.ListModelsRequest()
            answers = await asyncio.gather(*(stub.ListModels(question) for _ in range(N_CALLS)))
            return [answer.models[0].name for answer in answers]

    assert asyncio.run(calls()) == ["facts"] * N_CALLS
    for _ in range(N_CONNECTIONS):
        with grpc.insecure_channel(lab.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            model_service_pb2_grpc.ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest())
    wait_until(lambda: daemon.num_fds() <= before + 5)
    assert len(lab.value()) == 1


def test_a_full_service_refuses_at_once_and_takes_the_next_as_soon_as_there_is_room(own_lab, bad_plugin):
    lab = own_lab("--plugin", "bad", "--scheduler-max-in-flight", "1", "--scheduler-max-queued", "20")
    # for ever, so that no refusal has waited for it
    running = lab.ask("bad.method_goes_on")
    assert running.running.wait(30)
    waiting = [lab.ask() for _ in range(20)]
    wait_until(lambda: lab.statistics().n_queued == 20)
    took_s = []
    with grpc.insecure_channel(lab.address) as channel:
        stub = graph_service_pb2_grpc.GraphServiceStub(channel)
        for _ in range(100):
            request = request_to_proto(lab.request())
            started = time.monotonic()
            error = failure(stub.RunGraph(request))
            took_s.append(time.monotonic() - started)
            assert type(error) is Overloaded
            assert error.retry_after_s > 0
    print(f"refused after {1e3 * sorted(took_s)[50]:.1f} ms, at worst {1e3 * max(took_s):.1f} ms")
    assert sorted(took_s)[50] < 1.0
    lab.transport().cancel(running.run_id, 10.0)
    assert all(isinstance(run.end(), Done) for run in waiting)
    assert len(lab.value()) == 1


def test_a_thousand_runs_at_once_all_end_as_they_should(own_lab):
    lab = own_lab("--scheduler-max-queued", str(N_CALLS), "--scheduler-max-queued-per-owner", str(N_CALLS))
    lab.value()
    before = psutil.Process(lab.daemon.pid).num_fds(), psutil.Process(lab.daemon.pid).num_threads()
    requests = [request_to_proto(lab.request(graph=lab.graph(layer=i % 5))) for i in range(N_CALLS)]

    async def ends(stub, request):
        assembler = EventAssembler()
        async for answer in stub.RunGraph(request):
            for message in (answer.event, *answer.more):
                last = assembler.feed(message)
        assembler.finish()
        return last

    async def everybody():
        async with grpc.aio.insecure_channel(lab.address) as channel:
            stub = graph_service_pb2_grpc.GraphServiceStub(channel)
            return await asyncio.gather(*(ends(stub, request) for request in requests))

    started = time.monotonic()
    assert all(isinstance(end, Done) for end in asyncio.run(everybody()))
    print(f"{N_CALLS} runs in {time.monotonic() - started:.1f} s")
    lab.wait_idle()
    process = psutil.Process(lab.daemon.pid)
    wait_until(lambda: process.num_fds() <= before[0] + 5 and process.num_threads() <= before[1] + 5)
    assert lab.transport().statistics(10.0).n_kept == 0
