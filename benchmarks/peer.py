"""The requests of many users, against one of them who has the model in memory and runs them all with nnsight."""

from collections.abc import Iterable

from benchmarks.harness.claims import claim
from benchmarks.harness.row import Row, time_row
from benchmarks.harness.stage import Crowd, Stage
from benchmarks.harness.timing import in_turn, medians, timed
from benchmarks.harness.users import ask, assert_equal, experiments

N_REPEATS = 7


@claim(
    "peer",
    measures="16 users' requests through interpd",
    against="local nnsight: one trace after another (peer-serial), and one trace of 16 invokes (peer-batched)",
    order=8,
)
def peer(stage: Stage) -> Iterable[Row]:
    """Seconds until all are answered."""
    sizes, nnsight, crowd = stage.sizes, stage.nnsight, Crowd(stage)

    def ours(number: int) -> list[object]:
        asked = experiments(sizes, number)
        return crowd.act(lambda model, user: ask(model, asked[user]))

    for theirs in (nnsight.one_by_one(experiments(sizes, 0))[1], nnsight.together(experiments(sizes, 0))[1]):
        for mine, other in zip(ours(0), theirs, strict=True):
            assert_equal(mine, other)
    sides = {
        "ours": timed(ours),
        "serial": lambda number: nnsight.one_by_one(experiments(sizes, number))[0],
        "batched": lambda number: nnsight.together(experiments(sizes, number))[0],
    }
    found = medians(in_turn(sides, sizes.repeats(N_REPEATS), tell=stage.counting("peer")))
    yield time_row("peer-serial", found["ours"], found["serial"], "s", at_least=1.0)
    yield time_row("peer-batched", found["ours"], found["batched"], "s", at_least=1 / 1.3)
