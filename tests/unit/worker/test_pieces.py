"""Large results in pieces, and whole again."""

import asyncio

import numpy as np
import pytest

from interpd.graph.run import Progress, Result
from interpd.graph.types import TensorData
from interpd.worker import pieces
from interpd.worker.pieces import Joiner, Piece, carried_bytes, cut


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "SMALL_BYTES", 16)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 40)


def result(n, name="x", run_id="r"):
    array = np.arange(n, dtype=np.float32)
    return Result(run_id, name, TensorData.from_numpy(array), ("pos",), partial=True)


def assert_same(event, other):
    assert (event.run_id, event.name, event.axes, event.partial) == (other.run_id, other.name, other.axes, True)
    np.testing.assert_array_equal(event.tensor.to_numpy(), other.tensor.to_numpy())


@pytest.mark.parametrize("n", [5, 10, 11, 20, 25])
def test_a_result_of_any_size_comes_back(n):
    (found,) = Joiner().join(cut([result(n)]))
    assert_same(found, result(n))


def test_no_piece_is_larger_than_allowed():
    assert [carried_bytes(item) for item in cut([result(25)])] == [40, 40, 20]


def test_small_results_and_other_events_are_left_alone_and_in_order():
    events = [Progress("r", 1.0, 2.0), result(4), result(25), Progress("r", 2.0, 2.0)]
    items = list(cut(events))
    assert items[:2] == events[:2]
    assert [type(item) for item in items[2:]] == [Piece, Piece, Piece, Progress]
    assert [type(event) for event in Joiner().join(items)] == [Progress, Result, Result, Progress]


async def test_a_result_comes_with_its_first_piece_and_is_filled_by_the_others():
    joiner = Joiner()
    first, second, last = cut([result(25)])
    (found,) = joiner.join([first])
    assert await found.arriving.wait(40)
    rest = asyncio.ensure_future(found.arriving.wait(41)), asyncio.ensure_future(found.arriving.wait(100))
    await asyncio.sleep(0)
    assert joiner.join([second]) == []
    assert await rest[0]
    assert not rest[1].done()
    assert joiner.join([last]) == []
    assert await rest[1]
    assert_same(found, result(25))


async def test_whoever_waits_hears_that_the_rest_is_lost():
    joiner = Joiner()
    (found,) = joiner.join([next(cut([result(25)]))])
    waiting = asyncio.ensure_future(found.arriving.wait(100))
    await asyncio.sleep(0)
    joiner.lose()
    assert not await waiting
    assert await found.arriving.wait(40)


async def test_a_result_that_has_come_is_not_lost_later():
    joiner = Joiner()
    found, _ = joiner.join([*cut([result(25, "a")]), next(cut([result(25, "b")]))])
    joiner.lose()
    assert await found.arriving.wait(100)


def test_a_result_of_one_piece_is_there_at_once():
    (found,) = Joiner().join(cut([result(10)]))
    assert found.arriving is None


def test_results_that_follow_each_other_do_not_mix():
    found = Joiner().join(cut([result(25, "a"), result(15, "b", "s"), result(25, "c")]))
    for event, other in zip(found, [result(25, "a"), result(15, "b", "s"), result(25, "c")], strict=True):
        assert_same(event, other)


def test_readers_cannot_change_what_others_read():
    (found,) = Joiner().join(cut([result(25)]))
    with pytest.raises(TypeError):
        found.tensor.data[0] = 1
    found.tensor.to_numpy()[:] = 0.0
    assert_same(found, result(25))
