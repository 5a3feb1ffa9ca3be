"""Manifests and models to and from the wire."""

import dataclasses

from interpd.graph.schema import AbsentSite, Limits, Manifest, ModelInfo
from interpd.graph.types import TensorType
from interpd.specs import AdapterSpec, DeviceMap, ModelSpec, checked_adapter
from interpd.wire import schemas
from interpd.wire.problems import Problems, build
from interpd.wire.schemas import plain
from interpd.wire.tensors import type_from_proto, type_to_proto
from interpd.wire.v1 import manifest_pb2 as pb
from interpd.wire.v1 import model_service_pb2

_LIMITS = tuple(field.name for field in dataclasses.fields(Limits))
_MODEL = tuple(field.name for field in dataclasses.fields(ModelInfo) if field.name != "sizes")


def manifest_to_proto(manifest: Manifest) -> pb.Manifest:
    """The manifest as a message."""
    return pb.Manifest(
        model=model_info_to_proto(manifest.model),
        sites=[schemas.site_to_proto(site) for site in manifest.sites.values()],
        absent_sites=[pb.AbsentSite(name=absent.name, reason=absent.reason) for absent in manifest.absent_sites],
        modules=[schemas.module_to_proto(module) for module in manifest.modules.values()],
        parameters=[pb.ParameterSchema(name=n, type=type_to_proto(kind)) for n, kind in manifest.parameters.items()],
        ops=[schemas.op_to_proto(op) for op in manifest.ops.values()],
        artifact_kinds=[schemas.artifact_schema_to_proto(kind) for kind in manifest.artifact_kinds.values()],
        artifacts=[schemas.artifact_to_proto(artifact) for artifact in manifest.artifacts.values()],
        plugins=[schemas.plugin_to_proto(plugin) for plugin in manifest.plugins],
        limits=pb.Limits(**plain(manifest.limits, _LIMITS)),
        engine=manifest.engine,
        adapters=[schemas.adapter_to_proto(adapter) for adapter in manifest.adapters.values()],
    )


def manifest_from_proto(proto: pb.Manifest) -> Manifest:
    """The manifest. Raises ``DataLoss`` when it holds what this version cannot read."""
    problems = Problems()
    sites = (schemas.site_from_proto(site, f"sites.{site.name}", problems) for site in proto.sites)
    ops = (schemas.op_from_proto(op, f"ops.{op.name}", problems) for op in proto.ops)
    kinds = (schemas.artifact_schema_from_proto(k, f"artifact_kinds.{k.kind}", problems) for k in proto.artifact_kinds)
    manifest = Manifest(
        model=model_info_from_proto(proto.model),
        sites={site.name: site for site in sites},
        absent_sites=tuple(AbsentSite(absent.name, absent.reason) for absent in proto.absent_sites),
        modules={module.path: schemas.module_from_proto(module) for module in proto.modules},
        parameters=_parameters(proto, problems),
        ops={op.name: op for op in ops},
        artifact_kinds={kind.kind: kind for kind in kinds},
        artifacts={artifact.name: schemas.artifact_from_proto(artifact) for artifact in proto.artifacts},
        plugins=tuple(schemas.plugin_from_proto(p, f"plugins.{p.name}", problems) for p in proto.plugins),
        limits=Limits(**plain(proto.limits, _LIMITS)),
        engine=proto.engine,
        adapters={adapter.name: schemas.adapter_from_proto(adapter) for adapter in proto.adapters},
    )
    problems.raise_as_data_loss("the model's manifest")
    return manifest


def _parameters(proto: pb.Manifest, problems: Problems) -> dict[str, TensorType]:
    return {p.name: type_from_proto(p.type, f"parameters.{p.name}", problems) for p in proto.parameters}


def model_info_to_proto(info: ModelInfo) -> pb.ModelInfo:
    """Facts about a model, as a message."""
    return pb.ModelInfo(**plain(info, _MODEL), sizes=schemas.axis_sizes(tuple(info.sizes.items())))


def model_info_from_proto(proto: pb.ModelInfo) -> ModelInfo:
    """Facts about a model."""
    return ModelInfo(**plain(proto, _MODEL), sizes={size.name: size.size for size in proto.sizes})


def model_spec_to_proto(spec: ModelSpec) -> model_service_pb2.ModelSpec:
    """Which model to load, as a message. Raises ``InvalidRequest`` for what cannot be sent."""
    problems = Problems()
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(ModelSpec)}
    fields["adapters"] = [adapter_spec_to_proto(adapter) for adapter in spec.adapters]
    fields["device_map"] = _device_map_to_proto(spec.device_map, problems)
    proto = build(model_service_pb2.ModelSpec, problems, "spec", **fields)
    problems.raise_if_any()
    return proto


def model_spec_from_proto(proto: model_service_pb2.ModelSpec) -> ModelSpec:
    """Which model to load. Raises ``InvalidRequest``."""
    problems = Problems()
    if not proto.source:
        problems.add("spec.source", "a hub id or a folder is needed, got an empty text")
    for name in ("num_gpus", "num_cpus"):
        if not 0 <= getattr(proto, name) < 1e6:
            problems.add(f"spec.{name}", f"a number, at least 0, is needed, got {getattr(proto, name)}")
    replicas = proto.replicas if proto.HasField("replicas") else 1
    if replicas == 0:
        problems.add("spec.replicas", "at least 1 is needed, got 0")
    problems.raise_if_any()
    return ModelSpec(
        source=proto.source,
        name=proto.name,
        revision=proto.revision or None,
        dtype=proto.dtype or "auto",
        device=proto.device or "auto",
        num_gpus=proto.num_gpus,
        num_cpus=proto.num_cpus if proto.HasField("num_cpus") else 0.0,
        replicas=replicas,
        adapters=tuple(map(adapter_spec_from_proto, proto.adapters)),
        device_map=proto.device_map.policy or tuple((one.module, one.gpu) for one in proto.device_map.modules) or "",
    )


def _device_map_to_proto(device_map: DeviceMap, problems: Problems) -> model_service_pb2.DeviceMap | None:
    if isinstance(device_map, str):
        return model_service_pb2.DeviceMap(policy=device_map) if device_map else None
    parts = [
        build(model_service_pb2.ModuleDevice, problems, f"device_map.{path}", module=path, gpu=gpu)
        for path, gpu in device_map
    ]
    return model_service_pb2.DeviceMap(modules=parts)


def adapter_spec_to_proto(spec: AdapterSpec) -> model_service_pb2.AdapterSpec:
    """Which adapter to load, as a message. Raises ``InvalidRequest`` for what cannot be sent."""
    problems = Problems()
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(AdapterSpec)}
    proto = build(model_service_pb2.AdapterSpec, problems, "adapter", **fields)
    problems.raise_if_any()
    return proto


def adapter_spec_from_proto(proto: model_service_pb2.AdapterSpec) -> AdapterSpec:
    """Which adapter to load. Raises ``InvalidRequest``."""
    return checked_adapter(AdapterSpec(proto.name, proto.source, proto.revision or None), "adapter")
