"""GraphService: checking graphs, running them, following and ending runs."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from google.protobuf.message import Message

from interpd.errors import InvalidGraph, InvalidRequest, Violation
from interpd.graph.check import CheckReport, check
from interpd.graph.run import RunRequest
from interpd.graph.schema import Manifest
from interpd.scheduler.interface import Front, RunHandle
from interpd.service.interceptors import Call
from interpd.service.messages import report_to_proto, violations_to_proto
from interpd.wire.events import accepted_to_proto, event_to_protos
from interpd.wire.graphs import request_from_proto, spec_from_proto
from interpd.wire.v1 import graph_service_pb2 as pb
from interpd.wire.v1 import run_pb2

N_REMEMBERED = 4096
"""Requests whose content is remembered, to tell a call that is sent again from another one with the same id."""

_M = TypeVar("_M", bound=Message)


class GraphServicer:
    """Answers for ``front``."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._asked: OrderedDict[str, bytes] = OrderedDict()

    async def validate_graph(self, request: pb.ValidateGraphRequest, call: Call) -> pb.ValidateGraphResponse:
        """The checker's verdict, with the real numbers of tokens when the graph is sound without them."""
        try:
            run = spec_from_proto(request.spec)
        except InvalidGraph as error:
            return pb.ValidateGraphResponse(violations=violations_to_proto(error.violations))
        manifest = self._front.manifest(run.model)
        # a graph of the largest size takes the checker too long for the loop that serves everybody
        report = await asyncio.to_thread(check, run, manifest)
        if report.violations:
            return report_to_proto(report)
        return await self._with_tokens(run, manifest)

    async def _with_tokens(self, run: RunRequest, manifest: Manifest) -> pb.ValidateGraphResponse:
        try:
            tokens = await self._front.tokenize(run.model, run.prompts)
        except InvalidRequest as error:
            return pb.ValidateGraphResponse(violations=violations_to_proto([_untokenisable(error)]))
        n_tokens = [len(prompt.ids) for prompt in tokens]
        report: CheckReport = await asyncio.to_thread(check, run, manifest, n_tokens)
        return report_to_proto(report, n_tokens)

    def run_graph(self, request: pb.RunGraphRequest, call: Call) -> AsyncGenerator[pb.RunGraphResponse, None]:
        """The events of a new run, or of the run that this very request started before."""
        run = request_from_proto(request, deadline_s=call.deadline_s)
        content = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        asked_before = self._asked.get(run.run_id)
        if asked_before is None:
            handle = self._front.submit(run)
            self._remember(run.run_id, content)
        elif asked_before == content:
            handle = self._front.attach(run.run_id)
        else:
            raise InvalidRequest(
                f"request_id {run.run_id!r} names another request that was sent before; choose a new one for each run",
                run=run.run_id,
            )
        return _followed(handle, 0, lambda event: pb.RunGraphResponse(event=event))

    def attach_run(self, request: pb.AttachRunRequest, call: Call) -> AsyncGenerator[pb.AttachRunResponse, None]:
        """The events of a known run from a number on."""
        handle = self._front.attach(request.run_id)
        return _followed(handle, request.from_number, lambda event: pb.AttachRunResponse(event=event))

    async def cancel_run(self, request: pb.CancelRunRequest, call: Call) -> pb.CancelRunResponse:
        """Nothing, once the run's end is under way."""
        self._front.cancel(request.run_id)
        return pb.CancelRunResponse()

    def _remember(self, run_id: str, content: bytes) -> None:
        self._asked[run_id] = content
        if len(self._asked) > N_REMEMBERED:
            self._asked.popitem(last=False)


def _untokenisable(error: InvalidRequest) -> Violation:
    return Violation("BAD_PROMPT", "prompts", error.message)


async def _followed(
    handle: RunHandle, start: int, respond: Callable[[run_pb2.RunEvent], _M]
) -> AsyncGenerator[_M, None]:
    """One response per message, none made before the one before it was sent; whoever stops reading lets the run go."""
    try:
        yield respond(accepted_to_proto(handle.run_id, start))
        number = start
        event = None
        async with aclosing(handle.events(start)) as events:
            async for event in events:
                for proto in event_to_protos(event, number):
                    yield respond(proto)
                number += 1
        if event is None:
            raise InvalidRequest(f"run {handle.run_id!r} ended before event {start}", run=handle.run_id)
    finally:
        handle.release()
