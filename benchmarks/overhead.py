"""One read through gRPC and Ray, against the same read in local nnsight."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.harness.claims import claim
from benchmarks.harness.model_folder import prompt
from benchmarks.harness.row import Row, time_row
from benchmarks.harness.stage import Stage
from benchmarks.harness.timing import in_turn, medians, timed

N_REPEATS = 60


@claim(
    "overhead",
    measures="one read at the last layer, 16 tokens, through gRPC and Ray",
    against="the same in local nnsight, which stops at the same layer and returns the same bytes",
    order=1,
)
def overhead(stage: Stage) -> Iterable[Row]:
    """Half of the requests take no longer than this."""
    sizes, model, nnsight = stage.sizes, stage.model(), stage.nnsight
    last = sizes.n_layers - 1

    def ours(number: int) -> Any:
        with model.trace(prompt(sizes, number)) as t:
            t.save(hidden=t.layers[last].resid_post)
        return t.result["hidden"]

    np.testing.assert_allclose(ours(0), nnsight.read(prompt(sizes, 0), last)[1], rtol=1e-3, atol=1e-3)
    sides = {"ours": timed(ours), "theirs": lambda number: nnsight.read(prompt(sizes, number), last)[0]}
    found = medians(in_turn(sides, sizes.repeats(N_REPEATS), n_warm=3, tell=stage.counting("overhead")))
    yield time_row("overhead", 1e3 * found["ours"], 1e3 * found["theirs"], "ms", at_least=0.8)
