"""What the front and the checker answer, as messages."""

from collections.abc import Mapping, Sequence

from interpd.errors import Violation
from interpd.graph.check import CheckReport
from interpd.graph.run import Tokens
from interpd.graph.types import TensorType
from interpd.scheduler.interface import MODEL_STATES, ModelStatistics, ModelStatus, Statistics
from interpd.wire.manifests import model_info_to_proto
from interpd.wire.schemas import plain
from interpd.wire.tensors import type_to_proto
from interpd.wire.v1 import graph_service_pb2, model_service_pb2, statistics_service_pb2, tensor_pb2

_STATES: dict[str, int] = {
    name: model_service_pb2.ModelState.Value(f"MODEL_STATE_{name.upper()}") for name in MODEL_STATES
}
_STATUS = ("name", "detail", "n_replicas", "n_ready", "n_restarts")
_MODEL = tuple(ModelStatistics.__dataclass_fields__)
_COUNTERS = ("uptime_s", "draining", "n_accepted", "n_kept", "kept_bytes")
_TABLES = ("n_refused", "n_ended", "owners")
_ESTIMATE = ("n_tokens", "n_layers_run", "n_passes", "bytes_returned", "live_bytes")


def status_to_proto(status: ModelStatus) -> model_service_pb2.ModelStatus:
    """One model now."""
    info = None if status.info is None else model_info_to_proto(status.info)
    return model_service_pb2.ModelStatus(**plain(status, _STATUS), state=_STATES[status.state], info=info)


def statistics_to_proto(statistics: Statistics) -> statistics_service_pb2.Statistics:
    """All counters."""
    return statistics_service_pb2.Statistics(
        **plain(statistics, _COUNTERS),
        **{name: _counts(getattr(statistics, name)) for name in _TABLES},
        models=[statistics_service_pb2.ModelStatistics(**plain(model, _MODEL)) for model in statistics.models],
    )


def _counts(counts: Mapping[str, int]) -> list[statistics_service_pb2.NamedCount]:
    return [statistics_service_pb2.NamedCount(name=name, count=count) for name, count in counts.items()]


def violations_to_proto(violations: Sequence[Violation]) -> list[graph_service_pb2.Violation]:
    """Reasons against a graph."""
    return [graph_service_pb2.Violation(code=v.code, path=v.path, message=v.message) for v in violations]


def report_to_proto(report: CheckReport, tokens: Sequence[Tokens] = ()) -> graph_service_pb2.ValidateGraphResponse:
    """The checker's verdict, on prompts of these tokens."""
    estimate = report.estimate
    return graph_service_pb2.ValidateGraphResponse(
        violations=violations_to_proto(report.violations),
        types=[_node_types(types) for types in report.types],
        estimate=None if estimate is None else graph_service_pb2.Estimate(**plain(estimate, _ESTIMATE)),
        notes=report.notes,
        n_tokens=[len(prompt.ids) for prompt in tokens],
        n_target_tokens=[len(prompt.target.ids) for prompt in tokens if prompt.target is not None],
        outputs=[graph_service_pb2.OutputType(name=name, type=type_to_proto(kind)) for name, kind in report.outputs],
    )


def _node_types(types: Sequence[TensorType] | None) -> graph_service_pb2.NodeTypes:
    if types is None:
        return graph_service_pb2.NodeTypes(outputs=[tensor_pb2.TensorType()], text="?")
    return graph_service_pb2.NodeTypes(outputs=map(type_to_proto, types), text=", ".join(map(str, types)))
