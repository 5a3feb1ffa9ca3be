import pytest

from interpd.graph.ir import Graph, Prompt
from interpd.graph.run import RunRequest
from interpd.scheduler.queue import MAX_IDLE_COUNTERS, FairQueue
from interpd.scheduler.runs import Run


def make_run(owner, n_tokens, run_id=None):
    prompt = Prompt(token_ids=(1,) * n_tokens)
    request = RunRequest(run_id or f"{owner}{id(prompt)}", "m", (prompt,), Graph((), {}), owner=owner)
    return Run(request, now=0.0, deadline=1.0, keep_s=0.0)


def fill(queue, *spec):
    for i, (owner, n_tokens) in enumerate(spec):
        queue.push(make_run(owner, n_tokens, f"{owner}-{i}"))


def owners(queue):
    return "".join(queue.pop().request.owner for _ in range(len(queue)))


def test_one_owner_is_served_in_order_of_arrival():
    queue = FairQueue()
    fill(queue, ("a", 3), ("a", 1), ("a", 2))
    assert [queue.pop().run_id for _ in range(3)] == ["a-0", "a-1", "a-2"]


def test_owners_take_turns_by_tokens_not_by_requests():
    queue = FairQueue()
    fill(queue, *[("a", 10)] * 3, *[("b", 5)] * 6)
    assert owners(queue) == "abbabbabb"


def test_weights_are_shares():
    queue = FairQueue({"a": 2.0})
    fill(queue, *[("a", 10)] * 4, *[("b", 10)] * 2)
    assert owners(queue) == "abaaba"


def test_an_owner_that_comes_back_has_saved_up_nothing():
    queue = FairQueue()
    fill(queue, *[("a", 10)] * 20)
    for _ in range(10):
        queue.pop()
    fill(queue, *[("b", 10)] * 5)
    assert owners(queue)[:6].count("b") <= 3


def test_an_owner_that_comes_to_an_empty_queue_starts_level_with_the_last_one_served():
    queue = FairQueue()
    fill(queue, ("a", 1000))
    queue.pop()
    fill(queue, *[("b", 10)] * 3, *[("a", 10)] * 3)
    assert owners(queue) == "bababa"


def test_a_correction_moves_later_turns():
    queue = FairQueue()
    fill(queue, ("a", 10), ("a", 10), ("b", 10), ("b", 10))
    assert queue.pop().request.owner == "a"
    queue.charge("a", 100.0)
    assert owners(queue) == "bba"


def test_the_order_that_is_told_is_the_order_that_comes():
    queue = FairQueue({"c": 3.0})
    fill(queue, *[("a", 7)] * 4, *[("b", 3)] * 6, *[("c", 11)] * 5)
    told = [run.run_id for run in queue.ordered()]
    assert [queue.pop().run_id for _ in range(len(queue))] == told


def test_a_run_can_be_taken_out_of_turn():
    queue = FairQueue()
    run = make_run("a", 1)
    queue.push(run)
    assert (len(queue), queue.n_waiting("a")) == (1, 1)
    queue.remove(run)
    assert (len(queue), queue.n_waiting("a")) == (0, 0)


def test_an_empty_queue_has_no_next():
    with pytest.raises(IndexError):
        FairQueue().pop()


def test_counters_of_owners_that_went_away_are_bounded():
    queue = FairQueue()
    for i in range(MAX_IDLE_COUNTERS + 10):
        queue.push(make_run(f"o{i}", 1))
        queue.pop()
    assert len(queue._served) <= MAX_IDLE_COUNTERS + 1
