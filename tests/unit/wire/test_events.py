import pytest

from interpd import errors
from interpd.graph import run
from interpd.graph.types import TensorData
from interpd.wire.events import EventAssembler, accepted_to_proto, event_to_protos
from interpd.wire.v1 import run_pb2

BIG = run.Result("r", "h", TensorData("float32", (3, 1 << 18), bytes(range(256)) * (3 << 12)), ("layer", ""), True)
DONE = run.Done(
    "r",
    run.Provenance(
        "d" * 64,
        "facts",
        "sha256:1",
        (("sae", "0.2"),),
        "interpd 0.1.0",
        "float32",
        "cpu",
        (("mine", "sha256:2"),),
        "french",
        "sha256:3",
    ),
    run.Cost(20, 6, 3, 1 << 33, 1.5, 20.25, (1, 4, 2)),
    (run.Generated(0, (5, 6), " Paris", "eos"), run.Generated(1, (), "", "stop_string")),
    ("h",),
    ("ran alone",),
)
EVENTS = [
    run.Queued("r", 3, "waiting for a worker"),
    run.Started(
        "r", (run.Tokens((1, 2), ("<s>", "a"), ((0, 0), (0, 1)), "a", run.Tokens((3,), ("b",), ((0, 1),), "b")),)
    ),
    run.Progress("r", 0.5, 2.0, "layer 3"),
    run.TokenGenerated("r", 1, 0, 511, " a"),
    BIG,
    run.Result("r", "scalar", TensorData("bool", (), b"\x01")),
    run.Result("r", "empty", TensorData("int8", (0, 4), b""), ("pos", "d_model")),
    DONE,
]


def stream(events, start=0):
    yield accepted_to_proto("r", start)
    for number, event in enumerate(events, start):
        for proto in event_to_protos(event, number):
            yield run_pb2.RunEvent.FromString(proto.SerializeToString())


def received(protos, assembler=None):
    assembler = assembler or EventAssembler()
    return [event for event in map(assembler.feed, protos) if event is not None]


def test_every_event_comes_back_in_order():
    assembler = EventAssembler()
    assert received(stream(EVENTS), assembler) == EVENTS
    assert (assembler.run_id, assembler.next_number, assembler.finished) == ("r", len(EVENTS), True)
    assembler.finish()


def test_a_lost_connection_resumes_with_the_unfinished_tensor():
    assembler = EventAssembler()
    before = list(stream(EVENTS))[:7]
    assert before[-1].WhichOneof("event") == "tensor_chunk"
    events = received(before, assembler)
    events += received(stream(EVENTS[assembler.next_number :], assembler.next_number), assembler)
    assert events == EVENTS


def test_a_failed_run_ends_the_stream_with_its_error():
    error = errors.OpFailed("op 'sae.encode' raised", node="3")
    with pytest.raises(errors.OpFailed) as caught:
        list(event_to_protos(run.Failed("r", error), 0))
    assert caught.value is error


def test_a_cancelled_run_ends_the_stream_with_its_stage():
    with pytest.raises(errors.Cancelled, match="the run was cancelled while queued") as caught:
        list(event_to_protos(run.Cancelled("r", "queued"), 0))
    assert caught.value.facts == {"stage": "queued"}


def test_an_event_of_a_newer_service_is_passed_over_and_counted():
    assembler = EventAssembler()
    accepted, queued = stream(EVENTS[:1])
    queued.number = 1
    assert received([accepted, run_pb2.RunEvent(number=0), queued], assembler) == EVENTS[:1]
    assert assembler.next_number == 2


def test_a_missing_event_is_data_loss():
    with pytest.raises(errors.DataLoss, match="event 1 arrived, expected 0: attach again from there"):
        received(stream(EVENTS, start=1))


def test_a_stream_without_an_end_is_data_loss():
    assembler = EventAssembler()
    received(stream(EVENTS[:-1]), assembler)
    with pytest.raises(errors.DataLoss, match="the stream of run 'r' ended before the run did"):
        assembler.finish()


def test_a_result_larger_than_the_limit_is_refused_at_its_header():
    with pytest.raises(errors.LimitExceeded, match="result 'h' has 3145728 bytes, at most 1000 are taken"):
        received(stream([BIG]), EventAssembler(limit_bytes=1000))


def _header(**changes):
    proto = next(event_to_protos(BIG, 0))
    proto.tensor_header.MergeFrom(type(proto.tensor_header)(**changes))
    return proto


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_bytes": 12}, "takes 3145728 bytes, got 12"),
        ({"dtype": 99}, "dtype 99"),
        ({"shape": [2**62]}, "overflows"),
        ({"axes": ["pos"]}, "2 dimensions have 3 axis words"),
    ],
)
def test_a_header_that_contradicts_itself_is_data_loss(changes, message):
    with pytest.raises(errors.DataLoss, match=message):
        EventAssembler().feed(_header(**changes))


def test_a_piece_that_was_not_announced_is_data_loss():
    _, chunk, *_ = event_to_protos(BIG, 0)
    with pytest.raises(errors.DataLoss, match="a piece of tensor 0 arrived, which was not announced"):
        EventAssembler().feed(chunk)


def test_an_event_inside_a_tensor_is_data_loss():
    assembler = EventAssembler()
    header = next(event_to_protos(BIG, 0))
    assembler.feed(header)
    with pytest.raises(errors.DataLoss, match="result 'h' is incomplete and another event follows"):
        assembler.feed(next(event_to_protos(EVENTS[0], 0)))


def test_an_unknown_stop_reason_does_not_lose_the_text():
    (proto,) = event_to_protos(DONE, 0)
    proto.done.generated[0].stop_reason = 99
    done = EventAssembler().feed(proto)
    assert (done.generated[0].text, done.generated[0].stop_reason) == (" Paris", "unknown")
