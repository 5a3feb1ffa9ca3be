from . import run_pb2 as _run_pb2
from . import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ValidateGraphRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: _run_pb2.RunSpec
    def __init__(self, spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ...) -> None: ...

class Violation(_message.Message):
    __slots__ = ("code", "path", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    path: str
    message: str
    def __init__(self, code: _Optional[str] = ..., path: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class NodeTypes(_message.Message):
    __slots__ = ("outputs", "text")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.TensorType]
    text: str
    def __init__(self, outputs: _Optional[_Iterable[_Union[_tensor_pb2.TensorType, _Mapping]]] = ..., text: _Optional[str] = ...) -> None: ...

class OutputType(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: _tensor_pb2.TensorType
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[_tensor_pb2.TensorType, _Mapping]] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("n_tokens", "n_layers_run", "n_passes", "bytes_returned", "live_bytes")
    N_TOKENS_FIELD_NUMBER: _ClassVar[int]
    N_LAYERS_RUN_FIELD_NUMBER: _ClassVar[int]
    N_PASSES_FIELD_NUMBER: _ClassVar[int]
    BYTES_RETURNED_FIELD_NUMBER: _ClassVar[int]
    LIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    n_tokens: int
    n_layers_run: int
    n_passes: int
    bytes_returned: int
    live_bytes: int
    def __init__(self, n_tokens: _Optional[int] = ..., n_layers_run: _Optional[int] = ..., n_passes: _Optional[int] = ..., bytes_returned: _Optional[int] = ..., live_bytes: _Optional[int] = ...) -> None: ...

class ValidateGraphResponse(_message.Message):
    __slots__ = ("violations", "types", "estimate", "notes", "n_tokens", "outputs", "n_target_tokens")
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    N_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    N_TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    violations: _containers.RepeatedCompositeFieldContainer[Violation]
    types: _containers.RepeatedCompositeFieldContainer[NodeTypes]
    estimate: Estimate
    notes: _containers.RepeatedScalarFieldContainer[str]
    n_tokens: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedCompositeFieldContainer[OutputType]
    n_target_tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, violations: _Optional[_Iterable[_Union[Violation, _Mapping]]] = ..., types: _Optional[_Iterable[_Union[NodeTypes, _Mapping]]] = ..., estimate: _Optional[_Union[Estimate, _Mapping]] = ..., notes: _Optional[_Iterable[str]] = ..., n_tokens: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[_Union[OutputType, _Mapping]]] = ..., n_target_tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class RunGraphRequest(_message.Message):
    __slots__ = ("request_id", "spec", "keep_s")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    KEEP_S_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    spec: _run_pb2.RunSpec
    keep_s: float
    def __init__(self, request_id: _Optional[str] = ..., spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., keep_s: _Optional[float] = ...) -> None: ...

class RunGraphResponse(_message.Message):
    __slots__ = ("event", "more")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    event: _run_pb2.RunEvent
    more: _containers.RepeatedCompositeFieldContainer[_run_pb2.RunEvent]
    def __init__(self, event: _Optional[_Union[_run_pb2.RunEvent, _Mapping]] = ..., more: _Optional[_Iterable[_Union[_run_pb2.RunEvent, _Mapping]]] = ...) -> None: ...

class AttachRunRequest(_message.Message):
    __slots__ = ("run_id", "from_number")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_NUMBER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    from_number: int
    def __init__(self, run_id: _Optional[str] = ..., from_number: _Optional[int] = ...) -> None: ...

class AttachRunResponse(_message.Message):
    __slots__ = ("event", "more")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    event: _run_pb2.RunEvent
    more: _containers.RepeatedCompositeFieldContainer[_run_pb2.RunEvent]
    def __init__(self, event: _Optional[_Union[_run_pb2.RunEvent, _Mapping]] = ..., more: _Optional[_Iterable[_Union[_run_pb2.RunEvent, _Mapping]]] = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class CancelRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
