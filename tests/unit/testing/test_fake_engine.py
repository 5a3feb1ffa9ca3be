import numpy as np
import pytest

from interpd.errors import DataLoss, DeadlineExceeded, InvalidGraph, InvalidRequest, OpFailed
from interpd.graph.digest import blob_digest
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref
from interpd.graph.run import Cancelled, Done, Failed, Result, RunRequest, TokenGenerated
from interpd.graph.types import TensorData
from interpd.testing.fake_engine import FakeEngine, activation, next_token
from interpd.testing.fake_workers import ManualClock


def request(*nodes, text="ab", **fields):
    graph = Graph(nodes, {f"o{i}": Ref(i) for i in range(len(nodes))})
    return RunRequest(fields.pop("run_id", "r"), "fake", (Prompt(text=text),), graph, **fields)


def run(engine, asked):
    engine.submit(asked)
    events = []
    while engine.has_work:
        events += engine.step()
    return events


def test_a_read_gives_the_closed_formula_at_the_positions_asked_for():
    node = Node("site.read", params={"site": "layers.1.resid_post", "positions": (-1,)})
    (result,) = [event for event in run(FakeEngine(), request(node)) if isinstance(event, Result)]
    np.testing.assert_array_equal(result.tensor.to_numpy(), activation([97, 98], 1, 4)[:, -1:])


def test_generation_is_deterministic_and_streams_its_tokens():
    asked = request(generation=Generation(max_new_tokens=3), stream_tokens=True)
    events = run(FakeEngine(), asked)
    streamed = [event.token_id for event in events if isinstance(event, TokenGenerated)]
    done = events[-1]
    assert list(done.generated[0].token_ids) == streamed
    assert streamed[0] == next_token((97, 98))
    assert run(FakeEngine(), asked)[-1].generated == done.generated


def test_runs_that_are_under_way_together_share_their_passes():
    engine = FakeEngine()
    for run_id in "abc":
        engine.submit(request(Node("tokens.ids"), run_id=run_id))
    events = [event for _ in range(3) for event in engine.step()]
    assert [event.cost.shared_with for event in events if isinstance(event, Done)] == [(3, 3)] * 3


def test_what_is_wrong_comes_back_as_the_failed_event():
    (failed,) = run(FakeEngine(), request(Node("fake.ecko")))
    assert isinstance(failed.error, InvalidGraph)
    failed = run(FakeEngine(), request(Node("fake.fail", params={"message": "no"})))[-1]
    assert isinstance(failed.error, OpFailed)


def test_sleep_passes_with_the_clock_and_ends_with_a_cancel_or_a_deadline():
    clock = ManualClock()
    engine = FakeEngine(clock=clock, wall=clock, sleep=lambda seconds: None)
    for run_id, deadline_s in (("a", None), ("b", None), ("c", clock() + 1)):
        engine.submit(
            request(Node("fake.sleep", params={"seconds": 5.0}), run_id=run_id, keep_s=0, deadline_s=deadline_s)
        )
    engine.step()
    engine.cancel("a")
    clock.advance(2.0)
    ended = {e.run_id: e for e in engine.step() if isinstance(e, Cancelled | Failed)}
    assert isinstance(ended["a"], Cancelled)
    assert isinstance(ended["c"].error, DeadlineExceeded)
    clock.advance(4.0)
    assert isinstance([event for _ in range(3) for event in engine.step()][-1], Done)


def test_uploads_are_checked():
    engine = FakeEngine()
    blob = TensorData("uint8", (1,), b"x")
    engine.put_blob(blob_digest(blob), blob)
    with pytest.raises(DataLoss):
        engine.put_blob("wrong", blob)
    with pytest.raises(InvalidRequest, match="no artifact kind 'odd'; known are fake"):
        engine.note_artifact("a", "odd", 1)
