"""ArtifactService: large constants, and plugins' weights both ways.

An upload is held in memory until its digest has been checked, so its declared size is counted against two bounds before
its first byte is taken: that of one upload, and that of all uploads under way.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from interpd.errors import DataLoss, InvalidRequest, Overloaded
from interpd.graph.digest import blob_digest
from interpd.graph.names import artifact_name_problem
from interpd.graph.types import ITEM_BYTES, TensorData
from interpd.scheduler.interface import Front
from interpd.service.interceptors import Call
from interpd.service.options import ServiceOptions
from interpd.wire.args import digest_from_proto
from interpd.wire.chunks import ByteAssembler, chunks_of
from interpd.wire.problems import Problems, checked_name
from interpd.wire.schemas import artifact_schema_to_proto, artifact_to_proto
from interpd.wire.tensors import dtype_from_proto, shape_from_proto
from interpd.wire.v1 import artifact_service_pb2 as pb


class UploadBudget:
    """Bytes of the uploads under way."""

    def __init__(self, options: ServiceOptions) -> None:
        self._one_bytes = options.upload_bytes
        self._all_bytes = options.uploads_bytes
        self._taken_bytes = 0

    @contextmanager
    def reserve(self, n_bytes: int, what: str) -> Iterator[ByteAssembler]:
        """Room for an upload, and what puts it together. Raises ``LimitExceeded``, ``Overloaded``."""
        assembler = ByteAssembler(n_bytes, self._one_bytes, what)
        if self._taken_bytes + n_bytes > self._all_bytes:
            raise Overloaded(f"{what}: other uploads fill the memory for uploads now", retry_after_s=2.0)
        self._taken_bytes += n_bytes
        try:
            yield assembler
        finally:
            self._taken_bytes -= n_bytes


class ArtifactServicer:
    """Answers for ``front``."""

    def __init__(self, front: Front, options: ServiceOptions) -> None:
        self._front = front
        self._budget = UploadBudget(options)

    async def upload_blob(self, parts: AsyncIterator[pb.UploadBlobRequest], call: Call) -> pb.UploadBlobResponse:
        """The constant's digest, once the workers have it."""
        header: pb.UploadBlobHeader = await _header(parts)
        problems = Problems()
        digest = digest_from_proto(header.digest, "header.digest", problems)
        dtype = dtype_from_proto(header.dtype, "header.dtype", problems)
        shape = shape_from_proto(header.shape, ITEM_BYTES[dtype], "header.shape", problems)
        problems.raise_if_any()
        with self._budget.reserve(prod(shape) * ITEM_BYTES[dtype], f"blob {digest[:12]}") as assembler:
            tensor = TensorData(dtype, shape, await _assembled(parts, assembler))
            _expect(digest, await asyncio.to_thread(blob_digest, tensor), "the constant")
            await self._front.put_blob(header.model or None, digest, tensor)
        return pb.UploadBlobResponse(digest=digest, n_bytes=len(tensor.data))

    async def upload_artifact(
        self, parts: AsyncIterator[pb.UploadArtifactRequest], call: Call
    ) -> pb.UploadArtifactResponse:
        """The artifact as the workers know it."""
        header: pb.UploadArtifactHeader = await _header(parts)
        problems = Problems()
        for name in ("model", "kind"):
            checked_name(getattr(header, name), f"header.{name}", problems)
        if problem := artifact_name_problem(header.name):
            problems.add("header.name", problem)
        digest_from_proto(header.digest, "header.digest", problems)
        problems.raise_if_any()
        with self._budget.reserve(header.n_bytes, f"artifact {header.name!r}") as assembler:
            data = await _assembled(parts, assembler)
            found = await asyncio.to_thread(_digest, data)
            _expect(header.digest, found, f"artifact {header.name!r}")
            info = await self._front.put_artifact(header.model, header.name, header.kind, data)
        return pb.UploadArtifactResponse(artifact=artifact_to_proto(info))

    async def list_artifacts(self, request: pb.ListArtifactsRequest, call: Call) -> pb.ListArtifactsResponse:
        """The artifacts and kinds of artifacts that a model knows."""
        manifest = self._front.manifest(request.model)
        return pb.ListArtifactsResponse(
            artifacts=map(artifact_to_proto, manifest.artifacts.values()),
            kinds=map(artifact_schema_to_proto, manifest.artifact_kinds.values()),
        )

    async def download_artifact(
        self, request: pb.DownloadArtifactRequest, call: Call
    ) -> AsyncGenerator[pb.DownloadArtifactResponse, None]:
        """The file of an artifact; each piece is cut when the one before it was sent."""
        info, data = await self._front.get_artifact(request.model, request.name)
        digest = await asyncio.to_thread(_digest, data)
        yield pb.DownloadArtifactResponse(
            header=pb.DownloadArtifactHeader(artifact=artifact_to_proto(info), digest=digest)
        )
        for chunk in chunks_of(data):
            yield pb.DownloadArtifactResponse(chunk=chunk)

    async def delete_artifact(self, request: pb.DeleteArtifactRequest, call: Call) -> pb.DeleteArtifactResponse:
        """Nothing, once no worker of the model knows the artifact."""
        await self._front.delete_artifact(request.model, request.name)
        return pb.DeleteArtifactResponse()


async def _header(parts: AsyncIterator[Any]) -> Any:
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidRequest("an upload begins with its header, then come its chunks")
    return first.header


async def _assembled(parts: AsyncIterator[Any], assembler: ByteAssembler) -> bytes:
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise InvalidRequest("after its header an upload has chunks only")
        whole = assembler.feed(part.chunk)
        if whole is not None:
            return bytes(whole)
    raise DataLoss("the upload ended before its last chunk; send it again")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _expect(digest: str, found: str, what: str) -> None:
    if digest != found:
        raise DataLoss(f"{what} has the digest {found}, its header says {digest}; send it again")
