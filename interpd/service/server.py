"""The gRPC server: every service of interpd.v1, health per model, reflection, on a loopback address."""

import asyncio
import ipaddress

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from interpd.errors import FeatureUnsupported, PreconditionFailed
from interpd.scheduler.interface import Front
from interpd.service.interceptors import service_handler
from interpd.service.options import ServiceOptions
from interpd.service.servicers import SERVICES, Servicers
from interpd.telemetry import Log

MODEL_HEALTH = "model/"
"""``model/<name>`` is the health service of a model."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

log = Log("service")


class Server:
    """A server that has not started yet; made by ``make_server``."""

    def __init__(self, front: Front, address: str, options: ServiceOptions) -> None:
        self._front = front
        self._address = address
        self._options = options
        self._health = health.aio.HealthServicer()
        self._grpc: grpc.aio.Server | None = None
        self._watching: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """The port, once calls are taken. Raises ``PreconditionFailed`` when the address is in use."""
        server = grpc.aio.server(options=_channel_options(self._options), maximum_concurrent_rpcs=self._options.n_calls)
        server.add_generic_rpc_handlers(tuple(_handlers(self._front, self._options)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            port = server.add_insecure_port(self._address)
        except RuntimeError as error:
            message = f"cannot listen on {self._address!r}: {error}; stop who listens there, or choose another port"
            raise PreconditionFailed(message, address=self._address) from None
        await server.start()
        for name in ("", *SERVICES):
            await self._health.set(name, _SERVING)
        self._grpc = server
        self._watching = asyncio.create_task(self._watch_models())
        self._watching.add_done_callback(_report_end)
        return port

    def set_draining(self) -> None:
        """Tells whoever asks for health that nothing serves any more; calls are still answered."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._health.enter_graceful_shutdown())

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, and ends those that last longer than ``grace_s``. Idempotent."""
        server, self._grpc = self._grpc, None
        if server is None:
            return
        self.set_draining()
        if self._draining is not None:
            await self._draining
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        await server.stop(grace_s)

    async def _watch_models(self) -> None:
        """Keeps the health of models; ends with the server."""
        known: set[str] = set()
        async for models in self._front.watch_models():
            ready = {status.name: status.state == "ready" for status in models}
            for name in known - ready.keys():
                await self._health.set(MODEL_HEALTH + name, _UNKNOWN)
            for name, is_ready in ready.items():
                await self._health.set(MODEL_HEALTH + name, _SERVING if is_ready else _NOT_SERVING)
            known = set(ready)


def make_server(
    front: Front, *, host: str = "127.0.0.1", port: int = 0, options: ServiceOptions | None = None
) -> Server:
    """A server of ``front`` that ``start`` puts on ``host`` and ``port`` (0: any free one).

    Raises:
        FeatureUnsupported: The host is not a loopback address.
    """
    if not is_loopback(host):
        raise FeatureUnsupported(
            f"cannot listen on {host!r}: only loopback addresses (127.0.0.1, ::1, localhost) are served, because "
            "callers are not authenticated and nothing is encrypted yet; reach the daemon with "
            f"ssh -L {port or 7700}:localhost:{port or 7700} HOST",
            host=host,
        )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Server(front, address, options or ServiceOptions())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _report_end(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled():
        log.error("the health of models is no longer kept", cause=repr(watching.exception()))


def _handlers(front: Front, options: ServiceOptions) -> list[grpc.GenericRpcHandler]:
    servicers = Servicers(front, options)
    return [service_handler(service, servicers.of(name), options) for name, service in SERVICES.items()]


def _channel_options(options: ServiceOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", options.message_bytes),
        ("grpc.max_send_message_length", options.message_bytes),
        ("grpc.max_metadata_size", options.metadata_bytes),
        ("grpc.absolute_max_metadata_size", 2 * options.metadata_bytes),
        ("grpc.max_concurrent_streams", options.n_streams),
        ("grpc.keepalive_time_ms", round(options.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        # clients ping while a long run says nothing; gRPC's own bound would end their connection at the third ping
        ("grpc.http2.max_ping_strikes", 0),
        # without this a second daemon on the same port would silently take half of the calls
        ("grpc.so_reuseport", 0),
    ]
