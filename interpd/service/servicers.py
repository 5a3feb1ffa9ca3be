"""What answers each method of the protocol: one servicer per service, over one front."""

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from interpd.scheduler.interface import Front
from interpd.service.interceptors import function_name
from interpd.service.options import ServiceOptions
from interpd.service.servicer_artifact import ArtifactServicer
from interpd.service.servicer_graph import GraphServicer
from interpd.service.servicer_model import ModelServicer
from interpd.service.servicer_plugin import PluginServicer
from interpd.service.servicer_statistics import StatisticsServicer
from interpd.wire.v1 import (
    artifact_service_pb2,
    graph_service_pb2,
    model_service_pb2,
    plugin_service_pb2,
    statistics_service_pb2,
)

SERVICES: Mapping[str, ServiceDescriptor] = {
    service.full_name: service
    for module in (
        model_service_pb2,
        graph_service_pb2,
        artifact_service_pb2,
        plugin_service_pb2,
        statistics_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
}
"""Every service of the protocol, by its full name."""


class Servicers:
    """The servicers of one front."""

    def __init__(self, front: Front, options: ServiceOptions) -> None:
        self._graph = GraphServicer(front)
        self._by_service: dict[str, object] = {
            "interpd.v1.ModelService": ModelServicer(front),
            "interpd.v1.GraphService": self._graph,
            "interpd.v1.ArtifactService": ArtifactServicer(front, options),
            "interpd.v1.PluginService": PluginServicer(front),
            "interpd.v1.StatisticsService": StatisticsServicer(front),
        }

    def of(self, service: str) -> object:
        """The servicer of the service of that full name."""
        return self._by_service[service]

    def functions(self) -> dict[str, Callable[..., Any]]:
        """What answers each method, by the method's name: no two services have methods of one name."""
        return {
            method.name: getattr(self.of(name), function_name(method))
            for name, service in SERVICES.items()
            for method in service.methods
        }

    def close(self) -> None:
        """Gives up the thread in which large requests are looked at."""
        self._graph.close()
