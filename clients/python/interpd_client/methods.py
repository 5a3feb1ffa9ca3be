"""The methods of the service, by name: where each is, and whether parts are sent or come back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory

from interpd.wire.v1 import (
    artifact_service_pb2,
    graph_service_pb2,
    model_service_pb2,
    plugin_service_pb2,
    statistics_service_pb2,
)


@dataclass(frozen=True, slots=True)
class Method:
    """One method."""

    path: str
    """As gRPC calls it: ``/interpd.v1.ModelService/ListModels``."""
    answer: type[Any]
    """Class of the messages that come back."""
    uploads: bool
    """Whether its request has parts."""
    streams: bool
    """Whether its answer has parts."""


METHODS: Mapping[str, Method] = {
    method.name: Method(
        path=f"/{service.full_name}/{method.name}",
        answer=message_factory.GetMessageClass(method.output_type),
        uploads=method.client_streaming,
        streams=method.server_streaming,
    )
    for module in (
        artifact_service_pb2,
        graph_service_pb2,
        model_service_pb2,
        plugin_service_pb2,
        statistics_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""No two services have methods of one name."""
