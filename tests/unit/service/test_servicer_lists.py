"""PluginService and StatisticsService."""

import grpc
import pytest

from interpd.wire.v1 import manifest_pb2, plugin_service_pb2, statistics_service_pb2
from interpd.wire.v1.plugin_service_pb2_grpc import PluginServiceStub
from interpd.wire.v1.statistics_service_pb2_grpc import StatisticsServiceStub


async def test_plugins_of_all_ready_models_are_listed(channel):
    answer = await PluginServiceStub(channel).ListPlugins(plugin_service_pb2.ListPluginsRequest())
    assert [model.model for model in answer.models] == ["facts"]
    (plugin,) = answer.models[0].plugins
    assert (plugin.name, plugin.status) == ("sae", manifest_pb2.PLUGIN_STATUS_LOADED)


async def test_plugins_of_an_unknown_model_are_not_found(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await PluginServiceStub(channel).ListPlugins(plugin_service_pb2.ListPluginsRequest(model="none"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_statistics_hold_every_counter(channel):
    request = statistics_service_pb2.GetStatisticsRequest()
    statistics = (await StatisticsServiceStub(channel).GetStatistics(request)).statistics
    assert (statistics.uptime_s, statistics.n_accepted, statistics.kept_bytes) == (1.5, 9, 1 << 40)
    assert [(count.name, count.count) for count in statistics.n_refused] == [("OVERLOADED", 2)]
    assert [(model.name, model.n_passes, model.rows_per_pass) for model in statistics.models] == [("facts", 7, 2.5)]
    assert statistics.owners[0].name == "local"
