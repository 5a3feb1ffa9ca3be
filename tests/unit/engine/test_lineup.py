"""Which rows a pass holds from block to block."""

from random import Random

from interpd.engine.binding import Location
from interpd.engine.lineup import Part, plan_stages
from interpd.graph.order import AFTER

BOUNDARIES = tuple(Location(f"h.{block}", "output", order=10 * block) for block in range(4))


def shape(stages):
    """(order of the boundary, how many rows follow it) of each stage."""
    return [(stage.place.order if stage.place else None, len(stage.sources)) for stage in stages]


def test_equal_prompts_that_nobody_writes_to_are_one_row():
    (start,) = plan_stages([Part("a"), Part("b"), Part("a")], BOUNDARIES)
    assert start.rows[0] == start.rows[2] != start.rows[1]
    assert len(start.sources) == 2


def test_a_prompt_joins_at_the_last_boundary_before_its_first_write():
    assert shape(plan_stages([Part("a"), Part("a", 15), Part("a", 20)], BOUNDARIES)) == [(None, 1), (10, 2), (20, 3)]


def test_the_prompt_that_is_written_to_last_keeps_the_row():
    stages = plan_stages([Part("a", 12), Part("a", 33)], BOUNDARIES)
    assert shape(stages) == [(None, 1), (10, 2)]
    assert stages[1].rows == {0: 1, 1: 0}
    assert stages[1].sources == (0, 0)


def test_a_write_before_the_first_boundary_is_a_row_from_the_start():
    assert shape(plan_stages([Part("a"), Part("a", -1)], BOUNDARIES)) == [(None, 2)]


def test_a_row_leaves_at_the_boundary_behind_its_last_read():
    stages = plan_stages([Part("a", last_need=9), Part("b", last_need=10), Part("c")], BOUNDARIES)
    assert shape(stages) == [(None, 3), (10, 2), (20, 1)]
    assert stages[2].rows == {2: 0}
    assert stages[2].origins == (2,)


def test_without_boundaries_each_written_prompt_is_a_row_of_its_own():
    assert shape(plan_stages([Part("a", 12), Part("a", 33), Part("a"), Part("a")])) == [(None, 3)]


def test_a_sweep_holds_the_patches_of_the_layers_so_far():
    parts = [Part("source", last_need=31), *(Part("a", write) for write in (0, 0, 10, 10, 20, 20, 30, 30))]
    assert shape(plan_stages(parts, BOUNDARIES)) == [(None, 2), (0, 4), (10, 6), (20, 8), (30, 9)]


def test_every_prompt_sees_its_own_writes_and_no_others():
    rng = Random(0)
    for _ in range(300):
        parts = [random_part(rng) for _ in range(rng.randrange(1, 8))]
        run_through(parts, list(plan_stages(parts, BOUNDARIES)))


def run_through(parts, stages):
    """A pass in which a row is the prompt that it began as and the numbers of those that wrote to it."""
    rows = None
    for order in range(-2, 45):
        while stages and (stages[0].place.order if stages[0].place else -2) <= order:
            stage = stages.pop(0)
            rows = [(parts[source].key, ()) if rows is None else rows[source] for source in stage.sources]
        for number, part in enumerate(parts):
            if part.first_write == order:
                key, writes = rows[stage.rows[number]]
                rows[stage.rows[number]] = key, (*writes, number)
        for number, part in enumerate(parts):
            if order <= part.last_need:
                assert rows[stage.rows[number]] == (part.key, (number,) if part.first_write <= order else ()), parts


def random_part(rng):
    write = rng.choice((AFTER, rng.randrange(-2, 40)))
    last = rng.randrange(0 if write == AFTER else max(write, 0), 45)
    return Part(rng.choice("ab"), write, last)
