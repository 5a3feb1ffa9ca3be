"""Answers of the service as the domain's dataclasses, where ``interpd.wire`` has no reader for them."""

from typing import Any

from interpd.errors import Violation
from interpd.graph.check import CheckReport
from interpd.graph.estimate import Estimate
from interpd.graph.subject import Types
from interpd.scheduler.interface import ModelStatistics, ModelStatus, Statistics
from interpd.wire.manifests import model_info_from_proto
from interpd.wire.problems import Problems
from interpd.wire.schemas import plain
from interpd.wire.tensors import type_from_proto
from interpd.wire.v1 import graph_service_pb2, model_service_pb2, statistics_service_pb2

_STATES = {number: name.removeprefix("MODEL_STATE_").lower() for name, number in model_service_pb2.ModelState.items()}
_STATUS = ("name", "detail", "n_replicas", "n_ready", "n_restarts")
_ESTIMATE = ("n_tokens", "n_layers_run", "n_passes", "bytes_returned", "live_bytes")
_DAEMON = ("uptime_s", "draining", "n_accepted", "n_kept", "kept_bytes")
_COUNTS = ("n_refused", "n_ended", "owners")
_MODEL = (
    "name",
    "n_queued",
    "n_running",
    "n_restarts",
    "n_passes",
    "n_shared_passes",
    "rows_per_pass",
    "n_tokens",
    "busy_s",
    "resident_bytes",
)


def status_from_proto(proto: model_service_pb2.ModelStatus) -> ModelStatus:
    """One model as the service sees it now."""
    info = model_info_from_proto(proto.info) if proto.HasField("info") else None
    return ModelStatus(state=_STATES.get(proto.state, "unknown"), info=info, **plain(proto, _STATUS))


def statistics_from_proto(proto: statistics_service_pb2.Statistics) -> Statistics:
    """Counters of the daemon."""
    counts: dict[str, Any] = {name: {one.name: one.count for one in getattr(proto, name)} for name in _COUNTS}
    models = tuple(ModelStatistics(**plain(model, _MODEL)) for model in proto.models)
    return Statistics(**plain(proto, _DAEMON), **counts, models=models)


def report_from_proto(proto: graph_service_pb2.ValidateGraphResponse) -> CheckReport:
    """The service's verdict on a request. Raises ``DataLoss`` for types that this version cannot read."""
    problems = Problems()
    types = tuple(_types(node, f"types[{i}]", problems) for i, node in enumerate(proto.types))
    outputs = tuple((one.name, type_from_proto(one.type, f"outputs.{one.name}", problems)) for one in proto.outputs)
    problems.raise_as_data_loss("the service's verdict")
    return CheckReport(
        violations=tuple(Violation(one.code, one.path, one.message) for one in proto.violations),
        types=types,
        outputs=outputs,
        estimate=Estimate(**plain(proto.estimate, _ESTIMATE)) if proto.HasField("estimate") else None,
        notes=tuple(proto.notes),
    )


def _types(node: graph_service_pb2.NodeTypes, path: str, problems: Problems) -> Types:
    # an output without element is one whose type nobody knows
    if any(kind.WhichOneof("element") is None for kind in node.outputs):
        return None
    return tuple(type_from_proto(kind, f"{path}[{i}]", problems) for i, kind in enumerate(node.outputs))
