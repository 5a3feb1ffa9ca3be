"""Results that nobody reads do not fill the memory."""

import pytest

from interpd.errors import Overloaded
from interpd.graph.check import CheckReport
from interpd.graph.estimate import Estimate
from interpd.scheduler.log import EVENT_BYTES

MB = 1 << 20


@pytest.fixture
def bench(make_bench):
    return make_bench(held_bytes=10 * MB, max_in_flight=1)


def submit(bench, n_bytes, op="fake.echo", **fields):
    estimate = Estimate(1, 1, 1, n_bytes, n_bytes, least_bytes_returned=n_bytes)
    return bench.scheduler.submit(bench.request(op, **fields), CheckReport((), estimate=estimate))


async def test_large_results_that_are_due_are_counted_before_they_come(bench):
    submit(bench, 6 * MB)
    with pytest.raises(Overloaded, match=f"{6 * MB} bytes of results are due .* and {5 * MB} more") as refused:
        submit(bench, 5 * MB)
    assert refused.value.retry_after_s > 0
    submit(bench, 4 * MB)


async def test_small_results_always_find_room(bench):
    submit(bench, 10 * MB)
    submit(bench, MB)


async def test_one_run_alone_may_bring_all_that_its_own_limit_allows(bench):
    submit(bench, 100 * MB)


async def test_what_was_read_or_whose_reader_is_gone_counts_no_more(bench, names_of):
    hold, other = submit(bench, 10 * MB), submit(bench, MB)
    bench.finish()
    await names_of(hold)
    other.release()
    assert bench.scheduler._book.held_bytes == 0
    submit(bench, 10 * MB)


async def test_what_its_reader_has_not_read_yet_counts_after_the_end(bench):
    hold = submit(bench, 10 * MB)
    bench.finish()
    assert EVENT_BYTES < bench.scheduler._book.held_bytes < MB
    assert bench.ended(hold)
