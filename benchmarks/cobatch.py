"""Different graphs of many clients in one pass."""

from collections.abc import Iterable

from benchmarks.harness.claims import claim
from benchmarks.harness.row import Row, rate_row
from benchmarks.harness.stage import Crowd, Stage
from benchmarks.harness.timing import in_turn, medians, timed
from benchmarks.harness.users import ask, assert_equal, experiments

N_REPEATS = 5
N_ROUNDS = 4
"""Requests of each user, one after the other, in each repetition."""


@claim(
    "cobatch",
    measures="16 clients at once, 16 different graphs, 16 tokens each",
    against="the same daemon with sharing off",
    order=2,
)
def cobatch(stage: Stage) -> Iterable[Row]:
    """Requests per second."""
    crowds = {"ours": Crowd(stage), "theirs": Crowd(stage, share_passes=False)}
    asked = experiments(stage.sizes, 0)
    answers = {name: crowd.act(lambda model, user: ask(model, asked[user])) for name, crowd in crowds.items()}
    for mine, other in zip(answers["ours"], answers["theirs"], strict=True):
        assert_equal(mine, other)

    def burst(crowd: Crowd, number: int) -> None:
        rounds = [experiments(stage.sizes, N_ROUNDS * number + k) for k in range(N_ROUNDS)]
        crowd.act(lambda model, user: [ask(model, each[user]) for each in rounds])

    sides = {name: timed(lambda number, crowd=crowd: burst(crowd, number)) for name, crowd in crowds.items()}
    found = medians(in_turn(sides, stage.sizes.repeats(N_REPEATS), tell=stage.counting("cobatch")))
    n = N_ROUNDS * stage.sizes.n_users
    yield rate_row("cobatch", n / found["ours"], n / found["theirs"], "requests/s", at_least=2.3)
