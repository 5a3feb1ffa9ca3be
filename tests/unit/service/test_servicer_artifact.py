import hashlib

import grpc
import pytest

from interpd import errors
from interpd.graph.digest import blob_digest
from interpd.graph.types import TensorData
from interpd.service.options import ServiceOptions
from interpd.wire.chunks import CHUNK_BYTES, chunks_of
from interpd.wire.status import from_rpc_error
from interpd.wire.v1 import artifact_service_pb2 as pb
from interpd.wire.v1 import artifact_service_pb2_grpc, tensor_pb2

TENSOR = TensorData("float16", (2 * CHUNK_BYTES, 1), bytes(range(256)) * (4 << 12))
FILE = b"safetensors" * 1000


@pytest.fixture
def stub(channel):
    return artifact_service_pb2_grpc.ArtifactServiceStub(channel)


def blob_parts(tensor=TENSOR, **changes):
    fields = {"digest": blob_digest(tensor), "dtype": tensor_pb2.DTYPE_FLOAT16, "shape": tensor.shape} | changes
    header = pb.UploadBlobRequest(header=pb.UploadBlobHeader(**fields))
    return [header, *(pb.UploadBlobRequest(chunk=chunk) for chunk in chunks_of(tensor.data))]


def file_parts(**changes):
    fields = {"model": "facts", "name": "l3", "kind": "sae", "n_bytes": len(FILE)}
    fields |= {"digest": hashlib.sha256(FILE).hexdigest()} | changes
    header = pb.UploadArtifactRequest(header=pb.UploadArtifactHeader(**fields))
    return [header, *(pb.UploadArtifactRequest(chunk=chunk) for chunk in chunks_of(FILE))]


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_a_constant_reaches_the_front_under_its_digest(front, stub):
    answer = await stub.UploadBlob(iter(blob_parts(model="facts")))
    assert answer.n_bytes == 4 * CHUNK_BYTES
    assert front.blobs == {answer.digest: TENSOR}


async def test_an_artifact_reaches_the_front_and_its_facts_come_back(stub):
    answer = await stub.UploadArtifact(iter(file_parts()))
    assert (answer.artifact.name, answer.artifact.kind, answer.artifact.n_bytes) == ("l3", "sae", len(FILE))
    assert answer.artifact.dims[0].name == "d_sae"


async def test_a_digest_that_does_not_fit_is_data_loss(front, stub):
    error = await failure(stub.UploadBlob(iter(blob_parts(digest="0f" * 32))))
    assert type(error) is errors.DataLoss
    assert front.blobs == {}
    assert type(await failure(stub.UploadArtifact(iter(file_parts(digest="0f" * 32))))) is errors.DataLoss


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
    assert type(await failure(stub.UploadBlob(iter(parts())))) is cls
    assert front.blobs == {}


@pytest.mark.parametrize("change", [{"name": ""}, {"name": "a\0b"}, {"kind": ""}, {"model": ""}, {"digest": "x"}])
async def test_an_artifact_without_a_proper_name_is_refused(stub, change):
    assert type(await failure(stub.UploadArtifact(iter(file_parts(**change))))) is errors.InvalidRequest


async def test_uploads_beyond_the_memory_for_all_are_an_overload_until_others_end(front, serve):
    options = ServiceOptions(uploads_bytes=5 * CHUNK_BYTES)
    async with serve(front, options) as (_, channel):
        stub = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        first = stub.UploadBlob()
        await first.write(blob_parts()[0])
        await first.write(blob_parts()[1])
        assert type(await failure(stub.UploadBlob(iter(blob_parts())))) is errors.Overloaded
        first.cancel()
        answer = await stub.UploadBlob(iter(blob_parts()), wait_for_ready=True)
    assert answer.n_bytes == 4 * CHUNK_BYTES


async def test_an_upload_that_stops_is_let_go(front, serve):
    async with serve(front, ServiceOptions(stall_s=0.2)) as (_, channel):
        call = artifact_service_pb2_grpc.ArtifactServiceStub(channel).UploadBlob()
        await call.write(blob_parts()[0])
        error = await failure(call)
    assert type(error) is errors.DeadlineExceeded
    assert str(error) == "the service gave up after 0.2 s of uploading"


async def test_artifacts_of_a_model_are_listed(stub):
    answer = await stub.ListArtifacts(pb.ListArtifactsRequest(model="facts"))
    assert [artifact.name for artifact in answer.artifacts] == ["l0"]
    assert type(await failure(stub.ListArtifacts(pb.ListArtifactsRequest(model="x")))) is errors.ModelNotFound
