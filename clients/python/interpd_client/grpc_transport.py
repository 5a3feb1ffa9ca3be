"""The transport that speaks gRPC to a daemon."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, final

import grpc

from interpd.errors import Cancelled
from interpd_client.grpc_channel import CHANNEL_OPTIONS, call_on, checked_address, rebuilt
from interpd_client.questions import Question
from interpd_client.service_transport import Messages, ServiceTransport

_T = TypeVar("_T")

ENDS_WITHIN_S = 2.0
"""How long is waited for gRPC to be done with a call that has ended; it takes less than a millisecond."""


@final
class GrpcTransport(ServiceTransport):
    """A daemon at ``host:port``. The connection is made by the first call."""

    def __init__(self, address: str) -> None:
        self._address = checked_address(address)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"the daemon at {self._address}"

    def close(self) -> None:
        """Gives up the connection. Idempotent."""
        with self._lock:
            self._is_closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _ask(self, question: Question[_T], timeout_s: float | None) -> _T:
        call = call_on(self._opened(), question.method)
        with self._errors():
            return question.read(call(question.sent, timeout=timeout_s))

    def _stream(self, question: Question[Any], timeout_s: float | None) -> Messages:
        call = call_on(self._opened(), question.method)
        with self._errors():
            return _Call(call(question.sent, timeout=timeout_s), self._errors)

    def _opened(self) -> grpc.Channel:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the client is closed; connect again")
            if self._channel is None:
                self._channel = grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS)
            return self._channel

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """gRPC's errors as ours."""
        try:
            yield
        except grpc.RpcError as error:
            raise rebuilt(error, self._address) from None


@final
class _Call(Messages):
    """A streaming call.

    Whoever has ended one may be at the end of the program. gRPC's thread must have done with the call by then: stopped
    in the middle, it would keep the call's lock, for which the call's finalizer waits for ever.
    """

    def __init__(self, call: Any, errors: Callable[[], Any]) -> None:
        self._call, self._errors = call, errors
        self._is_closed = False
        self._is_done = threading.Event()
        if not call.add_callback(self._is_done.set):
            self._is_done.set()

    def __iter__(self) -> Iterator[Any]:
        try:
            with self._errors():
                yield from self._call
            self._is_done.wait(ENDS_WITHIN_S)
        except Cancelled:
            if not self._is_closed:
                raise

    def close(self) -> None:
        """Ends the call."""
        self._is_closed = True
        self._call.cancel()
        self._is_done.wait(ENDS_WITHIN_S)
