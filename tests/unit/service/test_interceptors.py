import asyncio
import logging
import time

import grpc
import pytest

from interpd import errors
from interpd.errors import Violation
from interpd.service.options import ServiceOptions
from interpd.wire.status import CODES, from_rpc_error
from interpd.wire.v1 import graph_service_pb2, model_service_pb2, model_service_pb2_grpc, run_pb2

LIST = "/interpd.v1.ModelService/ListModels"
EMPTY = model_service_pb2.ListModelsRequest()


def example(cls):
    if issubclass(cls, errors.InvalidGraph):
        return cls([Violation("CYCLE", "graph.nodes[2]", "node 'é' needs itself")], model="facts")
    if issubclass(cls, errors.Unavailable):
        return cls("later", retry_after_s=2.25)
    return cls("what, where\nand what to do: 'é'", model="facts")


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("cls", CODES, ids=lambda cls: cls.__name__)
async def test_every_error_crosses_a_real_socket_as_itself(front, channel, cls):
    front.error = example(cls)
    error = await failure(model_service_pb2_grpc.ModelServiceStub(channel).ListModels(EMPTY))
    back = from_rpc_error(error)
    assert type(back) is cls
    assert vars(back) == vars(front.error)
    assert error.code() is CODES[cls]


@pytest.mark.parametrize("cls", [errors.InvalidGraph, errors.OpFailed, errors.Overloaded])
async def test_the_largest_error_fits_the_headers_that_clients_take_by_default(front, channel, cls):
    facts = {f"fact{i}": "é\n" * 5000 for i in range(100)}
    many = [Violation("BAD_PARAM", f"graph.nodes[{i}]", "é" * 300) for i in range(1000)]
    front.error = cls(many if cls is errors.InvalidGraph else "é\n" * 9000, **facts)
    assert (
        type(from_rpc_error(await failure(model_service_pb2_grpc.ModelServiceStub(channel).ListModels(EMPTY)))) is cls
    )


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x0a\x10short", b"\x0a\x02\xc3\x28"])
@pytest.mark.parametrize("method", ["GraphService/ValidateGraph", "ModelService/LoadModel", "ModelService/Tokenize"])
async def test_malformed_bytes_are_an_invalid_request(channel, method, data):
    error = await failure(channel.unary_unary(f"/interpd.v1.{method}")(data))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    back = from_rpc_error(error)
    assert type(back) is errors.InvalidRequest
    assert "are no readable interpd.v1." in str(back)


@pytest.mark.parametrize("method", ["GraphService/RunGraph", "GraphService/AttachRun"])
async def test_malformed_bytes_of_a_stream_are_an_invalid_request(channel, method):
    error = await failure(channel.unary_stream(f"/interpd.v1.{method}")(b"\xff\xff").read())
    assert type(from_rpc_error(error)) is errors.InvalidRequest


@pytest.mark.parametrize("method", ["ArtifactService/UploadBlob", "ArtifactService/UploadArtifact"])
async def test_malformed_bytes_of_an_upload_are_an_invalid_request(channel, method):
    error = await failure(channel.stream_unary(f"/interpd.v1.{method}")(iter([b"\xff\xff"])))
    assert type(from_rpc_error(error)) is errors.InvalidRequest


async def test_a_bug_is_an_internal_error_with_the_request_id_and_a_log_entry(front, channel, caplog):
    front.error = ZeroDivisionError("secret detail")
    with caplog.at_level(logging.ERROR, "interpd.service"):
        call = model_service_pb2_grpc.ModelServiceStub(channel).ListModels(EMPTY, metadata=(("x-request-id", "abc-1"),))
        back = from_rpc_error(await failure(call))
    assert type(back) is errors.InternalError
    assert str(back) == "a bug in interpd ended this call (ZeroDivisionError); please report it with request id 'abc-1'"
    assert back.facts == {"request_id": "abc-1", "cause": "ZeroDivisionError"}
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(("sent", "is_kept"), [("my-id.1", True), ("x" * 65, False), ("a b", False)])
async def test_every_answer_names_its_request(channel, sent, is_kept):
    call = channel.unary_unary(LIST)(b"", metadata=(("x-request-id", sent),))
    await call
    (back,) = [value for key, value in await call.trailing_metadata() if key == "x-request-id"]
    assert (back == sent) is is_kept
    assert 0 < len(back) <= 64


async def test_an_unknown_method_is_unsupported(channel):
    error = await failure(channel.unary_unary("/interpd.v1.GraphService/Nothing")(b""))
    assert type(from_rpc_error(error)) is errors.FeatureUnsupported


async def test_an_unreachable_service_is_unavailable():
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nobody:
        error = await failure(nobody.unary_unary(LIST)(b""))
    assert type(from_rpc_error(error)) is errors.Unavailable


async def test_a_message_larger_than_the_limit_is_a_limit(front, serve):
    async with serve(front, ServiceOptions(message_bytes=1000)) as (_, channel):
        error = await failure(channel.unary_unary("/interpd.v1.GraphService/ValidateGraph")(bytes(2000)))
        assert type(from_rpc_error(error)) is errors.LimitExceeded


async def test_too_many_calls_are_an_overload(front, serve):
    front.load = lambda spec: asyncio.sleep(60)
    request = model_service_pb2.LoadModelRequest(spec=model_service_pb2.ModelSpec(source="x"))
    async with serve(front, ServiceOptions(n_calls=1)) as (_, channel):
        first = model_service_pb2_grpc.ModelServiceStub(channel).LoadModel(request)
        await asyncio.sleep(0.1)
        error = await failure(channel.unary_unary(LIST)(b""))
        first.cancel()
    assert type(from_rpc_error(error)) is errors.Overloaded


async def test_a_call_without_a_deadline_gets_the_services_own(front, serve):
    front.tokenize = lambda model, prompts: asyncio.sleep(60)
    async with serve(front, ServiceOptions(answer_s=0.1)) as (_, channel):
        request = model_service_pb2.TokenizeRequest(model="facts")
        back = from_rpc_error(await failure(model_service_pb2_grpc.ModelServiceStub(channel).Tokenize(request)))
    assert type(back) is errors.DeadlineExceeded
    assert str(back) == "the service gave up after 0.1 s of answering"


async def test_a_timeout_of_a_lower_layer_is_a_bug_and_no_deadline(front, channel):
    front.error = TimeoutError()
    back = from_rpc_error(await failure(model_service_pb2_grpc.ModelServiceStub(channel).ListModels(EMPTY)))
    assert type(back) is errors.InternalError


async def test_the_callers_deadline_ends_the_method(front, channel):
    ended = asyncio.Event()

    async def tokenize(model, prompts):
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    front.tokenize = tokenize
    request = model_service_pb2.TokenizeRequest(model="facts")
    error = await failure(model_service_pb2_grpc.ModelServiceStub(channel).Tokenize(request, timeout=0.2))
    assert type(from_rpc_error(error)) is errors.DeadlineExceeded
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("timeout_s", [None, 30.0])
async def test_the_callers_deadline_is_stamped_on_the_run(front, channel, timeout_s):
    request = graph_service_pb2.RunGraphRequest(spec=run_pb2.RunSpec(model="facts"))
    call = channel.unary_stream("/interpd.v1.GraphService/RunGraph")(request.SerializeToString(), timeout=timeout_s)
    assert len([event async for event in call]) == 2
    (run,) = front.submitted
    if timeout_s is None:
        assert run.deadline_s is None
    else:
        assert 25 < run.deadline_s - time.time() < 31
