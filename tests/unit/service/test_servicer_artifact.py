import asyncio
import hashlib
import threading
from contextlib import asynccontextmanager

import grpc
import pytest

from interpd import errors
from interpd.graph.digest import blob_digest
from interpd.graph.types import TensorData
from interpd.service.options import ServiceOptions
from interpd.service.server import make_server
from interpd.wire.chunks import CHUNK_BYTES, ByteAssembler, chunks_of
from interpd.wire.status import from_rpc_error
from interpd.wire.v1 import artifact_service_pb2 as pb
from interpd.wire.v1 import artifact_service_pb2_grpc, tensor_pb2

TENSOR = TensorData("float16", (2 * CHUNK_BYTES, 1), bytes(range(256)) * (4 << 12))
FILE = b"safetensors" * 1000


@asynccontextmanager
async def stubbed(front, options=None):
    """A synchronous stub: ``grpc.aio`` may report a write that failed instead of the status that ended the upload."""
    server = make_server(front, options=options)
    port = await server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield artifact_service_pb2_grpc.ArtifactServiceStub(channel)
    await server.stop(0)


@pytest.fixture
async def stub(front):
    async with stubbed(front) as stub:
        yield stub


async def sent(method, parts):
    return await asyncio.to_thread(lambda: method(iter(parts)))


def blob_parts(tensor=TENSOR, **changes):
    fields = {"digest": blob_digest(tensor), "dtype": tensor_pb2.DTYPE_FLOAT16, "shape": tensor.shape} | changes
    header = pb.UploadBlobRequest(header=pb.UploadBlobHeader(**fields))
    return [header, *(pb.UploadBlobRequest(chunk=chunk) for chunk in chunks_of(tensor.data))]


def file_parts(**changes):
    fields = {"model": "facts", "name": "l3", "kind": "sae", "n_bytes": len(FILE)}
    fields |= {"digest": hashlib.sha256(FILE).hexdigest()} | changes
    header = pb.UploadArtifactRequest(header=pb.UploadArtifactHeader(**fields))
    return [header, *(pb.UploadArtifactRequest(chunk=chunk) for chunk in chunks_of(FILE))]


async def failure(method, parts):
    with pytest.raises(grpc.RpcError) as caught:
        await sent(method, parts)
    return from_rpc_error(caught.value)


async def test_a_constant_reaches_the_front_under_its_digest(front, stub):
    answer = await sent(stub.UploadBlob, blob_parts(model="facts"))
    assert answer.n_bytes == 4 * CHUNK_BYTES
    assert front.blobs == {answer.digest: TENSOR}


async def test_an_artifact_reaches_the_front_and_its_facts_come_back(stub):
    answer = await sent(stub.UploadArtifact, file_parts())
    assert (answer.artifact.name, answer.artifact.kind, answer.artifact.n_bytes) == ("l3", "sae", len(FILE))
    assert answer.artifact.dims[0].name == "d_sae"


async def test_a_digest_that_does_not_fit_is_data_loss(front, stub):
    error = await failure(stub.UploadBlob, blob_parts(digest="0f" * 32))
    assert type(error) is errors.DataLoss
    assert front.blobs == {}
    assert type(await failure(stub.UploadArtifact, file_parts(digest="0f" * 32))) is errors.DataLoss


def damaged(parts):
    parts[1].chunk.data = b"x" + parts[1].chunk.data[1:]
    return parts


@pytest.mark.parametrize(
    ("parts", "cls"),
    [
        (lambda: damaged(blob_parts()), errors.DataLoss),
        (lambda: blob_parts()[:-1], errors.DataLoss),
        (lambda: blob_parts()[:1], errors.DataLoss),
        (lambda: blob_parts()[1:], errors.InvalidRequest),
        (lambda: [], errors.InvalidRequest),
        (lambda: [pb.UploadBlobRequest()], errors.InvalidRequest),
        (lambda: blob_parts()[:1] * 2, errors.InvalidRequest),
        (lambda: blob_parts(digest="../../etc"), errors.InvalidRequest),
        (lambda: blob_parts(dtype=0), errors.InvalidRequest),
        (lambda: blob_parts(shape=[2**40, 2**40]), errors.InvalidRequest),
        (lambda: blob_parts(shape=[2**40]), errors.LimitExceeded),
        (lambda: blob_parts(shape=[3]), errors.DataLoss),
    ],
    ids=[
        "damaged",
        "cut",
        "no chunks",
        "no header",
        "empty",
        "unset",
        "two headers",
        "digest",
        "dtype",
        "overflow",
        "too large",
        "more than announced",
    ],
)
async def test_a_bad_upload_is_refused(front, stub, parts, cls):
    assert type(await failure(stub.UploadBlob, parts())) is cls
    assert front.blobs == {}


@pytest.mark.parametrize("change", [{"name": ""}, {"name": "a\0b"}, {"kind": ""}, {"model": ""}, {"digest": "x"}])
async def test_an_artifact_without_a_proper_name_is_refused(stub, change):
    assert type(await failure(stub.UploadArtifact, file_parts(**change))) is errors.InvalidRequest


def stopping(parts, resume):
    yield from parts
    resume.wait(10)


async def outcome(stub):
    try:
        await sent(stub.UploadBlob, blob_parts())
    except grpc.RpcError as error:
        return type(from_rpc_error(error))
    return None


async def becomes(wanted, stub):
    async with asyncio.timeout(10):
        while await outcome(stub) is not wanted:  # noqa: ASYNC110  the server tells nobody of its memory
            await asyncio.sleep(0.02)


async def test_uploads_beyond_the_memory_for_all_are_an_overload_until_others_end(front):
    resume = threading.Event()
    async with stubbed(front, ServiceOptions(uploads_bytes=5 * CHUNK_BYTES)) as stub:
        first = stub.UploadBlob.future(stopping(blob_parts()[:2], resume))
        await becomes(errors.Overloaded, stub)
        first.cancel()
        resume.set()
        await becomes(None, stub)


async def test_an_upload_that_stops_is_let_go(front):
    resume = threading.Event()
    async with stubbed(front, ServiceOptions(stall_s=0.2)) as stub:
        error = await failure(stub.UploadBlob, stopping(blob_parts()[:1], resume))
        resume.set()
    assert type(error) is errors.DeadlineExceeded
    assert str(error) == "the service gave up after 0.2 s of uploading"


async def test_artifacts_of_a_model_are_listed(channel):
    stub = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
    answer = await stub.ListArtifacts(pb.ListArtifactsRequest(model="facts"))
    assert [artifact.name for artifact in answer.artifacts] == ["l0"]
    assert [kind.kind for kind in answer.kinds] == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListArtifacts(pb.ListArtifactsRequest(model="x"))
    assert type(from_rpc_error(caught.value)) is errors.ModelNotFound


@pytest.mark.parametrize("n_bytes", [0, 5, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
async def test_a_file_comes_in_pieces_with_their_checksums_after_a_header(front, channel, n_bytes):
    front.files["l0"] = bytes(range(256)) * (n_bytes // 256) + bytes(n_bytes % 256)
    stub = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
    header, *parts = [
        part async for part in stub.DownloadArtifact(pb.DownloadArtifactRequest(model="facts", name="l0"))
    ]
    assert (header.header.artifact.name, header.header.artifact.n_bytes) == ("l0", n_bytes)
    assert header.header.digest == hashlib.sha256(front.files["l0"]).hexdigest()
    assembler = ByteAssembler(n_bytes, n_bytes, "file")
    assert [assembler.feed(part.chunk) for part in parts][-1] == front.files["l0"]


async def test_an_artifact_is_taken_away_once(front, channel):
    front.files["l0"] = FILE
    stub = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
    await stub.DeleteArtifact(pb.DeleteArtifactRequest(model="facts", name="l0"))
    assert front.files == {}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.DeleteArtifact(pb.DeleteArtifactRequest(model="facts", name="l0"))
    assert type(from_rpc_error(caught.value)) is errors.ArtifactNotFound


@pytest.mark.parametrize(
    ("model", "name", "cls"), [("facts", "l9", errors.ArtifactNotFound), ("x", "l0", errors.ModelNotFound)]
)
async def test_a_file_that_is_not_there_cannot_be_downloaded(channel, model, name, cls):
    stub = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [part async for part in stub.DownloadArtifact(pb.DownloadArtifactRequest(model=model, name=name))]
    assert type(from_rpc_error(caught.value)) is cls
