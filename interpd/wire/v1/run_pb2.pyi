from . import graph_pb2 as _graph_pb2
from . import prompt_pb2 as _prompt_pb2
from . import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StopReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STOP_REASON_UNSPECIFIED: _ClassVar[StopReason]
    STOP_REASON_LENGTH: _ClassVar[StopReason]
    STOP_REASON_EOS: _ClassVar[StopReason]
    STOP_REASON_STOP_STRING: _ClassVar[StopReason]
    STOP_REASON_STOP_TOKEN: _ClassVar[StopReason]
STOP_REASON_UNSPECIFIED: StopReason
STOP_REASON_LENGTH: StopReason
STOP_REASON_EOS: StopReason
STOP_REASON_STOP_STRING: StopReason
STOP_REASON_STOP_TOKEN: StopReason

class RunSpec(_message.Message):
    __slots__ = ("model", "prompts", "graph", "generation", "reproducible", "stream_tokens", "adapter")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REPRODUCIBLE_FIELD_NUMBER: _ClassVar[int]
    STREAM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompts: _containers.RepeatedCompositeFieldContainer[_prompt_pb2.Prompt]
    graph: _graph_pb2.Graph
    generation: _prompt_pb2.Generation
    reproducible: bool
    stream_tokens: bool
    adapter: str
    def __init__(self, model: _Optional[str] = ..., prompts: _Optional[_Iterable[_Union[_prompt_pb2.Prompt, _Mapping]]] = ..., graph: _Optional[_Union[_graph_pb2.Graph, _Mapping]] = ..., generation: _Optional[_Union[_prompt_pb2.Generation, _Mapping]] = ..., reproducible: bool = ..., stream_tokens: bool = ..., adapter: _Optional[str] = ...) -> None: ...

class RunEvent(_message.Message):
    __slots__ = ("number", "accepted", "queued", "started", "progress", "token", "tensor_header", "tensor_chunk", "done")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TENSOR_HEADER_FIELD_NUMBER: _ClassVar[int]
    TENSOR_CHUNK_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    number: int
    accepted: Accepted
    queued: Queued
    started: Started
    progress: Progress
    token: GeneratedToken
    tensor_header: _tensor_pb2.TensorHeader
    tensor_chunk: _tensor_pb2.TensorChunk
    done: Done
    def __init__(self, number: _Optional[int] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., token: _Optional[_Union[GeneratedToken, _Mapping]] = ..., tensor_header: _Optional[_Union[_tensor_pb2.TensorHeader, _Mapping]] = ..., tensor_chunk: _Optional[_Union[_tensor_pb2.TensorChunk, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("position", "reason")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    position: int
    reason: str
    def __init__(self, position: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[_prompt_pb2.Tokens]
    def __init__(self, tokens: _Optional[_Iterable[_Union[_prompt_pb2.Tokens, _Mapping]]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total", "message")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    done: float
    total: float
    message: str
    def __init__(self, done: _Optional[float] = ..., total: _Optional[float] = ..., message: _Optional[str] = ...) -> None: ...

class GeneratedToken(_message.Message):
    __slots__ = ("invoke", "step", "token_id", "text")
    INVOKE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    invoke: int
    step: int
    token_id: int
    text: str
    def __init__(self, invoke: _Optional[int] = ..., step: _Optional[int] = ..., token_id: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Generated(_message.Message):
    __slots__ = ("invoke", "token_ids", "text", "stop_reason")
    INVOKE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    invoke: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    text: str
    stop_reason: StopReason
    def __init__(self, invoke: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., text: _Optional[str] = ..., stop_reason: _Optional[_Union[StopReason, str]] = ...) -> None: ...

class PluginVersion(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ArtifactVersion(_message.Message):
    __slots__ = ("name", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("graph_digest", "model", "model_revision", "plugins", "engine", "dtype", "device", "artifacts", "adapter", "adapter_digest")
    GRAPH_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_REVISION_FIELD_NUMBER: _ClassVar[int]
    PLUGINS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    graph_digest: str
    model: str
    model_revision: str
    plugins: _containers.RepeatedCompositeFieldContainer[PluginVersion]
    engine: str
    dtype: str
    device: str
    artifacts: _containers.RepeatedCompositeFieldContainer[ArtifactVersion]
    adapter: str
    adapter_digest: str
    def __init__(self, graph_digest: _Optional[str] = ..., model: _Optional[str] = ..., model_revision: _Optional[str] = ..., plugins: _Optional[_Iterable[_Union[PluginVersion, _Mapping]]] = ..., engine: _Optional[str] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., artifacts: _Optional[_Iterable[_Union[ArtifactVersion, _Mapping]]] = ..., adapter: _Optional[str] = ..., adapter_digest: _Optional[str] = ...) -> None: ...

class Cost(_message.Message):
    __slots__ = ("n_tokens", "n_layers_run", "n_passes", "bytes_returned", "queued_ms", "run_ms", "shared_with")
    N_TOKENS_FIELD_NUMBER: _ClassVar[int]
    N_LAYERS_RUN_FIELD_NUMBER: _ClassVar[int]
    N_PASSES_FIELD_NUMBER: _ClassVar[int]
    BYTES_RETURNED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MS_FIELD_NUMBER: _ClassVar[int]
    RUN_MS_FIELD_NUMBER: _ClassVar[int]
    SHARED_WITH_FIELD_NUMBER: _ClassVar[int]
    n_tokens: int
    n_layers_run: int
    n_passes: int
    bytes_returned: int
    queued_ms: float
    run_ms: float
    shared_with: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, n_tokens: _Optional[int] = ..., n_layers_run: _Optional[int] = ..., n_passes: _Optional[int] = ..., bytes_returned: _Optional[int] = ..., queued_ms: _Optional[float] = ..., run_ms: _Optional[float] = ..., shared_with: _Optional[_Iterable[int]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("provenance", "cost", "generated", "non_finite", "warnings")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    GENERATED_FIELD_NUMBER: _ClassVar[int]
    NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    provenance: Provenance
    cost: Cost
    generated: _containers.RepeatedCompositeFieldContainer[Generated]
    non_finite: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, provenance: _Optional[_Union[Provenance, _Mapping]] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ..., generated: _Optional[_Iterable[_Union[Generated, _Mapping]]] = ..., non_finite: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...
