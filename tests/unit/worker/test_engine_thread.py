import sys
import threading
import time

import pytest

from interpd.errors import InternalError, InvalidRequest, OpFailed, WorkerLost
from interpd.graph.ir import Graph, Node, Prompt, Ref
from interpd.graph.run import TERMINAL, Cancelled, Done, Failed, RunRequest
from interpd.testing.fake_engine import FakeEngine
from interpd.worker.engine_thread import PAUSE_S, EngineThread

WAIT_S = 20.0


def request(run_id, op="fake.echo", **params):
    params = params or {"value": 1.0}
    return RunRequest(run_id, "fake", (Prompt(text="hi"),), Graph((Node(op, params=params),), {"x": Ref(0)}))


class Deliveries:
    """Collects events; ``wait`` until some runs have ended."""

    def __init__(self):
        self.events = []
        self._arrived = threading.Condition()

    def __call__(self, events):
        with self._arrived:
            self.events += events
            self._arrived.notify_all()

    def ended(self):
        return {event.run_id: event for event in self.events if isinstance(event, TERMINAL)}

    def wait(self, n):
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.ended()) >= n, WAIT_S)
        return self.ended()


@pytest.fixture
def deliveries():
    return Deliveries()


@pytest.fixture
def started(deliveries):
    threads = []

    def start(make=FakeEngine, **options):
        thread = EngineThread(make, deliveries, **options)
        thread.start().result(WAIT_S)
        threads.append(thread)
        return thread

    yield start
    for thread in threads:
        thread.stop()


def test_requests_run_and_their_events_are_delivered(started, deliveries):
    started().submit([request("a"), request("b", "fake.fail", message="no")])
    ended = deliveries.wait(2)
    assert isinstance(ended["a"], Done)
    assert isinstance(ended["b"].error, OpFailed)


@pytest.mark.slow
def test_requests_sent_within_the_window_share_their_first_pass(started, deliveries):
    thread = started(batch_wait_s=0.5)
    thread.submit([request("a")])
    thread.submit([request("b")])
    assert {event.cost.shared_with[0] for event in deliveries.wait(2).values()} == {2}


def test_a_cancel_reaches_a_run_between_two_steps(started, deliveries):
    thread = started()
    thread.submit([request("a", "fake.sleep", seconds=60.0)])
    thread.cancel(["a", "unknown"])
    assert deliveries.wait(1)["a"] == Cancelled("a", "running")


def test_calls_answer_between_steps(started):
    thread = started()
    thread.submit([request("a", "fake.sleep", seconds=60.0)])
    tokens = thread.call("tokenize", lambda engine: engine.tokenize([Prompt(text="ab")])).result(WAIT_S)
    assert tokens[0].ids == (97, 98)


def test_a_call_that_fails_answers_with_its_error_and_hurts_nobody(started, deliveries):
    thread = started()
    with pytest.raises(InvalidRequest, match="no artifact kind 'x'"):
        thread.call("put", lambda engine: engine.note_artifact("a", "x", 1)).result(WAIT_S)
    with pytest.raises(InternalError, match="a bug in interpd: odd raised ZeroDivisionError"):
        thread.call("odd", lambda engine: 1 // 0).result(WAIT_S)
    thread.submit([request("a")])
    assert isinstance(deliveries.wait(1)["a"], Done)


def test_a_model_that_cannot_be_loaded_answers_with_the_cause(deliveries):
    def make():
        raise InvalidRequest("no such file")

    with pytest.raises(InvalidRequest, match="no such file"):
        EngineThread(make, deliveries).start().result(WAIT_S)


def test_busy_names_the_operation_and_its_run_while_it_hangs(started, deliveries):
    entered, leave = threading.Event(), threading.Event()

    def hang(seconds):
        entered.set()
        leave.wait(WAIT_S)

    thread = started(lambda: FakeEngine(sleep=hang))
    assert thread.busy().what == ""
    thread.submit([request("a", "fake.hang", seconds=1.0)])
    assert entered.wait(WAIT_S)
    busy = thread.busy()
    leave.set()
    assert (busy.run_ids, busy.what) == (("a",), "op fake.hang@1")
    assert busy.for_s >= 0
    deliveries.wait(1)


@pytest.mark.slow
def test_whoever_asks_again_at_once_and_is_alone_is_not_kept_waiting(started, deliveries):
    wait_s = 1.0
    thread, took_s = started(batch_wait_s=wait_s), []
    for n, pause_s in enumerate((0.0, 0.0, 0.0, 2 * PAUSE_S)):
        time.sleep(pause_s)
        began = time.monotonic()
        thread.submit([request(f"r{n}")])
        deliveries.wait(n + 1)
        took_s.append(time.monotonic() - began)
    first, *lonely, after_a_pause = took_s
    assert min(first, after_a_pause) > wait_s
    assert min(lonely) < wait_s / 2


@pytest.mark.slow
def test_where_there_was_company_the_next_one_waits_for_it_again(started, deliveries):
    thread = started(batch_wait_s=0.5)
    for n in range(2):
        thread.submit([request(f"first-{n}")])
        thread.submit([request(f"second-{n}")])
        ended = deliveries.wait(2 * (n + 1))
        assert ended[f"first-{n}"].cost.shared_with == (2, 2)


class BrokenStep(FakeEngine):
    def step(self):
        raise RuntimeError("device lost")


class Leaving(FakeEngine):
    def step(self):
        raise SystemExit("good bye")


class BrokenSubmit(FakeEngine):
    def submit(self, request):
        if request.run_id == "bad":
            raise KeyError("odd")
        super().submit(request)


class Forgetful(FakeEngine):
    def step(self):
        self._runs.clear()
        return super().step()


class Spoilt(FakeEngine):
    def step(self):
        raise WorkerLost("model 'fake' is being loaded again")


def test_an_engine_whose_weights_were_changed_loses_its_runs_so_that_they_may_be_tried_again(started, deliveries):
    thread = started(Spoilt)
    thread.submit([request("a")])
    assert isinstance(deliveries.wait(1)["a"].error, WorkerLost)
    assert isinstance(thread.failure.exception(WAIT_S), WorkerLost)


def test_an_engine_that_breaks_ends_its_runs_and_says_so(started, deliveries):
    thread = started(BrokenStep)
    thread.submit([request("a")])
    error = deliveries.wait(1)["a"].error
    assert isinstance(error, InternalError)
    assert error.message == "a bug in interpd: the engine raised RuntimeError: device lost"
    assert isinstance(thread.failure.exception(WAIT_S), InternalError)


def test_an_engine_that_leaves_says_so_too(started, deliveries):
    thread = started(Leaving)
    thread.submit([request("a")])
    assert "raised SystemExit: good bye" in deliveries.wait(1)["a"].error.message
    assert isinstance(thread.failure.exception(WAIT_S), InternalError)


def test_an_engine_that_leaves_while_it_is_made_could_not_be_made(deliveries):
    with pytest.raises(InternalError, match="loading raised SystemExit"):
        EngineThread(sys.exit, deliveries).start().result(WAIT_S)


def test_a_request_that_cannot_be_taken_in_fails_alone(started, deliveries):
    thread = started(BrokenSubmit)
    thread.submit([request("bad"), request("good")])
    ended = deliveries.wait(2)
    assert isinstance(ended["bad"], Failed)
    assert isinstance(ended["good"], Done)


def test_a_run_that_the_engine_forgets_still_ends(started, deliveries):
    started(Forgetful).submit([request("a")])
    assert "ended without a terminal event" in deliveries.wait(1)["a"].error.message
