"""What both gRPC transports know: how a channel is set up, how its calls are made, and what their errors mean."""

from typing import Any

import grpc

from interpd.errors import InterpdError, Unavailable
from interpd.wire.status import from_rpc_error
from interpd_client.methods import METHODS

CHANNEL_OPTIONS = (
    # manifests name every module; gRPC takes 4 MiB by default
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # a laptop that slept shall notice within a minute that its connection is gone
    ("grpc.keepalive_time_ms", 45_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.http2.ping_timeout_ms", 15_000),
)


def checked_address(address: str) -> str:
    """``address``. Raises ``ValueError`` where it is no address: without a port, or with the scheme of a web page."""
    port = address.rpartition(":")[2]
    is_port = port.isdecimal() and 0 < int(port) < 1 << 16
    is_page = address.startswith(("http://", "https://"))
    if is_page or not (is_port or address.startswith("unix")):
        raise ValueError(f"an address is host:port, as in 'localhost:7700', got {address!r}")
    return address


def call_on(channel: Any, name: str) -> Any:
    """What calls the method ``name`` on a channel, of grpc or of grpc.aio."""
    method = METHODS[name]
    kind = f"{'stream' if method.uploads else 'unary'}_{'stream' if method.streams else 'unary'}"
    return getattr(channel, kind)(
        method.path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=method.answer.FromString,
    )


def rebuilt(error: grpc.RpcError, address: str) -> InterpdError:
    """The error of ``interpd.errors`` that a failed call stands for."""
    found = from_rpc_error(error)
    if type(found) is not Unavailable:
        return found
    advice = f"is a daemon listening at {address}? `interpd serve` starts one and prints its address"
    return Unavailable(f"{found.message}; {advice}", retry_after_s=found.retry_after_s, **found.facts)
