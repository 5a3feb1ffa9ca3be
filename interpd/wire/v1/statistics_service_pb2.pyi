from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatisticsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NamedCount(_message.Message):
    __slots__ = ("name", "count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    count: int
    def __init__(self, name: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ModelStatistics(_message.Message):
    __slots__ = ("name", "n_queued", "n_running", "n_restarts", "n_passes", "n_shared_passes", "rows_per_pass", "n_tokens", "busy_s", "resident_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    N_QUEUED_FIELD_NUMBER: _ClassVar[int]
    N_RUNNING_FIELD_NUMBER: _ClassVar[int]
    N_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    N_PASSES_FIELD_NUMBER: _ClassVar[int]
    N_SHARED_PASSES_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_PASS_FIELD_NUMBER: _ClassVar[int]
    N_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    n_queued: int
    n_running: int
    n_restarts: int
    n_passes: int
    n_shared_passes: int
    rows_per_pass: float
    n_tokens: int
    busy_s: float
    resident_bytes: int
    def __init__(self, name: _Optional[str] = ..., n_queued: _Optional[int] = ..., n_running: _Optional[int] = ..., n_restarts: _Optional[int] = ..., n_passes: _Optional[int] = ..., n_shared_passes: _Optional[int] = ..., rows_per_pass: _Optional[float] = ..., n_tokens: _Optional[int] = ..., busy_s: _Optional[float] = ..., resident_bytes: _Optional[int] = ...) -> None: ...

class Statistics(_message.Message):
    __slots__ = ("uptime_s", "draining", "n_accepted", "n_refused", "n_ended", "n_kept", "kept_bytes", "models", "owners")
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    N_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    N_REFUSED_FIELD_NUMBER: _ClassVar[int]
    N_ENDED_FIELD_NUMBER: _ClassVar[int]
    N_KEPT_FIELD_NUMBER: _ClassVar[int]
    KEPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    uptime_s: float
    draining: bool
    n_accepted: int
    n_refused: _containers.RepeatedCompositeFieldContainer[NamedCount]
    n_ended: _containers.RepeatedCompositeFieldContainer[NamedCount]
    n_kept: int
    kept_bytes: int
    models: _containers.RepeatedCompositeFieldContainer[ModelStatistics]
    owners: _containers.RepeatedCompositeFieldContainer[NamedCount]
    def __init__(self, uptime_s: _Optional[float] = ..., draining: bool = ..., n_accepted: _Optional[int] = ..., n_refused: _Optional[_Iterable[_Union[NamedCount, _Mapping]]] = ..., n_ended: _Optional[_Iterable[_Union[NamedCount, _Mapping]]] = ..., n_kept: _Optional[int] = ..., kept_bytes: _Optional[int] = ..., models: _Optional[_Iterable[_Union[ModelStatistics, _Mapping]]] = ..., owners: _Optional[_Iterable[_Union[NamedCount, _Mapping]]] = ...) -> None: ...

class GetStatisticsResponse(_message.Message):
    __slots__ = ("statistics",)
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    statistics: Statistics
    def __init__(self, statistics: _Optional[_Union[Statistics, _Mapping]] = ...) -> None: ...
