"""Operations, artifacts and sites as workers declare them, to and from the wire."""

from collections.abc import Sequence
from typing import Any

from interpd.graph.schema import (
    AdapterInfo,
    ArtifactInfo,
    ArtifactSchema,
    ModuleSchema,
    OpSchema,
    ParamSchema,
    PluginInfo,
    PortSchema,
    SiteSchema,
)
from interpd.wire.args import arg_from_proto, arg_to_proto
from interpd.wire.problems import Problems
from interpd.wire.tensors import type_from_proto, type_to_proto
from interpd.wire.v1 import manifest_pb2 as pb

_PORT = ("name", "variadic", "optional", "allows_const", "recomputed")
_PARAM = ("name", "kind", "required", "doc")
_OP = ("name", "version", "summary", "plugin", "is_method", "rows_mix", "differentiable", "shape_rule", "doc", "paper")
_SITE = ("name", "order", "layer", "writable", "canonical", "shares_pass", "eager_attention", "doc", "prefill_only")
_ARTIFACT = ("name", "kind", "digest", "n_bytes")
_ADAPTER = tuple(AdapterInfo.__dataclass_fields__)
_PLUGIN = ("name", "distribution", "version", "problem")

PLUGIN_STATUS_TO_PROTO: dict[str, int] = {
    name: pb.PluginStatus.Value(f"PLUGIN_STATUS_{name.upper()}") for name in ("loaded", "broken", "not_allowed")
}
_PLUGIN_STATUS_FROM_PROTO = {number: name for name, number in PLUGIN_STATUS_TO_PROTO.items()}


def plain(source: object, names: Sequence[str]) -> dict[str, Any]:
    """The fields that a dataclass and its message spell alike and hold alike."""
    return {name: getattr(source, name) for name in names}


def axis_sizes(sizes: Sequence[tuple[str, int]]) -> list[pb.AxisSize]:
    """Axis words with their sizes, as messages."""
    return [pb.AxisSize(name=name, size=size) for name, size in sizes]


def op_to_proto(schema: OpSchema) -> pb.OpSchema:
    """The operation as a message. Raises ``InvalidRequest`` for a default that no graph could hold."""
    return pb.OpSchema(
        **plain(schema, _OP),
        inputs=[_port_to_proto(port) for port in schema.inputs],
        params=[_param_to_proto(param, f"{schema.name}.{param.name}") for param in schema.params],
        outputs=[_port_to_proto(port) for port in schema.outputs],
    )


def op_from_proto(proto: pb.OpSchema, path: str, problems: Problems) -> OpSchema:
    """The operation."""
    return OpSchema(
        **plain(proto, _OP),
        inputs=tuple(_port_from_proto(port, f"{path}.inputs[{i}]", problems) for i, port in enumerate(proto.inputs)),
        params=tuple(_param_from_proto(p, f"{path}.params[{i}]", problems) for i, p in enumerate(proto.params)),
        outputs=tuple(_port_from_proto(port, f"{path}.outputs[{i}]", problems) for i, port in enumerate(proto.outputs)),
    )


def _port_to_proto(port: PortSchema) -> pb.PortSchema:
    kind = None if port.type is None else type_to_proto(port.type)
    return pb.PortSchema(**plain(port, _PORT), type=kind)


def _port_from_proto(proto: pb.PortSchema, path: str, problems: Problems) -> PortSchema:
    kind = type_from_proto(proto.type, f"{path}.type", problems) if proto.HasField("type") else None
    return PortSchema(**plain(proto, _PORT), type=kind)


def _param_to_proto(param: ParamSchema, path: str) -> pb.ParamSchema:
    problems = Problems()
    default: Any = param.default
    choices: Any = param.choices
    proto = pb.ParamSchema(
        **plain(param, _PARAM),
        default_value=None if default is None else arg_to_proto(default, f"{path}.default", problems),
        choices=[arg_to_proto(choice, f"{path}.choices[{i}]", problems) for i, choice in enumerate(choices)],
    )
    problems.raise_if_any()
    return proto


def _param_from_proto(proto: pb.ParamSchema, path: str, problems: Problems) -> ParamSchema:
    has_default = proto.HasField("default_value")
    default = arg_from_proto(proto.default_value, f"{path}.default_value", problems) if has_default else None
    choices = tuple(arg_from_proto(c, f"{path}.choices[{i}]", problems) for i, c in enumerate(proto.choices))
    return ParamSchema(**plain(proto, _PARAM), default=default, choices=choices)


def site_to_proto(site: SiteSchema) -> pb.SiteSchema:
    """The site as a message."""
    return pb.SiteSchema(**plain(site, _SITE), type=type_to_proto(site.type))


def site_from_proto(proto: pb.SiteSchema, path: str, problems: Problems) -> SiteSchema:
    """The site."""
    return SiteSchema(**plain(proto, _SITE), type=type_from_proto(proto.type, f"{path}.type", problems))


def module_to_proto(module: ModuleSchema) -> pb.ModuleSchema:
    """The module as a message."""
    appends = [pb.AxisSize(name=name, size=size) for name, size in module.appends]
    return pb.ModuleSchema(**plain(module, ("path", "kind", "d_in", "d_out", "d_out_name", "n_ids")), appends=appends)


def module_from_proto(proto: pb.ModuleSchema) -> ModuleSchema:
    """The module."""
    sizes = {name: getattr(proto, name) if proto.HasField(name) else None for name in ("d_in", "d_out", "n_ids")}
    appends = tuple((axis.name, axis.size) for axis in proto.appends)
    return ModuleSchema(**plain(proto, ("path", "kind", "d_out_name")), **sizes, appends=appends)


def artifact_schema_to_proto(schema: ArtifactSchema) -> pb.ArtifactSchema:
    """The kind of artifact as a message."""
    fields = [pb.ArtifactField(name=name, type=type_to_proto(kind)) for name, kind in schema.fields]
    return pb.ArtifactSchema(**plain(schema, ("kind", "plugin", "summary")), fields=fields)


def artifact_schema_from_proto(proto: pb.ArtifactSchema, path: str, problems: Problems) -> ArtifactSchema:
    """The kind of artifact."""
    fields = tuple((f.name, type_from_proto(f.type, f"{path}.fields.{f.name}", problems)) for f in proto.fields)
    return ArtifactSchema(**plain(proto, ("kind", "plugin", "summary")), fields=fields)


def artifact_to_proto(artifact: ArtifactInfo) -> pb.ArtifactInfo:
    """The artifact as a message."""
    return pb.ArtifactInfo(**plain(artifact, _ARTIFACT), dims=axis_sizes(artifact.dims))


def artifact_from_proto(proto: pb.ArtifactInfo) -> ArtifactInfo:
    """The artifact."""
    return ArtifactInfo(**plain(proto, _ARTIFACT), dims=tuple((dim.name, dim.size) for dim in proto.dims))


def adapter_to_proto(adapter: AdapterInfo) -> pb.AdapterInfo:
    """The adapter as a message."""
    return pb.AdapterInfo(**plain(adapter, _ADAPTER))


def adapter_from_proto(proto: pb.AdapterInfo) -> AdapterInfo:
    """The adapter."""
    return AdapterInfo(**plain(proto, _ADAPTER))


def plugin_to_proto(plugin: PluginInfo) -> pb.PluginInfo:
    """The plugin as a message."""
    return pb.PluginInfo(**plain(plugin, _PLUGIN), status=PLUGIN_STATUS_TO_PROTO[plugin.status], ops=plugin.ops)


def plugin_from_proto(proto: pb.PluginInfo, path: str, problems: Problems) -> PluginInfo:
    """The plugin; a problem for an unknown status."""
    if proto.status not in _PLUGIN_STATUS_FROM_PROTO:
        problems.add(f"{path}.status", f"status {proto.status} is none of {', '.join(PLUGIN_STATUS_TO_PROTO)}")
    status = _PLUGIN_STATUS_FROM_PROTO.get(proto.status, "broken")
    return PluginInfo(**plain(proto, _PLUGIN), status=status, ops=tuple(proto.ops))
