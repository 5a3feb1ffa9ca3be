"""PluginService: plugins as the workers found them."""

from interpd.scheduler.interface import Front
from interpd.service.interceptors import Call
from interpd.wire.schemas import plugin_to_proto
from interpd.wire.v1 import plugin_service_pb2 as pb


class PluginServicer:
    """Answers for ``front``."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def list_plugins(self, request: pb.ListPluginsRequest, call: Call) -> pb.ListPluginsResponse:
        """The plugins of one model's workers, or of all models that have been loaded."""
        names = [request.model] if request.model else [s.name for s in self._front.models() if s.state == "ready"]
        return pb.ListPluginsResponse(models=[self._plugins(name) for name in names])

    def _plugins(self, model: str) -> pb.ModelPlugins:
        return pb.ModelPlugins(model=model, plugins=map(plugin_to_proto, self._front.manifest(model).plugins))
