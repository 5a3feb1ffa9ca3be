"""A real daemon with the real engine, and clients that send what no client should."""

import random
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from load import failure

from interpd import errors
from interpd.config import ModelSpec
from interpd.graph.digest import blob_digest
from interpd.graph.ir import Dots, Generation, Graph, Node, Ref, Slice, Steps
from interpd.graph.run import Done
from interpd.graph.types import TensorData
from interpd.service.server import SERVICES
from interpd.wire.graphs import request_to_proto
from interpd.wire.v1 import graph_service_pb2, model_service_pb2

pytestmark = pytest.mark.ray

READ = Node("site.read", params={"site": "layers.2.resid_post"})
FACTS_TOKENS = 6
NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
N_MUTANTS = 30


def graph_of(*nodes):
    return Graph(nodes, {"value": Ref(len(nodes) - 1)})


def test_fifty_clients_with_graphs_of_their_own_get_what_they_get_alone(lab):
    alone = {layer: lab.value(graph=lab.graph(layer=layer)) for layer in range(5)}
    runs = [lab.ask(graph=lab.graph(layer=i % 5)) for i in range(50)]
    for i, run in enumerate(runs):
        assert np.allclose(run.value(), alone[i % 5], atol=1e-5)
    assert max(max(run.end().cost.shared_with) for run in runs) > 4


def mutants(seed, rng):
    """Bytes that once were a message."""
    for _ in range(N_MUTANTS):
        data = bytearray(seed)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(3):
                case 0:
                    data[at : at + 1] = rng.randbytes(1)
                case 1:
                    del data[at : at + rng.randrange(6)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randrange(6))
        yield bytes(data)


def seeds(lab):
    """A valid message for some methods."""
    nodes = (
        Node("site.read", params={"site": "layers.2.resid_post", "positions": (0, -1)}, label="h"),
        Node("torch.softmax", (Ref(0),), {"dim": -1}),
        Node("torch.add", (Ref(1), TensorData("float32", (2, 1), bytes(8))), {"alpha": 1.5}),
        Node("tensor.getitem", (Ref(2), (Dots(), Slice(0, 2, None), None))),
    )
    plain = request_to_proto(lab.request(graph=Graph(nodes, {"a": Ref(2), "b": Ref(3)})))
    step = Node("site.read", params={"site": "logits", "positions": (-1,)}, steps=Steps(0, 2))
    sampled = Generation(max_new_tokens=3, do_sample=True, temperature=0.5, seed=3)
    generation = request_to_proto(lab.request(graph=graph_of(step), generation=sampled))
    for request in (plain, generation):
        request.ClearField("request_id")
    return {
        "RunGraph": [plain, generation],
        "ValidateGraph": [graph_service_pb2.ValidateGraphRequest(spec=plain.spec)],
        "Tokenize": [model_service_pb2.TokenizeRequest(model="facts", prompts=plain.spec.prompts)],
        "GetModel": [model_service_pb2.GetModelRequest(model="facts")],
        "AttachRun": [graph_service_pb2.AttachRunRequest(run_id="nobody", from_number=3)],
    }


def code_of(channel, method, path, data):
    kinds = {(False, True): channel.unary_stream, (True, False): channel.stream_unary}
    call = kinds.get((method.client_streaming, method.server_streaming), channel.unary_unary)(path)
    try:
        answer = call(iter([data]) if method.client_streaming else data, timeout=30)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("service", SERVICES)
def test_bytes_that_are_no_message_are_the_callers_fault_at_every_method(lab, channel, service):
    rng, known = random.Random(service), seeds(lab)
    restarts = lab.statistics().n_restarts
    for method in SERVICES[service].methods:
        sent = [rng.randbytes(n) for n in (1, 3, 10, 100, 3_000)]
        sent += [mutant for seed in known.get(method.name, ()) for mutant in mutants(seed.SerializeToString(), rng)]
        path = f"/{service}/{method.name}"
        for data in sent:
            assert code_of(channel, method, path, data) not in NEVER, (path, data)
    assert lab.statistics().n_restarts == restarts
    assert len(lab.value()) == 1


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 1e-9, 1e-3])
def test_a_deadline_that_has_passed_is_told_at_once(lab, stub, timeout_s):
    error = failure(stub.RunGraph(request_to_proto(lab.request()), timeout=timeout_s))
    assert type(error) is errors.DeadlineExceeded
    lab.wait_idle()


def test_a_deadline_in_ten_years_is_one(lab, stub):
    answers = stub.RunGraph(request_to_proto(lab.request()), timeout=10 * 365 * 86_400.0)
    assert sum(1 + len(answer.more) for answer in answers) > 3


LONG = Generation(max_new_tokens=120, ignore_eos=True)


@pytest.mark.parametrize("fields", [{"generation": LONG, "graph": Graph((), {})}, {"op": "bad.method_goes_on"}])
def test_a_deadline_reaches_what_is_running(lab, stub, fields):
    error = failure(stub.RunGraph(request_to_proto(lab.request(**fields)), timeout=0.08))
    assert type(error) is errors.DeadlineExceeded
    lab.wait_idle(5.0)


@pytest.mark.parametrize("fields", [{"generation": LONG, "graph": Graph((), {})}, {"op": "bad.method_goes_on"}])
def test_a_run_may_be_cancelled_again_and_again(lab, fields):
    run, transport = lab.ask(**fields), lab.transport()
    assert run.running.wait(10)
    for _ in range(3):
        transport.cancel(run.run_id, 10.0)
    assert type(run.end()).__name__ == "Cancelled"
    transport.cancel(run.run_id, 10.0)
    with pytest.raises(errors.RunNotFound):
        transport.cancel("nobody", 10.0)
    lab.wait_idle(5.0)


def test_cancels_at_any_moment_leave_nothing_behind(lab, stub):
    n_kept = lab.transport().statistics(10.0).n_kept
    for i in range(30):
        call = stub.RunGraph(request_to_proto(lab.request()))
        if i % 3:
            next(call)
        time.sleep(0.001 * (i % 7))
        call.cancel()
    lab.wait_idle(5.0)
    assert lab.transport().statistics(10.0).n_kept <= n_kept


def test_an_id_names_one_request_however_often_it_comes(lab, stub):
    sent = request_to_proto(lab.request("bad.method_goes_on", keep_s=30.0))
    with ThreadPoolExecutor(3) as pool:
        followers = [pool.submit(failure, stub.RunGraph(sent)) for _ in range(3)]
        other = request_to_proto(lab.request())
        other.request_id = sent.request_id
        time.sleep(0.3)
        assert type(failure(stub.RunGraph(other))) is errors.InvalidRequest
        lab.transport().cancel(sent.request_id, 10.0)
        assert {type(follower.result(30)) for follower in followers} == {errors.Cancelled}
    ahead = graph_service_pb2.AttachRunRequest(run_id=sent.request_id, from_number=2**63)
    assert type(failure(stub.AttachRun(ahead))) is errors.InvalidRequest


def test_a_reader_that_stops_keeps_nobody_waiting_and_leaves_nothing(lab, stub):
    size = {"size": (16, 1 << 20)}
    call = stub.RunGraph(request_to_proto(lab.request(graph=graph_of(Node("torch.zeros", params=size)))))
    for _ in range(3):
        next(call)
    started = time.monotonic()
    assert len(lab.value()) == 1
    assert time.monotonic() - started < 5.0
    call.cancel()
    lab.wait_idle()
    assert lab.transport().statistics(10.0).kept_bytes < 1 << 20


CLIENT = """
import sys
from interpd.graph.ir import *
from interpd.graph.run import RunRequest
from interpd_client.grpc_transport import GrpcTransport

streams = sys.argv[2] == "streaming"
graph = Graph((), {}) if streams else Graph((Node("bad.method_goes_on"),), {"value": Ref(0)})
generation = Generation(max_new_tokens=120, ignore_eos=True) if streams else None
prompts = (Prompt(text="Elena Marsh was born in"),)
request = RunRequest(sys.argv[3], "facts", prompts, graph, generation, stream_tokens=streams)
for event in GrpcTransport(sys.argv[1]).run(request):
    print(type(event).__name__, flush=True)
"""


@pytest.mark.parametrize(("how", "word"), [("running", "Progress"), ("streaming", "TokenGenerated")])
def test_a_client_that_is_killed_takes_its_run_with_it(lab, how, word):
    command = [sys.executable, "-c", CLIENT, lab.address, how, uuid.uuid4().hex]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert any(line.strip() == word for line in client.stdout)
        client.kill()
    lab.wait_idle(5.0)


def test_what_cannot_be_loaded_says_why_and_hurts_nobody(lab, tmp_path):
    code, pickle = tmp_path / "code", tmp_path / "pickle"
    for folder, config in ((code, '{"model_type": "gpt2", "auto_map": {}}'), (pickle, '{"model_type": "gpt2"}')):
        folder.mkdir()
        folder.joinpath("config.json").write_text(config)
    pickle.joinpath("pytorch_model.bin").write_bytes(b"\x80\x04.")
    expected = {
        ("bad-1", "/nonexistent"): errors.ModelNotFound,
        ("bad-2", str(code)): errors.FeatureUnsupported,
        ("bad-3", str(pickle)): errors.FeatureUnsupported,
        ("..", "facts"): errors.InvalidRequest,
        ("facts", "facts"): errors.InvalidRequest,
    }

    def load(name, source):
        try:
            lab.transport().load(ModelSpec(source, name=name), 120.0)
        except errors.InterpdError as error:
            return type(error)

    with ThreadPoolExecutor(len(expected)) as pool:
        found = dict(zip(expected, pool.map(lambda case: load(*case), expected), strict=True))
    assert found == expected
    assert len(lab.value()) == 1
    for name in ("bad-1", "bad-2", "bad-3"):
        lab.transport().unload(name, 30.0)
        with pytest.raises(errors.ModelNotFound):
            lab.transport().unload(name, 30.0)


def test_an_upload_whose_content_is_not_its_digest_is_refused(lab):
    tensor = TensorData("float32", (2,), bytes(8))
    with pytest.raises(errors.DataLoss, match="the constant has the digest"):
        lab.transport().put_blob("facts", "0" * 64, tensor, 10.0)
    lab.transport().put_blob("facts", blob_digest(tensor), tensor, 10.0)


def test_weights_of_no_known_kind_are_refused(lab):
    with pytest.raises(errors.CallerError, match="no artifact kind 'sae'"):
        lab.transport().put_artifact("facts", "mine", "sae", b"no safetensors", 10.0)
    with pytest.raises(errors.CallerError, match="the name of an artifact has"):
        lab.transport().put_artifact("facts", "../../mine", "sae", b"no safetensors", 10.0)


def test_after_all_this_the_daemon_is_as_it_was(lab):
    assert isinstance(lab.ask().end(), Done)
    assert lab.daemon.log().count("a bug") == 0, lab.daemon.log()
