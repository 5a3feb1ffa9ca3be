import asyncio
import importlib
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from interpd.errors import FeatureUnsupported, PreconditionFailed
from interpd.scheduler.interface import ModelStatus
from interpd.service.server import SERVICES, is_loopback, make_server
from interpd.wire import v1
from interpd.wire.v1 import model_service_pb2, model_service_pb2_grpc

STATUS = health_pb2.HealthCheckResponse


async def health(channel, service):
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return answer.status


async def health_becomes(channel, service, status):
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service), timeout=5)
    async for answer in watch:
        if answer.status == status:
            watch.cancel()
            return


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "10.0.0.1", "example.org", "", "unix:/tmp/x"])
async def test_any_address_but_loopback_is_refused_with_the_reason(front, host):
    with pytest.raises(FeatureUnsupported) as caught:
        make_server(front, host=host, port=7700)
    assert str(caught.value) == (
        f"cannot listen on {host!r}: only loopback addresses (127.0.0.1, ::1, localhost) are served, because callers "
        "are not authenticated and nothing is encrypted yet; reach the daemon with ssh -L 7700:localhost:7700 HOST"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_addresses_are_known(host):
    assert is_loopback(host)


async def test_port_zero_gives_a_free_port(front):
    first, second = make_server(front), make_server(front, port=0)
    ports = {await first.start(), await second.start()}
    assert len(ports) == 2
    assert 0 not in ports
    await first.stop(0)
    await second.stop(0)


async def test_a_port_in_use_is_refused_and_not_shared(front):
    server = make_server(front)
    port = await server.start()
    with pytest.raises(PreconditionFailed, match=f"cannot listen on '127.0.0.1:{port}'"):
        await make_server(front, port=port).start()
    await server.stop(0)


async def test_health_knows_the_server_its_services_and_each_model(channel):
    await health_becomes(channel, "model/facts", STATUS.SERVING)
    assert await health(channel, "") == STATUS.SERVING
    assert await health(channel, "interpd.v1.GraphService") == STATUS.SERVING
    assert await health(channel, "model/big") == STATUS.NOT_SERVING


async def test_health_follows_models_that_come_and_go(front, channel):
    front.statuses = [ModelStatus("big", "ready")]
    front.changed.set()
    await health_becomes(channel, "model/big", STATUS.SERVING)
    await health_becomes(channel, "model/facts", STATUS.SERVICE_UNKNOWN)


async def test_a_front_that_stops_telling_of_its_models_is_logged_and_hurts_nothing_else(front, serve, caplog):
    async def watch_models():
        raise ZeroDivisionError
        yield ()

    front.watch_models = watch_models
    async with serve(front) as (_, channel):
        assert await health(channel, "") == STATUS.SERVING
        assert "the health of models is no longer kept" in caplog.text


async def test_health_of_unknown_names_is_not_found(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health(channel, "model/none")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_draining_server_is_not_serving_and_still_answers(front, serve):
    async with serve(front) as (server, channel):
        server.set_draining()
        await health_becomes(channel, "", STATUS.NOT_SERVING)
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert len((await stub.ListModels(model_service_pb2.ListModelsRequest())).models) == 2


async def test_a_stopped_server_stops_twice_and_takes_no_calls(front, serve):
    async with serve(front) as (server, channel):
        await server.stop(0)
        await server.stop(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel, "")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_stopping_lets_calls_under_way_end(front, serve):
    front.load = lambda spec: asyncio.sleep(0.2, ModelStatus("late", "ready"))
    async with serve(front) as (server, channel):
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        spec = model_service_pb2.ModelSpec(source="x")
        call = asyncio.ensure_future(stub.LoadModel(model_service_pb2.LoadModelRequest(spec=spec)))
        await asyncio.sleep(0.1)
        await server.stop(5)
        assert (await call).status.name == "late"


async def test_reflection_lists_and_describes_every_service(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest
    asked = [request(list_services=""), request(file_containing_symbol="interpd.v1.GraphService")]
    listed, described = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    assert {service.name for service in listed.list_services_response.service} == {
        "interpd.v1.ModelService",
        "interpd.v1.GraphService",
        "interpd.v1.ArtifactService",
        "interpd.v1.PluginService",
        "interpd.v1.StatisticsService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


def test_every_service_of_the_protocol_is_served():
    stubs = [path.stem for path in Path(v1.__file__).parent.glob("*_service_pb2.py")]
    files = [importlib.import_module(f"{v1.__name__}.{name}").DESCRIPTOR for name in stubs]
    assert {service.full_name for file in files for service in file.services_by_name.values()} == set(SERVICES)
