"""The transport that speaks gRPC to a daemon."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, final

import grpc

from interpd.config import ModelSpec
from interpd.errors import Cancelled, DataLoss, InterpdError, Unavailable
from interpd.graph.check import CheckReport
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, RunRequest, Tokens
from interpd.graph.schema import ArtifactInfo, Manifest, PluginInfo
from interpd.graph.types import TensorData
from interpd.scheduler.interface import ModelStatus, Statistics
from interpd.wire.chunks import ByteAssembler, chunks_of
from interpd.wire.events import EventAssembler
from interpd.wire.graphs import request_to_proto, spec_to_proto
from interpd.wire.manifests import manifest_from_proto, model_spec_to_proto
from interpd.wire.problems import Problems
from interpd.wire.prompts import prompt_to_proto, tokens_from_proto
from interpd.wire.schemas import artifact_from_proto, plugin_from_proto
from interpd.wire.status import from_rpc_error
from interpd.wire.tensors import DTYPE_TO_PROTO
from interpd.wire.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    graph_service_pb2,
    graph_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    plugin_service_pb2,
    plugin_service_pb2_grpc,
    statistics_service_pb2,
    statistics_service_pb2_grpc,
)
from interpd_client.connection import remaining_s
from interpd_client.decoding import report_from_proto, statistics_from_proto, status_from_proto
from interpd_client.transport import EventStream

CHANNEL_OPTIONS = (
    # manifests name every module; gRPC takes 4 MiB by default
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # a laptop that slept shall notice within a minute that its connection is gone
    ("grpc.keepalive_time_ms", 45_000),
    ("grpc.keepalive_timeout_ms", 15_000),
)


@final
class GrpcTransport:
    """A daemon at ``host:port``. The connection is made by the first call."""

    def __init__(self, address: str) -> None:
        if ":" not in address:
            raise ValueError(f"an address is host:port, as in 'localhost:7700', got {address!r}")
        self._address = address
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"the daemon at {self._address}"

    def models(self, timeout_s: float | None) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed."""
        with self._calls() as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            answer = stub.ListModels(model_service_pb2.ListModelsRequest(), timeout=timeout_s)
        return tuple(status_from_proto(model) for model in answer.models)

    def manifest(self, model: str, timeout_s: float | None) -> Manifest:
        """What a model offers."""
        with self._calls() as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            answer = stub.GetModel(model_service_pb2.GetModelRequest(model=model), timeout=timeout_s)
        return manifest_from_proto(answer.manifest)

    def load(self, spec: ModelSpec, timeout_s: float | None) -> ModelStatus:
        """The status of a model once it serves."""
        request = model_service_pb2.LoadModelRequest(spec=model_spec_to_proto(spec))
        with self._calls() as channel:
            answer = model_service_pb2_grpc.ModelServiceStub(channel).LoadModel(request, timeout=timeout_s)
        return status_from_proto(answer.status)

    def unload(self, model: str, timeout_s: float | None) -> None:
        """Takes a model away."""
        request = model_service_pb2.UnloadModelRequest(model=model)
        with self._calls() as channel:
            model_service_pb2_grpc.ModelServiceStub(channel).UnloadModel(request, timeout=timeout_s)

    def tokenize(self, model: str, prompts: Sequence[Prompt], timeout_s: float | None) -> tuple[Tokens, ...]:
        """The prompts as the model's tokenizer sees them."""
        problems = Problems()
        sent = [prompt_to_proto(prompt, f"prompts[{i}]", problems) for i, prompt in enumerate(prompts)]
        problems.raise_if_any()
        request = model_service_pb2.TokenizeRequest(model=model, prompts=sent)
        with self._calls() as channel:
            answer = model_service_pb2_grpc.ModelServiceStub(channel).Tokenize(request, timeout=timeout_s)
        tokens = tuple(tokens_from_proto(one, f"tokens[{i}]", problems) for i, one in enumerate(answer.tokens))
        problems.raise_as_data_loss("the tokens")
        return tokens

    def validate(self, request: RunRequest, timeout_s: float | None) -> CheckReport:
        """Whether the run would be accepted, with types and costs."""
        message = graph_service_pb2.ValidateGraphRequest(spec=spec_to_proto(request))
        with self._calls() as channel:
            answer = graph_service_pb2_grpc.GraphServiceStub(channel).ValidateGraph(message, timeout=timeout_s)
        return report_from_proto(answer)

    def run(self, request: RunRequest) -> EventStream:
        """The events of a new run; ``request.deadline_s`` bounds it."""
        message = request_to_proto(request)
        left_s = remaining_s(request.deadline_s)
        with self._calls() as channel:
            call = graph_service_pb2_grpc.GraphServiceStub(channel).RunGraph(message, timeout=left_s)
        return _Stream(self, call, 0)

    def attach(self, run_id: str, start: int, timeout_s: float | None) -> EventStream:
        """The events of a known run from number ``start`` on."""
        message = graph_service_pb2.AttachRunRequest(run_id=run_id, from_number=start)
        with self._calls() as channel:
            call = graph_service_pb2_grpc.GraphServiceStub(channel).AttachRun(message, timeout=timeout_s)
        return _Stream(self, call, start)

    def cancel(self, run_id: str, timeout_s: float | None) -> None:
        """Ends a run."""
        message = graph_service_pb2.CancelRunRequest(run_id=run_id)
        with self._calls() as channel:
            graph_service_pb2_grpc.GraphServiceStub(channel).CancelRun(message, timeout=timeout_s)

    def put_blob(self, model: str, digest: str, tensor: TensorData, timeout_s: float | None) -> None:
        """Uploads a large constant for the workers of ``model`` (``""``: of all)."""
        message = artifact_service_pb2.UploadBlobRequest
        dtype: Any = DTYPE_TO_PROTO[tensor.dtype]
        header = artifact_service_pb2.UploadBlobHeader(model=model, digest=digest, dtype=dtype, shape=tensor.shape)
        parts = _upload(message(header=header), tensor.data, lambda chunk: message(chunk=chunk))
        with self._calls() as channel:
            artifact_service_pb2_grpc.ArtifactServiceStub(channel).UploadBlob(parts, timeout=timeout_s)

    def put_artifact(self, model: str, name: str, kind: str, data: bytes, timeout_s: float | None) -> ArtifactInfo:
        """Uploads a safetensors file as a named artifact."""
        message = artifact_service_pb2.UploadArtifactRequest
        digest = hashlib.sha256(data).hexdigest()
        header = artifact_service_pb2.UploadArtifactHeader(
            model=model, name=name, kind=kind, n_bytes=len(data), digest=digest
        )
        parts = _upload(message(header=header), data, lambda chunk: message(chunk=chunk))
        with self._calls() as channel:
            answer = artifact_service_pb2_grpc.ArtifactServiceStub(channel).UploadArtifact(parts, timeout=timeout_s)
        return artifact_from_proto(answer.artifact)

    def get_artifact(self, model: str, name: str, timeout_s: float | None) -> bytes:
        """The file of an artifact."""
        request = artifact_service_pb2.DownloadArtifactRequest(model=model, name=name)
        with self._calls() as channel:
            stub = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
            return _downloaded(stub.DownloadArtifact(request, timeout=timeout_s), f"artifact {name!r}")

    def delete_artifact(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an artifact away."""
        request = artifact_service_pb2.DeleteArtifactRequest(model=model, name=name)
        with self._calls() as channel:
            artifact_service_pb2_grpc.ArtifactServiceStub(channel).DeleteArtifact(request, timeout=timeout_s)

    def artifacts(self, model: str, timeout_s: float | None) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the workers of a model know."""
        request = artifact_service_pb2.ListArtifactsRequest(model=model)
        with self._calls() as channel:
            answer = artifact_service_pb2_grpc.ArtifactServiceStub(channel).ListArtifacts(request, timeout=timeout_s)
        return tuple(map(artifact_from_proto, answer.artifacts))

    def plugins(self, timeout_s: float | None) -> dict[str, tuple[PluginInfo, ...]]:
        """The plugins that the workers of each model found."""
        with self._calls() as channel:
            stub = plugin_service_pb2_grpc.PluginServiceStub(channel)
            answer = stub.ListPlugins(plugin_service_pb2.ListPluginsRequest(), timeout=timeout_s)
        problems = Problems()
        found = {
            model.model: tuple(plugin_from_proto(one, f"plugins.{one.name}", problems) for one in model.plugins)
            for model in answer.models
        }
        problems.raise_as_data_loss("the list of plugins")
        return found

    def statistics(self, timeout_s: float | None) -> Statistics:
        """Counters of the daemon."""
        with self._calls() as channel:
            stub = statistics_service_pb2_grpc.StatisticsServiceStub(channel)
            answer = stub.GetStatistics(statistics_service_pb2.GetStatisticsRequest(), timeout=timeout_s)
        return statistics_from_proto(answer.statistics)

    def close(self) -> None:
        """Gives up the connection. Idempotent."""
        with self._lock:
            self._is_closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    @contextmanager
    def _calls(self) -> Iterator[grpc.Channel]:
        """The channel, and gRPC's errors as ours."""
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the client is closed; connect again")
            if self._channel is None:
                self._channel = grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS)
            channel = self._channel
        try:
            yield channel
        except grpc.RpcError as error:
            raise self.rebuilt(error) from None

    def rebuilt(self, error: grpc.RpcError) -> InterpdError:
        """The error of ``interpd.errors`` that a failed call stands for."""
        found = from_rpc_error(error)
        if type(found) is not Unavailable:
            return found
        advice = f"is a daemon listening at {self._address}? `interpd serve` starts one and prints its address"
        return Unavailable(f"{found.message}; {advice}", retry_after_s=found.retry_after_s, **found.facts)


@final
class _Stream:
    """The events of one streaming call."""

    def __init__(self, transport: GrpcTransport, call: Any, start: int) -> None:
        self._transport = transport
        self._call = call
        self._assembler = EventAssembler()
        self._assembler.next_number = start
        self._is_closed = False

    @cached_property
    def _events(self) -> Iterator[Event]:
        return self._read()

    @property
    def next_number(self) -> int:
        """Number of the first event that has not come out completely."""
        return self._assembler.next_number

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def close(self) -> None:
        """Stops reading. Idempotent."""
        self._is_closed = True
        self._call.cancel()

    def _read(self) -> Iterator[Event]:
        try:
            for message in self._call:
                event = self._assembler.feed(message.event)
                if event is not None:
                    yield event
            self._assembler.finish()
        except grpc.RpcError as error:
            found = self._transport.rebuilt(error)
            if self._is_closed and isinstance(found, Cancelled):
                return
            raise found from None


def _upload(header: Any, data: bytes, part: Callable[[Any], Any]) -> Iterator[Any]:
    yield header
    for chunk in chunks_of(data):
        yield part(chunk)


def _downloaded(parts: Iterator[Any], what: str) -> bytes:
    first: Any = next(parts, None)
    if first is None:
        raise DataLoss(f"{what}: nothing came; ask for it again")
    header = first.header
    n_bytes = header.artifact.n_bytes
    assembler = ByteAssembler(n_bytes, n_bytes, what)
    data = None
    for part in parts:
        data = assembler.feed(part.chunk)
    if data is None:
        raise DataLoss(f"{what} ended before its last chunk; ask for it again")
    if (found := hashlib.sha256(data).hexdigest()) != header.digest:
        raise DataLoss(f"{what} has the digest {found}, its header says {header.digest!r}; ask for it again")
    return data
