from . import manifest_pb2 as _manifest_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListPluginsRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class ModelPlugins(_message.Message):
    __slots__ = ("model", "plugins")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PLUGINS_FIELD_NUMBER: _ClassVar[int]
    model: str
    plugins: _containers.RepeatedCompositeFieldContainer[_manifest_pb2.PluginInfo]
    def __init__(self, model: _Optional[str] = ..., plugins: _Optional[_Iterable[_Union[_manifest_pb2.PluginInfo, _Mapping]]] = ...) -> None: ...

class ListPluginsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelPlugins]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelPlugins, _Mapping]]] = ...) -> None: ...
