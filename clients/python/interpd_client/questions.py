"""What is asked of a service, as messages: how each question is written and how its answer is read. Sends nothing."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from interpd.errors import DataLoss
from interpd.graph.check import CheckReport
from interpd.graph.ir import Prompt
from interpd.graph.run import RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest, PluginInfo
from interpd.graph.types import TensorData
from interpd.scheduler.interface import ModelStatus, Statistics
from interpd.specs import AdapterSpec, ModelSpec
from interpd.wire.chunks import ByteAssembler, chunks_of
from interpd.wire.graphs import request_to_proto, spec_to_proto
from interpd.wire.manifests import adapter_spec_to_proto, manifest_from_proto, model_spec_to_proto
from interpd.wire.problems import Problems
from interpd.wire.prompts import prompt_to_proto, tokens_from_proto
from interpd.wire.schemas import adapter_from_proto, artifact_from_proto, plugin_from_proto
from interpd.wire.tensors import DTYPE_TO_PROTO
from interpd.wire.v1 import (
    artifact_service_pb2,
    graph_service_pb2,
    model_service_pb2,
    plugin_service_pb2,
    statistics_service_pb2,
)
from interpd_client.decoding import report_from_proto, statistics_from_proto, status_from_proto

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """One call."""

    method: str
    """A key of ``METHODS``."""
    sent: Any
    """The message; for an upload an iterable of its parts."""
    read: Callable[[Any], T]
    """What the answer means: a message, or for a download an iterable of its parts. Raises ``DataLoss``."""


def models() -> Question[tuple[ModelStatus, ...]]:
    """Every model that is loaded, loading or failed."""
    return Question(
        "ListModels", model_service_pb2.ListModelsRequest(), lambda a: tuple(map(status_from_proto, a.models))
    )


def manifest(model: str) -> Question[Manifest]:
    """What a model offers."""
    return Question(
        "GetModel", model_service_pb2.GetModelRequest(model=model), lambda a: manifest_from_proto(a.manifest)
    )


def load(spec: ModelSpec) -> Question[ModelStatus]:
    """The status of a model once it serves."""
    request = model_service_pb2.LoadModelRequest(spec=model_spec_to_proto(spec))
    return Question("LoadModel", request, lambda answer: status_from_proto(answer.status))


def unload(model: str) -> Question[None]:
    """Takes a model away."""
    return Question("UnloadModel", model_service_pb2.UnloadModelRequest(model=model), _nothing)


def tokenize(model: str, prompts: Sequence[Prompt]) -> Question[tuple[Tokens, ...]]:
    """The prompts as the model's tokenizer sees them. Raises ``InvalidRequest``."""
    problems = Problems()
    sent = [prompt_to_proto(prompt, f"prompts[{i}]", problems) for i, prompt in enumerate(prompts)]
    problems.raise_if_any()
    return Question("Tokenize", model_service_pb2.TokenizeRequest(model=model, prompts=sent), _tokens)


def _tokens(answer: model_service_pb2.TokenizeResponse) -> tuple[Tokens, ...]:
    problems = Problems()
    tokens = tuple(tokens_from_proto(one, f"tokens[{i}]", problems) for i, one in enumerate(answer.tokens))
    problems.raise_as_data_loss("the tokens")
    return tokens


def validate(request: RunRequest) -> Question[CheckReport]:
    """Whether a run would be accepted, with types and costs."""
    message = graph_service_pb2.ValidateGraphRequest(spec=spec_to_proto(request))
    return Question("ValidateGraph", message, report_from_proto)


def run(request: RunRequest) -> Question[Any]:
    """The messages of a new run's events."""
    return Question("RunGraph", request_to_proto(request), _as_it_is)


def attach(run_id: str, start: int) -> Question[Any]:
    """The messages of a known run's events from number ``start`` on."""
    return Question("AttachRun", graph_service_pb2.AttachRunRequest(run_id=run_id, from_number=start), _as_it_is)


def cancel(run_id: str) -> Question[None]:
    """Ends a run."""
    return Question("CancelRun", graph_service_pb2.CancelRunRequest(run_id=run_id), _nothing)


def put_blob(model: str, digest: str, tensor: TensorData) -> Question[None]:
    """Uploads a large constant for the workers of ``model`` (``""``: of all)."""
    message = artifact_service_pb2.UploadBlobRequest
    dtype: Any = DTYPE_TO_PROTO[tensor.dtype]
    header = artifact_service_pb2.UploadBlobHeader(model=model, digest=digest, dtype=dtype, shape=tensor.shape)
    parts = _parts(message(header=header), tensor.data, lambda chunk: message(chunk=chunk))
    return Question("UploadBlob", parts, _nothing)


def put_artifact(model: str, name: str, kind: str, data: bytes) -> Question[ArtifactInfo]:
    """Uploads a safetensors file as a named artifact."""
    message = artifact_service_pb2.UploadArtifactRequest
    digest = hashlib.sha256(data).hexdigest()
    header = artifact_service_pb2.UploadArtifactHeader(
        model=model, name=name, kind=kind, n_bytes=len(data), digest=digest
    )
    parts = _parts(message(header=header), data, lambda chunk: message(chunk=chunk))
    return Question("UploadArtifact", parts, lambda answer: artifact_from_proto(answer.artifact))


def get_artifact(model: str, name: str) -> Question[bytes]:
    """The file of an artifact."""
    request = artifact_service_pb2.DownloadArtifactRequest(model=model, name=name)
    return Question("DownloadArtifact", request, lambda parts: _downloaded(parts, f"artifact {name!r}"))


def delete_artifact(model: str, name: str) -> Question[None]:
    """Takes an artifact away."""
    return Question("DeleteArtifact", artifact_service_pb2.DeleteArtifactRequest(model=model, name=name), _nothing)


def artifacts(model: str) -> Question[tuple[ArtifactInfo, ...]]:
    """The artifacts that the workers of a model know."""
    request = artifact_service_pb2.ListArtifactsRequest(model=model)
    return Question("ListArtifacts", request, lambda answer: tuple(map(artifact_from_proto, answer.artifacts)))


def plugins() -> Question[dict[str, tuple[PluginInfo, ...]]]:
    """The plugins that the workers of each model found."""
    return Question("ListPlugins", plugin_service_pb2.ListPluginsRequest(), _plugins)


def _plugins(answer: plugin_service_pb2.ListPluginsResponse) -> dict[str, tuple[PluginInfo, ...]]:
    problems = Problems()
    found = {
        model.model: tuple(plugin_from_proto(one, f"plugins.{one.name}", problems) for one in model.plugins)
        for model in answer.models
    }
    problems.raise_as_data_loss("the list of plugins")
    return found


def statistics() -> Question[Statistics]:
    """Counters of the daemon."""
    request = statistics_service_pb2.GetStatisticsRequest()
    return Question("GetStatistics", request, lambda answer: statistics_from_proto(answer.statistics))


def _nothing(answer: object) -> None:
    """What an answer without content means."""


def _as_it_is(answer: Any) -> Any:
    """A message of a run, which only an ``EventAssembler`` understands."""
    return answer


def load_adapter(model: str, spec: AdapterSpec) -> Question[AdapterInfo]:
    """An adapter of a model, once requests can ask for it."""
    request = model_service_pb2.LoadAdapterRequest(model=model, spec=adapter_spec_to_proto(spec))
    return Question("LoadAdapter", request, lambda answer: adapter_from_proto(answer.adapter))


def unload_adapter(model: str, name: str) -> Question[None]:
    """Takes an adapter away."""
    return Question("UnloadAdapter", model_service_pb2.UnloadAdapterRequest(model=model, adapter=name), _nothing)


def _parts(header: Any, data: bytes, part: Callable[[Any], Any]) -> Iterator[Any]:
    yield header
    for chunk in chunks_of(data):
        yield part(chunk)


def _downloaded(parts: Iterable[Any], what: str) -> bytes:
    remaining = iter(parts)
    first: Any = next(remaining, None)
    if first is None:
        raise DataLoss(f"{what}: nothing came; ask for it again")
    header = first.header
    n_bytes = header.artifact.n_bytes
    assembler = ByteAssembler(n_bytes, n_bytes, what)
    data = None
    for part in remaining:
        data = assembler.feed(part.chunk)
    if data is None:
        raise DataLoss(f"{what} ended before its last chunk; ask for it again")
    if (found := hashlib.sha256(data).hexdigest()) != header.digest:
        raise DataLoss(f"{what} has the digest {found}, its header says {header.digest!r}; ask for it again")
    return bytes(data)
