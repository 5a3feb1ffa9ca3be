"""Attribution of generated tokens: interpd in one process against Inseq 0.7.1 in another, on one model.

Both sides have one thread, get the same texts and give the same scores, which are compared first. What counts is CPU
time. One target for a span, which Inseq does not have, is compared with the sum of its vectors over the tokens.
"""

import random
import string
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.claims import claim
from benchmarks.harness.model_folder import write_model
from benchmarks.harness.peer_environment import INSEQ
from benchmarks.harness.row import Row, time_row
from benchmarks.harness.side import Side, both_sides
from benchmarks.harness.sizes import QUICK, Sizes
from benchmarks.harness.stage import Stage
from benchmarks.harness.timing import in_turn, medians

SHAPE = Sizes(n_layers=6, d_model=256, n_heads=8, d_vocab=4096, n_positions=256)
WIDE = Sizes(n_layers=4, d_model=512, n_heads=8, d_vocab=4096, n_positions=512)
N_TOKENS = 32
N_WIDE = 256
N_REPEATS = 5
N_SLOW_REPEATS = 2

Sides = tuple[Side, Side]


@claim(
    "attribution",
    measures="attributions of 32 tokens behind 32; growth of the process for 256 behind 256",
    against="Inseq 0.7.1, CPU time of one thread",
    order=200,
)
def attribution(stage: Stage) -> Iterable[Row]:
    """CPU seconds, and MB."""
    shape = replace(SHAPE, n_layers=2, d_model=32, n_heads=4) if stage.sizes is QUICK else SHAPE
    n = 4 if stage.sizes is QUICK else N_TOKENS
    texts = {"prompt": letters(1, n), "text": letters(2, n)}
    with both(stage, shape) as sides:
        rows = Rows(stage, sides)
        absolute = {"reduce": "vnorm"}
        yield rows.time("occlusion", "matrix", 15.0, ({"absolute": True}, {}), method="occlusion", **texts)
        signed = ({**absolute, "absolute": False}, {"abs": False})
        yield rows.time("saliency-span", "span", 15.0, signed, method="saliency", **texts)
        yield rows.time("saliency", "matrix", 2.0, ({}, {}), method="saliency", **texts)
        steps = {"n_steps": 2 if stage.sizes is QUICK else 50}
        slow = {"n": N_SLOW_REPEATS, "method": "integrated_gradients", **texts}
        yield rows.time("ig", "matrix", 1.2, (steps, steps), **slow)
        yield rows.time("ig-span", "span", 20.0, (steps, steps), **slow)
        traced = {"prompt": letters(3, n), "text": "a", "foil": "b", "n_layers": shape.n_layers}
        yield rows.time("cat", "cat", shape.n_layers / 2, None, **traced)
    yield memory_row(stage)


def memory_row(stage: Stage) -> Row:
    """By how much the process grows for scores of all inputs for all tokens, at the most."""
    is_quick = stage.sizes is QUICK
    n = 4 if is_quick else N_WIDE
    texts = {"prompt": letters(4, n), "text": letters(5, n), "method": "saliency", "options": {}}
    with both(stage, replace(WIDE, n_layers=1, d_model=32) if is_quick else WIDE) as sides:
        # what is loaded and set up at first use is no growth for scores
        for side in sides:
            side.do("matrix", **{**texts, "prompt": "ab", "text": "cd"})
        ours, theirs = (side.do("matrix", **texts) for side in sides)
    assert_same(ours.scores, theirs.scores)
    ratio = theirs.grown_mb / max(ours.grown_mb, 1.0)
    return Row("attribution-memory", ours.grown_mb, theirs.grown_mb, "MB", ratio, 10.0)


class Rows:
    """Measures both sides of a row."""

    def __init__(self, stage: Stage, sides: Sides) -> None:
        self._stage, self._sides = stage, sides

    def time(
        self,
        name: str,
        job: str,
        at_least: float,
        options: tuple[dict[str, Any], dict[str, Any]] | None,
        *,
        n: int = N_REPEATS,
        **asked: Any,
    ) -> Row:
        """A row of CPU times. ``options``: of the method, ours and theirs."""
        ours, theirs = ({**asked, "options": own} if options else asked for own in (options or ({}, {})))
        mine, other = self._sides
        assert_same(mine.do(job, **ours).scores, other.do(job, **theirs).scores)
        turns = {
            "ours": lambda number: mine.do(job, **ours).cpu_s,
            "theirs": lambda number: other.do(job, **theirs).cpu_s,
        }
        tell = self._stage.counting(f"attribution-{name}")
        found = medians(in_turn(turns, self._stage.sizes.repeats(n), n_warm=0, tell=tell))
        return time_row(f"attribution-{name}", found["ours"], found["theirs"], "CPU s", at_least)


def both(stage: Stage, shape: Sizes) -> AbstractContextManager[Sides]:
    """Our side and theirs, with a model of this shape."""

    def write(folder: Path) -> None:
        write_model(folder, shape)

    return both_sides("attribution_side.py", "inseq_side.py", INSEQ.python(stage.tell), write, stage.tell)


def letters(seed: int, n: int) -> str:
    """A text of ``n`` tokens."""
    chosen = random.Random(seed)
    return "".join(chosen.choice(string.ascii_lowercase) for _ in range(n))


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raises unless both sides found the same scores."""
    rows = min(len(ours), len(theirs))
    np.testing.assert_allclose(ours[:rows], theirs[:rows], rtol=1e-3, atol=1e-6)
