"""Events of a run to and from the wire. A result travels as a header and chunks, everything else as one message.

All messages of one event carry the event's number, so a client that lost its connection attaches from the first number
that it does not have completely, and an unfinished tensor comes again from its beginning.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

from interpd import errors
from interpd.graph import run
from interpd.graph.types import ITEM_BYTES, TensorData
from interpd.wire.chunks import ByteAssembler, pieces_of
from interpd.wire.problems import Problems
from interpd.wire.prompts import tokens_from_proto, tokens_to_proto
from interpd.wire.schemas import plain
from interpd.wire.tensors import DTYPE_TO_PROTO, dtype_from_proto, shape_from_proto
from interpd.wire.v1 import run_pb2 as pb
from interpd.wire.v1 import tensor_pb2

RESULT_BYTES = 4 << 30
"""Largest result that an assembler takes unless told otherwise."""

STOP_REASON_TO_PROTO: dict[str, int] = {
    name: pb.StopReason.Value(f"STOP_REASON_{name.upper()}") for name in ("length", "eos", "stop_string", "stop_token")
}
_STOP_REASON_FROM_PROTO = {number: name for name, number in STOP_REASON_TO_PROTO.items()}

_TOKEN = ("invoke", "step", "token_id", "text")
_PROGRESS = ("done", "total", "message")
_PROVENANCE = ("graph_digest", "model", "model_revision", "engine", "dtype", "device", "adapter", "adapter_digest")
_COST = ("n_tokens", "n_layers_run", "n_passes", "bytes_returned", "queued_ms", "run_ms")


def accepted_to_proto(run_id: str, number: int) -> pb.RunEvent:
    """The first message of a stream: which run it is and which event comes next."""
    return pb.RunEvent(number=number, accepted=pb.Accepted(run_id=run_id))


def event_to_protos(event: run.Event, number: int) -> Iterator[pb.RunEvent]:
    """The messages of one event, each made when it is asked for. Raises as ``event_fields`` does."""
    return (pb.RunEvent(**fields) for fields in event_fields(event, number))


def event_fields(event: run.Event, number: int) -> Iterator[dict[str, Any]]:
    """The fields of each message of one event, made when they are asked for.

    A message that is put into another is copied, with all its bytes; fields are not.

    Raises the error of a ``Failed`` event, and ``errors.Cancelled`` for a ``Cancelled`` one: these end the stream.
    """
    match event:
        case run.Result():
            yield from _result_fields(event, number)
        case run.Queued():
            yield {"number": number, "queued": pb.Queued(position=event.position, reason=event.reason)}
        case run.Started():
            yield {"number": number, "started": pb.Started(tokens=map(tokens_to_proto, event.tokens))}
        case run.Progress():
            yield {"number": number, "progress": pb.Progress(**plain(event, _PROGRESS))}
        case run.TokenGenerated():
            yield {"number": number, "token": pb.GeneratedToken(**plain(event, _TOKEN))}
        case run.Done():
            yield {"number": number, "done": _done_to_proto(event)}
        case run.Failed():
            raise event.error
        case run.Cancelled():
            raise errors.Cancelled(f"the run was cancelled while {event.stage}", stage=event.stage)
        case _:
            raise TypeError(f"a {type(event).__name__} has no place on the wire")


def _result_fields(event: run.Result, number: int) -> Iterator[dict[str, Any]]:
    tensor = event.tensor
    header = tensor_pb2.TensorHeader(
        tensor_id=number,
        name=event.name,
        dtype=DTYPE_TO_PROTO[tensor.dtype],
        shape=tensor.shape,
        axes=event.axes,
        partial=event.partial,
        total_bytes=len(tensor.data),
    )
    yield {"number": number, "tensor_header": header}
    for fields in pieces_of(tensor.data):
        yield {"number": number, "tensor_chunk": {"tensor_id": number, "chunk": fields}}


def _done_to_proto(event: run.Done) -> pb.Done:
    versions = [pb.PluginVersion(name=name, version=version) for name, version in event.provenance.plugins]
    artifacts = [pb.ArtifactVersion(name=name, digest=digest) for name, digest in event.provenance.artifacts]
    return pb.Done(
        provenance=pb.Provenance(**plain(event.provenance, _PROVENANCE), plugins=versions, artifacts=artifacts),
        cost=pb.Cost(**plain(event.cost, _COST), shared_with=event.cost.shared_with),
        generated=[
            pb.Generated(
                invoke=generated.invoke,
                token_ids=generated.token_ids,
                text=generated.text,
                stop_reason=STOP_REASON_TO_PROTO[generated.stop_reason],
            )
            for generated in event.generated
        ],
        non_finite=event.non_finite,
        warnings=event.warnings,
    )


class EventAssembler:
    """Turns the messages of a run's streams back into events.

    One assembler follows one run through any number of connections: after a lost one, attach from ``next_number``.

    Args:
        limit_bytes: Largest result that is taken.
    """

    def __init__(self, limit_bytes: int = RESULT_BYTES) -> None:
        self.run_id = ""
        """The run, once its first message has arrived."""
        self.next_number = 0
        """Number of the first event that is not complete."""
        self.finished = False
        """Whether the run's terminal event has arrived."""
        self._limit_bytes = limit_bytes
        self._header: tensor_pb2.TensorHeader | None = None
        self._bytes: ByteAssembler | None = None

    def feed(self, proto: pb.RunEvent) -> run.Event | None:
        """The event that this message completes, if any. Raises ``DataLoss``, ``LimitExceeded``.

        Events of kinds that this version does not know are passed over.
        """
        if proto.number != self.next_number:
            raise errors.DataLoss(f"event {proto.number} arrived, expected {self.next_number}: attach again from there")
        kind = proto.WhichOneof("event")
        if kind == "accepted":
            # a new stream begins, and the tensor that the old one left unfinished comes again
            self._header = self._bytes = None
            self.run_id = proto.accepted.run_id
            return None
        if kind == "tensor_header":
            self._begin(proto.tensor_header)
            return None
        if kind == "tensor_chunk":
            event = self._chunk(proto.tensor_chunk)
            self.next_number += event is not None
            return event
        self._expect_no_tensor()
        self.next_number += 1
        return None if kind is None else self._event(kind, proto)

    def finish(self) -> None:
        """Raises ``DataLoss`` when a stream that ended without an error lacks its end."""
        if not self.finished:
            raise errors.DataLoss(f"the stream of run {self.run_id!r} ended before the run did")

    def _begin(self, header: tensor_pb2.TensorHeader) -> None:
        self._expect_no_tensor()
        what = f"result {header.name!r}"
        problems = Problems()
        dtype = dtype_from_proto(header.dtype, "dtype", problems)
        shape = shape_from_proto(header.shape, ITEM_BYTES[dtype], "shape", problems)
        expected = prod(shape) * ITEM_BYTES[dtype]
        if header.total_bytes != expected:
            problems.add("total_bytes", f"{dtype}{list(shape)} takes {expected} bytes, got {header.total_bytes}")
        if header.axes and len(header.axes) != len(shape):
            problems.add("axes", f"{len(shape)} dimensions have {len(header.axes)} axis words")
        problems.raise_as_data_loss(what)
        self._bytes = ByteAssembler(expected, self._limit_bytes, what)
        self._header = header

    def _chunk(self, proto: tensor_pb2.TensorChunk) -> run.Result | None:
        header = self._header
        if header is None or self._bytes is None or proto.tensor_id != header.tensor_id:
            raise errors.DataLoss(f"a piece of tensor {proto.tensor_id} arrived, which was not announced")
        data = self._bytes.feed(proto.chunk)
        if data is None:
            return None
        self._header = self._bytes = None
        tensor = TensorData(dtype_from_proto(header.dtype, "dtype", Problems()), tuple(header.shape), data)
        return run.Result(self.run_id, header.name, tensor, tuple(header.axes), header.partial)

    def _expect_no_tensor(self) -> None:
        if self._header is not None:
            raise errors.DataLoss(f"result {self._header.name!r} is incomplete and another event follows")

    def _event(self, kind: str, proto: pb.RunEvent) -> run.Event:
        match kind:
            case "queued":
                return run.Queued(self.run_id, proto.queued.position, proto.queued.reason)
            case "started":
                return self._started(proto.started)
            case "progress":
                return run.Progress(self.run_id, **plain(proto.progress, _PROGRESS))
            case "token":
                return run.TokenGenerated(self.run_id, **plain(proto.token, _TOKEN))
        self.finished = True
        return _done_from_proto(proto.done, self.run_id)

    def _started(self, proto: pb.Started) -> run.Started:
        problems = Problems()
        tokens = tuple(tokens_from_proto(t, f"tokens[{i}]", problems) for i, t in enumerate(proto.tokens))
        problems.raise_as_data_loss("an event")
        return run.Started(self.run_id, tokens)


def _done_from_proto(proto: pb.Done, run_id: str) -> run.Done:
    plugins = tuple((plugin.name, plugin.version) for plugin in proto.provenance.plugins)
    artifacts = tuple((artifact.name, artifact.digest) for artifact in proto.provenance.artifacts)
    return run.Done(
        run_id,
        provenance=run.Provenance(**plain(proto.provenance, _PROVENANCE), plugins=plugins, artifacts=artifacts),
        cost=run.Cost(**plain(proto.cost, _COST), shared_with=tuple(proto.cost.shared_with)),
        generated=tuple(map(_generated_from_proto, proto.generated)),
        non_finite=tuple(proto.non_finite),
        warnings=tuple(proto.warnings),
    )


def _generated_from_proto(proto: pb.Generated) -> run.Generated:
    # a reason that is newer than this client is no reason to lose the text
    reason = _STOP_REASON_FROM_PROTO.get(proto.stop_reason, "unknown")
    return run.Generated(proto.invoke, tuple(proto.token_ids), proto.text, reason)
