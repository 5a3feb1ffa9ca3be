"""A read at an early layer, which ends the pass there."""

from collections.abc import Iterable

from benchmarks.harness.claims import claim
from benchmarks.harness.model_folder import prompt
from benchmarks.harness.row import Row, time_row
from benchmarks.harness.stage import Stage
from benchmarks.harness.timing import in_turn, medians, timed

N_REPEATS = 30


@claim(
    "early-stop",
    measures="one read at layer 1",
    against="one read at the last layer, with the best token at each position",
    order=5,
)
def early_stop(stage: Stage) -> Iterable[Row]:
    """How much sooner a request is answered that needs two layers only."""
    sizes, model = stage.sizes, stage.model()

    def early(number: int) -> None:
        with model.trace(prompt(sizes, number)) as t:
            t.save(hidden=t.layers[1].resid_post)

    def whole(number: int) -> None:
        with model.trace(prompt(sizes, number)) as t:
            t.save(hidden=t.layers[sizes.n_layers - 1].resid_post, best=t.logits.argmax(-1))

    sides = {"ours": timed(early), "theirs": timed(whole)}
    found = medians(in_turn(sides, sizes.repeats(N_REPEATS), n_warm=3, tell=stage.counting("early-stop")))
    yield time_row("early-stop", 1e3 * found["ours"], 1e3 * found["theirs"], "ms", at_least=4.0)
