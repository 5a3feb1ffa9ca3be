"""GraphService: checking graphs, running them, following and ending runs.

Reading and checking a graph of the largest size takes a third of a second: large requests are looked at aside of the
event loop, small ones at once.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from interpd.errors import InterpdError, InvalidGraph, InvalidRequest, LimitExceeded, RunNotFound, Violation
from interpd.graph.check import check
from interpd.graph.run import Event, Result, RunRequest
from interpd.graph.schema import Manifest
from interpd.scheduler.interface import Front, RunHandle
from interpd.service.aside import Aside
from interpd.service.interceptors import Call
from interpd.service.messages import report_to_proto, violations_to_proto
from interpd.wire.chunks import CHUNK_BYTES
from interpd.wire.events import accepted_to_proto, event_fields
from interpd.wire.graphs import request_from_proto, spec_from_proto
from interpd.wire.v1 import graph_service_pb2 as pb
from interpd.wire.v1 import run_pb2

N_REMEMBERED = 4096
"""Requests whose content is remembered, to tell a call that is sent again from another one with the same id."""

LARGE_BYTES = 8 << 10
"""A message from this size on is read and checked aside; at 36 us per node, a smaller one takes some 10 ms."""

LONGEST_LINE = 64
"""Large messages that may wait for their check."""

PACKET_BYTES = 64 << 10
"""Of results in one response, unless one piece alone has more."""

PACKET_MESSAGES = 64
"""In one response."""

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")


class GraphServicer:
    """Answers for ``front``."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._aside = Aside(LONGEST_LINE)
        self._asked: OrderedDict[str, bytes] = OrderedDict()
        self._entering: dict[str, asyncio.Event] = {}
        """Runs that are being read and checked."""

    async def validate_graph(self, request: pb.ValidateGraphRequest, call: Call) -> pb.ValidateGraphResponse:
        """The checker's verdict, with the real numbers of tokens when the graph is sound without them."""
        if (huge := self._too_many(request.spec)) is not None:
            return pb.ValidateGraphResponse(violations=violations_to_proto([huge]))
        try:
            run = await self._aside.run(spec_from_proto, request.spec)
        except InvalidGraph as error:
            return pb.ValidateGraphResponse(violations=violations_to_proto(error.violations))
        manifest = self._front.manifest(run.model)
        report = await self._aside.run(check, run, manifest)
        if report.violations:
            return report_to_proto(report)
        return await self._with_tokens(run, manifest)

    async def _with_tokens(self, run: RunRequest, manifest: Manifest) -> pb.ValidateGraphResponse:
        try:
            tokens = await self._front.tokenize(run.model, run.prompts)
        except InvalidRequest as error:
            return pb.ValidateGraphResponse(violations=violations_to_proto([_untokenisable(error)]))
        report = await self._aside.run(check, run, manifest, [prompt.lengths for prompt in tokens])
        return report_to_proto(report, tokens)

    async def run_graph(self, request: pb.RunGraphRequest, call: Call) -> AsyncGenerator[pb.RunGraphResponse, None]:
        """The events of a new run, or of the run that this very request started before."""
        if (huge := self._too_many(request.spec)) is not None:
            raise LimitExceeded(str(huge), path=huge.path)
        is_large = request.ByteSize() > LARGE_BYTES
        run, content = await self._looked_at(is_large, _read, request, call.deadline_s)
        # the same request may come again while its first coming is being checked
        while (entering := self._entering.get(run.run_id)) is not None:
            await entering.wait()
        self._entering[run.run_id] = asyncio.Event()
        try:
            handle = await self._handle(run, content, is_large)
        finally:
            self._entering.pop(run.run_id).set()
        # nothing waits between taking hold and following, so that a hold is always let go
        async with aclosing(_followed(handle, 0, pb.RunGraphResponse)) as responses:
            async for response in responses:
                yield response

    async def _handle(self, run: RunRequest, content: bytes, is_large: bool) -> RunHandle:
        asked_before = self._asked.get(run.run_id)
        if asked_before is None:
            report = await self._aside.run(check, run, self._front.manifest(run.model)) if is_large else None
            handle = self._front.submit(run, report)
            self._remember(run.run_id, content)
            return handle
        if asked_before == content:
            return self._front.attach(run.run_id)
        raise InvalidRequest(
            f"request_id {run.run_id!r} names another request that was sent before; choose a new one for each run",
            run=run.run_id,
        )

    async def _looked_at(self, is_large: bool, function: Callable[..., _T], *args: object) -> _T:
        return await self._aside.run(function, *args) if is_large else function(*args)

    def _too_many(self, spec: run_pb2.RunSpec) -> Violation | None:
        """What the checker would say, before anything is read: a request that is too large shall cost nothing."""
        try:
            limits = self._front.manifest(spec.model).limits
        except InterpdError:
            return None  # whoever needs the model says it better
        counts = (
            ("graph.nodes", "nodes", len(spec.graph.nodes), limits.n_nodes),
            ("graph.outputs", "outputs", len(spec.graph.outputs), limits.n_outputs),
            ("prompts", "prompts", len(spec.prompts), limits.n_prompts),
        )
        for path, what, n, most in counts:
            if n > most:
                return Violation("LIMIT", path, f"{n} {what}, at most {most} are allowed")
        return None

    def attach_run(self, request: pb.AttachRunRequest, call: Call) -> AsyncGenerator[pb.AttachRunResponse, None]:
        """The events of a known run from a number on."""
        handle = self._front.attach(request.run_id)
        return _followed(handle, request.from_number, pb.AttachRunResponse)

    async def cancel_run(self, request: pb.CancelRunRequest, call: Call) -> pb.CancelRunResponse:
        """Nothing, once the run's end is under way. A run that has ended and is no longer kept may be cancelled too."""
        try:
            self._front.cancel(request.run_id)
        except RunNotFound:
            if request.run_id not in self._asked:
                raise
        return pb.CancelRunResponse()

    def close(self) -> None:
        """Gives up the thread in which large requests are looked at."""
        self._aside.close()

    def _remember(self, run_id: str, content: bytes) -> None:
        self._asked[run_id] = content
        if len(self._asked) > N_REMEMBERED:
            self._asked.popitem(last=False)


def _read(request: pb.RunGraphRequest, deadline_s: float | None) -> tuple[RunRequest, bytes]:
    """The request, and a digest of all that it says."""
    content = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    return request_from_proto(request, deadline_s=deadline_s), content


def _untokenisable(error: InvalidRequest) -> Violation:
    return Violation("BAD_PROMPT", "prompts", error.message)


async def _followed(handle: RunHandle, start: int, response: type[_M]) -> AsyncGenerator[_M, None]:
    """Responses with all messages of a run; whoever stops reading lets the run go.

    Small messages that are at hand together share a response. No more than one large one is made before the one before
    it was sent.
    """
    try:
        yield response(event=accepted_to_proto(handle.run_id, start))
        number, event, packet = start, None, _Packet(response)
        async with aclosing(handle.events(start)) as events:
            async for event in events:
                try:
                    async for fields in _arrived(event, number):
                        if packet.is_full_with(fields):
                            yield packet.take()
                        packet.add(fields)
                        if packet.is_large:
                            yield packet.take()
                except InterpdError:
                    # what ends the stream comes after all that happened before
                    if packet:
                        yield packet.take()
                    raise
                number += 1
                if packet and not handle.has(number):
                    yield packet.take()
        if event is None:
            raise InvalidRequest(f"run {handle.run_id!r} ended before event {start}", run=handle.run_id)
    finally:
        handle.release()


async def _arrived(event: Event, number: int) -> AsyncIterator[dict[str, Any]]:
    """The fields of each message of an event as soon as what they need is there; fewer when it will never be."""
    messages = event_fields(event, number)
    if isinstance(event, Result) and event.arriving is not None:
        yield next(messages)
        n_bytes = len(event.tensor.data)
        for end in (*range(CHUNK_BYTES, n_bytes, CHUNK_BYTES), n_bytes):
            # what has become of the run is told by its next event
            if not await event.arriving.wait(end):
                return
            yield next(messages)
    for fields in messages:
        yield fields


class _Packet(Generic[_M]):
    """Messages of a run that travel together."""

    def __init__(self, response: type[_M]) -> None:
        self._response = response
        self._fields: list[dict[str, Any]] = []
        self._n_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._fields)

    def is_full_with(self, fields: dict[str, Any]) -> bool:
        """Whether what is in it has to go before this message."""
        too_large = self._n_bytes + _data_bytes(fields) > PACKET_BYTES
        return bool(self) and (too_large or len(self._fields) == PACKET_MESSAGES)

    @property
    def is_large(self) -> bool:
        """Whether it need not wait for company: more of the same result may be long in coming."""
        return self._n_bytes >= PACKET_BYTES

    def add(self, fields: dict[str, Any]) -> None:
        """Puts a message in."""
        self._fields.append(fields)
        self._n_bytes += _data_bytes(fields)

    def take(self) -> _M:
        """The response with all that is in it."""
        (first, *more), self._fields, self._n_bytes = self._fields, [], 0
        return self._response(event=first, more=more)


def _data_bytes(fields: dict[str, Any]) -> int:
    return len(fields["tensor_chunk"]["chunk"]["data"]) if "tensor_chunk" in fields else 0
