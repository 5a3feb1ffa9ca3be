from . import graph_pb2 as _graph_pb2
from . import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PluginStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLUGIN_STATUS_UNSPECIFIED: _ClassVar[PluginStatus]
    PLUGIN_STATUS_LOADED: _ClassVar[PluginStatus]
    PLUGIN_STATUS_BROKEN: _ClassVar[PluginStatus]
    PLUGIN_STATUS_NOT_ALLOWED: _ClassVar[PluginStatus]
PLUGIN_STATUS_UNSPECIFIED: PluginStatus
PLUGIN_STATUS_LOADED: PluginStatus
PLUGIN_STATUS_BROKEN: PluginStatus
PLUGIN_STATUS_NOT_ALLOWED: PluginStatus

class PortSchema(_message.Message):
    __slots__ = ("name", "type", "variadic", "optional", "allows_const", "recomputed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    VARIADIC_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    ALLOWS_CONST_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: _tensor_pb2.TensorType
    variadic: bool
    optional: bool
    allows_const: bool
    recomputed: bool
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[_tensor_pb2.TensorType, _Mapping]] = ..., variadic: bool = ..., optional: bool = ..., allows_const: bool = ..., recomputed: bool = ...) -> None: ...

class ParamSchema(_message.Message):
    __slots__ = ("name", "kind", "required", "default_value", "choices", "doc")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    required: bool
    default_value: _graph_pb2.Arg
    choices: _containers.RepeatedCompositeFieldContainer[_graph_pb2.Arg]
    doc: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., required: bool = ..., default_value: _Optional[_Union[_graph_pb2.Arg, _Mapping]] = ..., choices: _Optional[_Iterable[_Union[_graph_pb2.Arg, _Mapping]]] = ..., doc: _Optional[str] = ...) -> None: ...

class OpSchema(_message.Message):
    __slots__ = ("name", "version", "summary", "inputs", "params", "outputs", "plugin", "is_method", "rows_mix", "differentiable", "shape_rule", "doc", "paper")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PLUGIN_FIELD_NUMBER: _ClassVar[int]
    IS_METHOD_FIELD_NUMBER: _ClassVar[int]
    ROWS_MIX_FIELD_NUMBER: _ClassVar[int]
    DIFFERENTIABLE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_RULE_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    PAPER_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    summary: str
    inputs: _containers.RepeatedCompositeFieldContainer[PortSchema]
    params: _containers.RepeatedCompositeFieldContainer[ParamSchema]
    outputs: _containers.RepeatedCompositeFieldContainer[PortSchema]
    plugin: str
    is_method: bool
    rows_mix: bool
    differentiable: bool
    shape_rule: str
    doc: str
    paper: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., summary: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[PortSchema, _Mapping]]] = ..., params: _Optional[_Iterable[_Union[ParamSchema, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[PortSchema, _Mapping]]] = ..., plugin: _Optional[str] = ..., is_method: bool = ..., rows_mix: bool = ..., differentiable: bool = ..., shape_rule: _Optional[str] = ..., doc: _Optional[str] = ..., paper: _Optional[str] = ...) -> None: ...

class ArtifactField(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: _tensor_pb2.TensorType
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[_tensor_pb2.TensorType, _Mapping]] = ...) -> None: ...

class ArtifactSchema(_message.Message):
    __slots__ = ("kind", "plugin", "fields", "summary")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PLUGIN_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    plugin: str
    fields: _containers.RepeatedCompositeFieldContainer[ArtifactField]
    summary: str
    def __init__(self, kind: _Optional[str] = ..., plugin: _Optional[str] = ..., fields: _Optional[_Iterable[_Union[ArtifactField, _Mapping]]] = ..., summary: _Optional[str] = ...) -> None: ...

class AxisSize(_message.Message):
    __slots__ = ("name", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class ArtifactInfo(_message.Message):
    __slots__ = ("name", "kind", "digest", "n_bytes", "dims")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    N_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    digest: str
    n_bytes: int
    dims: _containers.RepeatedCompositeFieldContainer[AxisSize]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., digest: _Optional[str] = ..., n_bytes: _Optional[int] = ..., dims: _Optional[_Iterable[_Union[AxisSize, _Mapping]]] = ...) -> None: ...

class AdapterInfo(_message.Message):
    __slots__ = ("name", "source", "digest", "kind", "n_parameters", "n_modules", "problem")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    N_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    N_MODULES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    digest: str
    kind: str
    n_parameters: int
    n_modules: int
    problem: str
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., digest: _Optional[str] = ..., kind: _Optional[str] = ..., n_parameters: _Optional[int] = ..., n_modules: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class SiteSchema(_message.Message):
    __slots__ = ("name", "type", "order", "layer", "writable", "canonical", "shares_pass", "eager_attention", "doc", "prefill_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_FIELD_NUMBER: _ClassVar[int]
    SHARES_PASS_FIELD_NUMBER: _ClassVar[int]
    EAGER_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    PREFILL_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: _tensor_pb2.TensorType
    order: int
    layer: int
    writable: bool
    canonical: bool
    shares_pass: bool
    eager_attention: bool
    doc: str
    prefill_only: bool
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[_tensor_pb2.TensorType, _Mapping]] = ..., order: _Optional[int] = ..., layer: _Optional[int] = ..., writable: bool = ..., canonical: bool = ..., shares_pass: bool = ..., eager_attention: bool = ..., doc: _Optional[str] = ..., prefill_only: bool = ...) -> None: ...

class AbsentSite(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ModuleSchema(_message.Message):
    __slots__ = ("path", "kind", "d_in", "d_out", "d_out_name", "n_ids", "appends")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    D_IN_FIELD_NUMBER: _ClassVar[int]
    D_OUT_FIELD_NUMBER: _ClassVar[int]
    D_OUT_NAME_FIELD_NUMBER: _ClassVar[int]
    N_IDS_FIELD_NUMBER: _ClassVar[int]
    APPENDS_FIELD_NUMBER: _ClassVar[int]
    path: str
    kind: str
    d_in: int
    d_out: int
    d_out_name: str
    n_ids: int
    appends: _containers.RepeatedCompositeFieldContainer[AxisSize]
    def __init__(self, path: _Optional[str] = ..., kind: _Optional[str] = ..., d_in: _Optional[int] = ..., d_out: _Optional[int] = ..., d_out_name: _Optional[str] = ..., n_ids: _Optional[int] = ..., appends: _Optional[_Iterable[_Union[AxisSize, _Mapping]]] = ...) -> None: ...

class ParameterSchema(_message.Message):
    __slots__ = ("name", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: _tensor_pb2.TensorType
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[_tensor_pb2.TensorType, _Mapping]] = ...) -> None: ...

class PluginInfo(_message.Message):
    __slots__ = ("name", "distribution", "version", "status", "problem", "ops")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    distribution: str
    version: str
    status: PluginStatus
    problem: str
    ops: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., distribution: _Optional[str] = ..., version: _Optional[str] = ..., status: _Optional[_Union[PluginStatus, str]] = ..., problem: _Optional[str] = ..., ops: _Optional[_Iterable[str]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("n_nodes", "n_prompts", "n_tokens", "n_outputs", "inline_bytes", "result_bytes", "live_bytes", "run_s")
    N_NODES_FIELD_NUMBER: _ClassVar[int]
    N_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    N_TOKENS_FIELD_NUMBER: _ClassVar[int]
    N_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INLINE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESULT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUN_S_FIELD_NUMBER: _ClassVar[int]
    n_nodes: int
    n_prompts: int
    n_tokens: int
    n_outputs: int
    inline_bytes: int
    result_bytes: int
    live_bytes: int
    run_s: float
    def __init__(self, n_nodes: _Optional[int] = ..., n_prompts: _Optional[int] = ..., n_tokens: _Optional[int] = ..., n_outputs: _Optional[int] = ..., inline_bytes: _Optional[int] = ..., result_bytes: _Optional[int] = ..., live_bytes: _Optional[int] = ..., run_s: _Optional[float] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "source", "revision", "architecture", "family", "n_parameters", "n_layers", "sizes", "max_positions", "dtype", "device", "has_chat_template", "n_encoder_layers", "tokenizer")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    N_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    N_LAYERS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    MAX_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    HAS_CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    N_ENCODER_LAYERS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    revision: str
    architecture: str
    family: str
    n_parameters: int
    n_layers: int
    sizes: _containers.RepeatedCompositeFieldContainer[AxisSize]
    max_positions: int
    dtype: str
    device: str
    has_chat_template: bool
    n_encoder_layers: int
    tokenizer: str
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., revision: _Optional[str] = ..., architecture: _Optional[str] = ..., family: _Optional[str] = ..., n_parameters: _Optional[int] = ..., n_layers: _Optional[int] = ..., sizes: _Optional[_Iterable[_Union[AxisSize, _Mapping]]] = ..., max_positions: _Optional[int] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., has_chat_template: bool = ..., n_encoder_layers: _Optional[int] = ..., tokenizer: _Optional[str] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("model", "sites", "absent_sites", "modules", "parameters", "ops", "artifact_kinds", "artifacts", "plugins", "limits", "engine", "adapters")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    ABSENT_SITES_FIELD_NUMBER: _ClassVar[int]
    MODULES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_KINDS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    PLUGINS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    model: ModelInfo
    sites: _containers.RepeatedCompositeFieldContainer[SiteSchema]
    absent_sites: _containers.RepeatedCompositeFieldContainer[AbsentSite]
    modules: _containers.RepeatedCompositeFieldContainer[ModuleSchema]
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterSchema]
    ops: _containers.RepeatedCompositeFieldContainer[OpSchema]
    artifact_kinds: _containers.RepeatedCompositeFieldContainer[ArtifactSchema]
    artifacts: _containers.RepeatedCompositeFieldContainer[ArtifactInfo]
    plugins: _containers.RepeatedCompositeFieldContainer[PluginInfo]
    limits: Limits
    engine: str
    adapters: _containers.RepeatedCompositeFieldContainer[AdapterInfo]
    def __init__(self, model: _Optional[_Union[ModelInfo, _Mapping]] = ..., sites: _Optional[_Iterable[_Union[SiteSchema, _Mapping]]] = ..., absent_sites: _Optional[_Iterable[_Union[AbsentSite, _Mapping]]] = ..., modules: _Optional[_Iterable[_Union[ModuleSchema, _Mapping]]] = ..., parameters: _Optional[_Iterable[_Union[ParameterSchema, _Mapping]]] = ..., ops: _Optional[_Iterable[_Union[OpSchema, _Mapping]]] = ..., artifact_kinds: _Optional[_Iterable[_Union[ArtifactSchema, _Mapping]]] = ..., artifacts: _Optional[_Iterable[_Union[ArtifactInfo, _Mapping]]] = ..., plugins: _Optional[_Iterable[_Union[PluginInfo, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., engine: _Optional[str] = ..., adapters: _Optional[_Iterable[_Union[AdapterInfo, _Mapping]]] = ...) -> None: ...
