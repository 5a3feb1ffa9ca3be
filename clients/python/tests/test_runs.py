"""Runs through refusals, lost connections and interruptions."""

from dataclasses import replace

import numpy as np
import pytest

import interpd_client as interpd
from interpd.errors import BlobNotFound, DeadlineExceeded, Draining, OpFailed, Overloaded, Unavailable, WorkerLost
from interpd.graph.run import Cost, Done, Progress, Provenance, Queued, Result, Started, TokenGenerated
from interpd.graph.types import TensorData
from interpd_client.connection import Connection
from interpd_client.following import Job
from interpd_client.runs import RunHandle
from interpd_client.testing import FakeStream, FakeTransport, fake_manifest
from interpd_client.waiting import Blocking

DONE = Done("r", Provenance("0" * 64, "fake", "fake", (), "fake", "float32", "cpu"), Cost(1, 1, 1, 4))
ONE = Result("r", "x", TensorData.from_numpy(np.float32(1.0)))


class Scripted(FakeTransport):
    """Gives one prepared list of events, or error, per call of ``run`` or ``attach``."""

    def __init__(self, *scripts):
        super().__init__(fake_manifest())
        self.scripts = list(scripts)
        self.attached = []

    def run(self, request):
        self.requests.append(request)
        return FakeStream(self.scripts.pop(0))

    def attach(self, run_id, start, timeout_s):
        self.attached.append((run_id, start))
        return FakeStream(self.scripts.pop(0), start)


def run(transport, waits=None, **options):
    waits = [] if waits is None else waits
    client = interpd.Client(transport, progress=False)
    client._connection.waits = Blocking(sleep=waits.append)
    t = client.model("fake").trace("a b", **options)
    t.save(x=t.embed)
    return t.run()


def test_a_busy_service_is_asked_again_after_the_time_it_named():
    waits = []
    transport = Scripted([Overloaded("full", retry_after_s=0.25)], [WorkerLost("died", retry_after_s=0.5)], [ONE, DONE])
    assert run(transport, waits)["x"] == 1.0
    assert waits == [0.25, 0.5]
    assert len({request.run_id for request in transport.requests}) == 3


@pytest.mark.parametrize(
    ("events", "stage"),
    [
        ([], "waiting for an answer"),
        ([Queued("r", 2, "model is loading")], r"queued \(model is loading\)"),
        ([Queued("r", 0, "next"), Started("r", ())], "running"),
        ([Started("r", ()), Progress("r", 1, 9, "tuning")], r"running \(tuning\)"),
        ([Started("r", ()), ONE], "sending results"),
    ],
)
def test_a_deadline_says_what_the_run_was_doing_and_how_long_it_took(events, stage):
    transport = Scripted([*events, DeadlineExceeded("Deadline Exceeded")])
    with pytest.raises(DeadlineExceeded, match=rf"the deadline passed after \d+\.\d s, while {stage}; give") as caught:
        run(transport)
    assert caught.value.facts["stage"]


def test_the_services_own_word_about_a_deadline_stands():
    with pytest.raises(DeadlineExceeded, match="^the deadline passed while queued$"):
        run(Scripted([DeadlineExceeded("the deadline passed while queued", stage="queued")]))


def test_patience_ends():
    transport = Scripted(*[[Draining("shutting down", retry_after_s=0.1)] for _ in range(4)])
    with pytest.raises(Draining, match="shutting down"):
        run(transport)
    assert len(transport.requests) == 4


def test_a_service_that_does_not_answer_is_not_asked_again():
    transport = Scripted([Unavailable("nobody listens")])
    with pytest.raises(Unavailable, match="nobody listens"):
        run(transport)


def test_waiting_does_not_pass_the_deadline():
    with pytest.raises(Overloaded):
        run(Scripted([Overloaded("full", retry_after_s=5.0)]), timeout_s=1.0)


def test_a_kept_run_is_attached_again_from_the_event_after_the_last_one():
    first = [Queued("r", 0, "waiting"), Started("r", ()), Unavailable("connection reset")]
    transport = Scripted(first, [Queued("r", 0, "waiting"), Started("r", ()), ONE, DONE])
    assert run(transport, keep_s=60.0)["x"] == 1.0
    assert transport.attached == [(transport.requests[0].run_id, 2)]


def test_a_run_that_is_not_kept_is_lost_with_its_connection():
    with pytest.raises(Unavailable, match="connection reset"):
        run(Scripted([Started("r", ()), Unavailable("connection reset")]))


def test_constants_that_a_worker_lost_are_sent_again(model, transport):
    large = np.zeros((200, 200), dtype=np.float32)
    with model.trace("a") as t:
        t.save(x=t.torch.matmul(large, large))
    transport.blobs.clear()
    with model.trace("a") as t:
        t.save(x=t.torch.matmul(large, large))
    assert t.result["x"].shape == (200, 200)


def test_constants_that_never_arrive_end_in_the_services_own_error():
    with pytest.raises(BlobNotFound):
        run(Scripted([BlobNotFound("no constant")]))


def test_cancelling_a_run_that_ended_long_ago_does_nothing():
    class Forgetful(FakeTransport):
        def cancel(self, run_id, timeout_s):
            raise interpd.RunNotFound(f"no run {run_id!r}")

    t = interpd.Client(Forgetful(fake_manifest()), progress=False).model("fake").trace("a b")
    t.save(x=t.embed)
    handle = t.submit()
    handle.result()
    handle.cancel()


def test_a_stream_that_ends_too_early_is_data_loss():
    with pytest.raises(interpd.DataLoss, match="ended before the run did"):
        run(Scripted([Started("r", ())]))


def test_an_interrupt_cancels_the_run():
    class Interrupting(Scripted):
        def run(self, request):
            self.requests.append(request)
            return FakeStream(self.events())

        def events(self):
            yield Started("r", ())
            raise KeyboardInterrupt

    transport = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        run(transport)
    assert transport.cancelled == [transport.requests[0].run_id]


def test_a_failing_operation_points_at_the_users_line():
    with pytest.raises(OpFailed, match="division") as caught:
        run(Scripted([OpFailed("node nodes[0] (site.read): division", node="0")]))
    (note,) = caught.value.__notes__
    assert note == f"{caught.value.facts['place']}: t.save(x=t.embed)"
    assert note.startswith("test_runs.py:")


def test_submitted_runs_are_found_again_by_their_id(client, model, transport):
    with model.trace("a b", keep_s=60.0) as t:
        t.save(top=t.logits[:, -1].topk(3))
        handle = t.submit()
    assert len(transport.requests) == 1
    assert handle.result()["top"].values.shape == (1, 3)
    again = client.attach(handle.id).result()
    assert sorted(again) == ["top.indices", "top.values"]


def test_a_run_that_is_unknown_cannot_be_attached(client):
    with pytest.raises(interpd.RunNotFound, match="no run 'nothing'"):
        client.attach("nothing").result()


def test_submit_raises_what_refuses_the_run():
    transport = Scripted([interpd.LimitExceeded("too large")])
    client = interpd.Client(transport)
    t = client.model("fake").trace("a")
    t.save(x=t.embed)
    with pytest.raises(interpd.LimitExceeded):
        t.submit()


def test_events_come_as_they_happen_and_leaving_closes_the_stream():
    transport = Scripted([Started("r", ()), Progress("r", 1.0, 2.0), ONE, DONE])
    request = replace(interpd.Client(transport).model("fake").trace("a").request, keep_s=0.0)
    handle = RunHandle(Connection(transport), Job(request))
    for event in handle.events():
        if isinstance(event, Progress):
            break
    assert transport.cancelled == []
    assert [type(one).__name__ for one in handle.events()] == []


def test_tokens_that_were_handed_out_are_not_generated_again():
    events = [Started("r", ()), TokenGenerated("r", 0, 0, 5, "x"), WorkerLost("died")]
    client = interpd.Client(Scripted(events), progress=False)
    seen = []
    with pytest.raises(WorkerLost):
        client.model("fake").generate("a", max_new_tokens=3, on_token=seen.append).run()
    assert [event.text for event in seen] == ["x"]
