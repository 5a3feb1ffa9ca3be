import asyncio
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from interpd import errors
from interpd.graph import run
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref
from interpd.graph.run import RunRequest
from interpd.graph.types import TensorData
from interpd.service.interceptors import service_handler
from interpd.service.options import ServiceOptions
from interpd.service.server import SERVICES, make_server
from interpd.service.servicer_graph import GraphServicer
from interpd.wire.chunks import CHUNK_BYTES
from interpd.wire.events import EventAssembler
from interpd.wire.graphs import request_to_proto, spec_to_proto
from interpd.wire.status import from_rpc_error
from interpd.wire.v1 import graph_service_pb2 as pb
from interpd.wire.v1 import graph_service_pb2_grpc

READ = Node("site.read", params={"site": "layers.0.resid_post"})
GRAPH = Graph((READ,), {"h": Ref(0)})
BIG = TensorData("uint8", (5 * CHUNK_BYTES + 3,), bytes(range(256)) * (5 << 12) + b"end")


def done(run_id):
    provenance = run.Provenance("d", "facts", "abc", (), "interpd", "float32", "cpu")
    return run.Done(run_id, provenance, run.Cost(1, 1, 1, 0))


def request(run_id="run-1", keep_s=0.0, graph=GRAPH, model="facts"):
    return request_to_proto(RunRequest(run_id, model, (Prompt(text="a"),), graph, keep_s=keep_s))


@pytest.fixture
def stub(channel):
    return graph_service_pb2_grpc.GraphServiceStub(channel)


def plays(front, *events):
    async def script(request):
        for event in events:
            yield event

    front.script = script


async def received(call, assembler=None):
    assembler = assembler or EventAssembler()
    events = [assembler.feed(part) async for response in call for part in (response.event, *response.more)]
    return [event for event in events if event is not None]


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await received(call)
    return from_rpc_error(caught.value)


async def test_a_run_reaches_the_front_as_it_was_asked(front, stub):
    asked = RunRequest("r", "facts", (Prompt(text="a"),), GRAPH, Generation(3), stream_tokens=True, keep_s=9)
    await received(stub.RunGraph(request_to_proto(asked)))
    assert front.submitted == [asked]


async def test_every_event_of_a_run_arrives_and_the_run_is_released(front, stub):
    events = [run.Queued("run-1", 2, "busy"), run.Progress("run-1", 1, 2), run.Result("run-1", "h", BIG), done("run-1")]
    plays(front, *events)
    assembler = EventAssembler()
    assert await received(stub.RunGraph(request()), assembler) == events
    assembler.finish()
    assert front.released == ["run-1"]


async def test_a_client_that_chooses_no_id_learns_it_from_the_first_message(front, stub):
    assembler = EventAssembler()
    proto = request()
    proto.request_id = ""
    await received(stub.RunGraph(proto), assembler)
    assert assembler.run_id == front.submitted[0].run_id


async def test_an_unknown_model_is_not_found_with_the_nearest_name(stub):
    error = await failure(stub.RunGraph(request(model="fact")))
    assert type(error) is errors.ModelNotFound
    assert str(error) == "no model 'fact'; nearest is 'facts'"


async def test_a_failed_run_ends_with_the_status_of_its_error(front, stub):
    plays(front, run.Progress("run-1", 1, 2), run.Failed("run-1", errors.OpFailed("op 'sae.encode' raised", node=3)))
    error = await failure(stub.RunGraph(request()))
    assert (type(error), error.facts) == (errors.OpFailed, {"node": "3"})
    assert front.released == ["run-1"]


async def test_a_cancelled_run_ends_with_cancelled_and_its_stage(front, stub):
    plays(front, run.Cancelled("run-1", "queued"))
    error = await failure(stub.RunGraph(request()))
    assert (type(error), error.facts) == (errors.Cancelled, {"stage": "queued"})


async def test_malformed_graphs_list_their_violations_in_the_status(front, stub):
    proto = request()
    proto.spec.graph.nodes[0].inputs.add()
    error = await failure(stub.RunGraph(proto))
    assert type(error) is errors.InvalidGraph
    assert [v.path for v in error.violations] == ["graph.nodes[0].inputs[0]"]
    assert front.submitted == []


async def test_a_client_that_goes_away_releases_its_run(front, stub):
    async def script(request):
        yield run.Queued("run-1", 0, "busy")
        await asyncio.sleep(60)

    front.script = script
    call = stub.RunGraph(request())
    await call.read()
    await call.read()
    call.cancel()
    await wait_until(lambda: front.released == ["run-1"])


async def test_a_passed_deadline_releases_the_run(front, stub):
    async def script(request):
        await asyncio.sleep(60)
        yield run.Queued("run-1", 0, "busy")

    front.script = script
    assert type(await failure(stub.RunGraph(request(), timeout=0.2))) is errors.DeadlineExceeded
    await wait_until(lambda: front.released == ["run-1"])


def read_two_and_vanish(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = graph_service_pb2_grpc.GraphServiceStub(channel).RunGraph(request())
        return [next(call), next(call)]


async def test_a_vanished_connection_releases_its_run(front):
    async def script(request):
        yield run.Queued("run-1", 0, "busy")
        await asyncio.sleep(60)

    front.script = script
    server = make_server(front)
    await asyncio.to_thread(read_two_and_vanish, await server.start())
    await wait_until(lambda: front.released == ["run-1"])
    await server.stop(0)


def kinds(response):
    return [part.WhichOneof("event") for part in (response.event, *response.more)]


async def test_small_events_that_have_happened_travel_together(front, stub):
    small = TensorData.from_numpy(np.zeros(4, np.float32))
    plays(front, run.Progress("run-1", 1, 2), run.Result("run-1", "h", small), done("run-1"))
    front.n_happened = 3
    sent = [kinds(response) async for response in stub.RunGraph(request())]
    assert sent == [["accepted"], ["progress", "tensor_header", "tensor_chunk", "done"]]


async def test_what_has_happened_does_not_wait_for_what_has_not(front, stub):
    plays(front, run.Progress("run-1", 1, 2), run.Progress("run-1", 2, 2), done("run-1"))
    front.n_happened = 2
    sent = [kinds(response) async for response in stub.RunGraph(request())]
    assert sent == [["accepted"], ["progress", "progress"], ["done"]]


async def test_pieces_of_a_large_result_travel_alone(front, stub):
    plays(front, run.Progress("run-1", 1, 2), run.Result("run-1", "h", BIG), done("run-1"))
    front.n_happened = 3
    sent = [kinds(response) async for response in stub.RunGraph(request())]
    assert sent[1] == ["progress", "tensor_header"]
    assert all(kinds == ["tensor_chunk"] for kinds in sent[2:-1])
    assert sent[-1] == ["tensor_chunk", "done"] or sent[-1] == ["done"]


async def test_what_happened_before_a_failure_arrives_first(front, stub):
    plays(front, run.Progress("run-1", 1, 2), run.Failed("run-1", errors.OpFailed("it broke")))
    front.n_happened = 2
    call = stub.RunGraph(request())
    assert [kinds(await call.read()) for _ in range(2)] == [["accepted"], ["progress"]]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert str(from_rpc_error(caught.value)) == "it broke"


class Slowly:
    """An ``Arrival`` whose bytes come when a test says so."""

    def __init__(self):
        self.asked, self.answers = asyncio.Queue(), asyncio.Queue()

    async def wait(self, n_bytes):
        await self.asked.put(n_bytes)
        return await self.answers.get()


async def test_chunks_are_sent_as_their_bytes_arrive(front, stub):
    slowly = Slowly()
    plays(front, run.Result("run-1", "h", BIG, arriving=slowly), done("run-1"))
    reading = asyncio.ensure_future(received(stub.RunGraph(request())))
    for n_bytes in (CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES, 4 * CHUNK_BYTES, 5 * CHUNK_BYTES, len(BIG.data)):
        assert await slowly.asked.get() == n_bytes
        assert not reading.done()
        await slowly.answers.put(True)
    result, _ = await reading
    assert bytes(result.tensor.data) == BIG.data


async def test_a_result_whose_rest_is_lost_ends_with_what_became_of_the_run(front, stub):
    slowly = Slowly()
    lost = run.Failed("run-1", errors.WorkerLost("the worker died", retry_after_s=2.0))
    plays(front, run.Result("run-1", "h", BIG, arriving=slowly), lost)
    for answer in (True, False):
        await slowly.answers.put(answer)
    error = await failure(stub.RunGraph(request()))
    assert (type(error), str(error)) == (errors.WorkerLost, "the worker died")


async def test_many_small_events_take_several_responses(front, stub):
    plays(front, *(run.Progress("run-1", i, 200) for i in range(200)), done("run-1"))
    front.n_happened = 201
    sent = [kinds(response) async for response in stub.RunGraph(request())]
    assert [len(kinds) for kinds in sent] == [1, 64, 64, 64, 9]


async def test_attaching_resumes_from_an_event_number(front, stub):
    events = [run.Queued("run-1", 2, "busy"), run.Result("run-1", "h", BIG), done("run-1")]
    plays(front, *events)
    assembler = EventAssembler()
    call = stub.RunGraph(request(keep_s=60))
    first = [assembler.feed((await call.read()).event) for _ in range(4)]
    call.cancel()
    assert assembler.next_number == 1
    again = stub.AttachRun(pb.AttachRunRequest(run_id="run-1", from_number=assembler.next_number))
    assert [event for event in first if event] + await received(again, assembler) == events
    assembler.finish()


async def test_attaching_behind_the_end_of_a_run_is_refused(stub):
    await received(stub.RunGraph(request(keep_s=60)))
    call = stub.AttachRun(pb.AttachRunRequest(run_id="run-1", from_number=2**64 - 1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [response async for response in call]
    error = from_rpc_error(caught.value)
    assert (type(error), str(error)) == (errors.InvalidRequest, f"run 'run-1' ended before event {2**64 - 1}")


async def test_attaching_to_an_unknown_run_is_not_found(stub):
    assert type(await failure(stub.AttachRun(pb.AttachRunRequest(run_id="none")))) is errors.RunNotFound


async def test_a_request_that_is_sent_again_does_not_run_twice(front, stub):
    for _ in range(2):
        assert await received(stub.RunGraph(request(keep_s=60))) == [done("run-1")]
    assert len(front.submitted) == 1


async def test_another_request_with_the_same_id_is_refused(front, stub):
    await received(stub.RunGraph(request()))
    error = await failure(stub.RunGraph(request(graph=Graph((), {}))))
    assert type(error) is errors.InvalidRequest
    assert "request_id 'run-1' names another request" in str(error)


async def test_a_refused_request_may_be_sent_again(front, stub):
    submit, front.submit = front.submit, _overloaded
    assert type(await failure(stub.RunGraph(request()))) is errors.Overloaded
    front.submit = submit
    assert await received(stub.RunGraph(request())) == [done("run-1")]


def _overloaded(request, report):
    raise errors.Overloaded("full")


def _long(n_nodes):
    nodes = (READ, *(Node("torch.add", (Ref(i), 1.0)) for i in range(n_nodes - 1)))
    return Graph(nodes, {"h": Ref(n_nodes - 1)})


async def test_a_large_graph_is_checked_aside_and_a_small_one_by_the_front(front, stub):
    await received(stub.RunGraph(request("small")))
    await received(stub.RunGraph(request("large", graph=_long(2_000))))
    assert front.reports[0] is None
    assert front.reports[1].estimate is not None


async def test_a_large_request_that_comes_twice_at_once_runs_once(front, stub):
    sent = request(graph=_long(2_000), keep_s=60)
    answers = await asyncio.gather(*(received(stub.RunGraph(sent)) for _ in range(3)))
    assert answers == [[done("run-1")]] * 3
    assert len(front.submitted) == 1


@pytest.mark.slow
async def test_too_many_nodes_or_outputs_are_refused_before_they_are_read(front, stub):
    error = await failure(stub.RunGraph(request(graph=_long(10_001))))
    assert (type(error), str(error)) == (
        errors.LimitExceeded,
        "graph.nodes: 10001 nodes, at most 10000 are allowed [LIMIT]",
    )
    assert [(v.code, v.path) for v in (await validated(stub, _long(10_001))).violations] == [("LIMIT", "graph.nodes")]
    many = request(graph=Graph((READ,), {f"o{i}": Ref(0) for i in range(1_025)}))
    assert "graph.outputs: 1025 outputs" in str(await failure(stub.RunGraph(many)))
    assert front.submitted == []


async def test_cancelling_twice_is_as_good_as_once(front, stub):
    await received(stub.RunGraph(request()))
    front.submitted.clear()  # the run has ended and is not kept
    await stub.CancelRun(pb.CancelRunRequest(run_id="run-1"))


async def test_cancelling_reaches_the_front(front, stub):
    await received(stub.RunGraph(request()))
    await stub.CancelRun(pb.CancelRunRequest(run_id="run-1"))
    assert front.cancelled == ["run-1"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CancelRun(pb.CancelRunRequest(run_id="none"))
    assert type(from_rpc_error(caught.value)) is errors.RunNotFound


def _endless(front):
    async def script(request):
        while True:
            yield run.Result("run-1", "h", TensorData("uint8", (CHUNK_BYTES,), bytes(CHUNK_BYTES)), partial=True)

    front.script = script


@pytest.mark.slow
async def test_a_slow_reader_holds_the_front_back(front, stub):
    _endless(front)
    call = stub.RunGraph(request())
    await call.read()
    await asyncio.sleep(0.5)
    taken = front.n_taken
    await asyncio.sleep(0.5)
    assert taken == front.n_taken < 32
    call.cancel()


class HungUp:
    """The context of a call whose connection is gone, before gRPC has said so."""

    def invocation_metadata(self):
        return ()

    def set_trailing_metadata(self, metadata):
        pass

    def time_remaining(self):
        return None

    def done(self):
        return False

    async def write(self, data):
        raise grpc.aio.InternalError('Failed "execute_batch"')


async def test_a_connection_that_ends_in_the_middle_of_a_message_is_no_bug(front, caplog):
    service = SERVICES["interpd.v1.GraphService"]
    handler = service_handler(service, GraphServicer(front), ServiceOptions())
    call = SimpleNamespace(method=f"/{service.full_name}/RunGraph", invocation_metadata=())
    await handler.service(call).unary_stream(request().SerializeToString(), HungUp())
    assert front.released == ["run-1"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_reader_that_stops_is_let_go(front, serve):
    _endless(front)
    async with serve(front, ServiceOptions(stall_s=0.3)) as (_, channel):
        call = graph_service_pb2_grpc.GraphServiceStub(channel).RunGraph(request())
        await wait_until(lambda: front.released == ["run-1"])
        error = await failure(call)
    assert (type(error), error.facts) == (errors.DeadlineExceeded, {"stage": "streaming"})
    assert str(error) == "nothing was read for 0.3 s"


async def test_many_streams_at_once_each_get_their_own_events(front, stub):
    async def script(request):
        data = request.run_id.encode()
        yield run.Result(request.run_id, "h", TensorData("uint8", (len(data),), data))
        yield done(request.run_id)

    front.script = script
    answers = await asyncio.gather(*(received(stub.RunGraph(request(f"run-{i}"))) for i in range(50)))
    assert [events[0].tensor.data for events in answers] == [f"run-{i}".encode() for i in range(50)]


async def validated(stub, graph):
    spec = spec_to_proto(RunRequest("r", "facts", (Prompt(text="a"),), graph))
    return await stub.ValidateGraph(pb.ValidateGraphRequest(spec=spec))


async def test_a_sound_graph_gets_types_and_costs_with_real_token_counts(stub):
    answer = await validated(stub, GRAPH)
    assert list(answer.violations) == []
    assert list(answer.n_tokens) == [2]
    assert [node.text for node in answer.types] == ["float32[batch=1 pos=2 d_model=8]"]
    assert answer.types[0].outputs[0].dims[1].size == 2
    assert [(output.name, output.type) for output in answer.outputs] == [("h", answer.types[0].outputs[0])]
    assert answer.estimate.n_tokens == 2
    assert answer.estimate.bytes_returned == 2 * 8 * 4


async def test_an_unsound_graph_is_an_answer_and_no_error(stub):
    answer = await validated(stub, Graph((Node("site.red"), READ), {"h": Ref(1)}))
    assert ("UNKNOWN_OP", "graph.nodes[0].op") in [(v.code, v.path) for v in answer.violations]
    assert [node.text for node in answer.types] == ["?", "float32[batch=1 pos=? d_model=8]"]
    assert [kind.WhichOneof("element") for node in answer.types for kind in node.outputs] == [None, "dtype"]


async def test_an_unreadable_graph_is_an_answer_too(stub):
    spec = spec_to_proto(RunRequest("r", "facts", (), GRAPH))
    spec.graph.nodes[0].inputs.add()
    answer = await stub.ValidateGraph(pb.ValidateGraphRequest(spec=spec))
    assert [(v.code, v.path) for v in answer.violations] == [("MALFORMED", "graph.nodes[0].inputs[0]")]


async def test_prompts_that_cannot_be_tokenised_are_a_violation(front, stub):
    async def tokenize(model, prompts):
        raise errors.InvalidRequest("model 'facts' has no chat template")

    front.tokenize = tokenize
    answer = await validated(stub, GRAPH)
    assert [(v.code, v.path, v.message) for v in answer.violations] == [
        ("BAD_PROMPT", "prompts", "model 'facts' has no chat template")
    ]


async def wait_until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the fake front's lists have no event to wait for
            await asyncio.sleep(0.01)
