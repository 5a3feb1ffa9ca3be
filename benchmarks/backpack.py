"""Backpacks of the published size: interpd in one process against the published code in another, on the same weights.

Both sides have one thread, get the same tokens and give the same numbers, which are compared first. What counts is CPU
time. The sense table has the senses of the texts' tokens, as it has in a service after the first text that held them.
"""

import random
import string
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.backpack_folder import FULL, write_backpack
from benchmarks.harness.claims import claim
from benchmarks.harness.peer_environment import BACKPACK
from benchmarks.harness.row import Row, time_row
from benchmarks.harness.side import Side, both_sides
from benchmarks.harness.sizes import QUICK, Sizes
from benchmarks.harness.stage import Stage
from benchmarks.harness.timing import in_turn, medians

N_REPEATS = 5
N_SLOW_REPEATS = 2
N_STEPS = 16
"""Steps of decoding that are timed together."""
N_EDITS = 32
"""Edits whose effects are asked for at once."""
N_VARIANTS = 8
N_NEW = 64
N_JOBS = 40
FACTORS = tuple(np.linspace(0.0, 2.0, 10).tolist())
N_MEASURED = 5
"""Forward passes from which those of the whole sweep are extrapolated."""

Sides = tuple[Side, Side]
TEXT, JOBS = string.ascii_lowercase, string.ascii_uppercase + string.digits + "+-*/"
"""What texts are made of, and what never occurs in them; one character is one token."""


@claim(
    "backpack",
    measures="decoding, a forward pass, an edit, edited variants, a sweep over gender bias",
    against="the published code's forward pass; for variants: one after the other",
    order=210,
)
def backpack(stage: Stage) -> Iterable[Row]:
    """CPU seconds."""
    sizes = stage.sizes if stage.sizes is QUICK else FULL
    with both(stage, sizes) as sides:
        rows = Rows(stage, sides, sizes)
        yield rows.decode()
        yield rows.forward()
        yield rows.edit()
        yield rows.variants()
        yield rows.bias()


class Rows:
    """Measures both sides of each row, on texts as long as the model takes."""

    def __init__(self, stage: Stage, sides: Sides, sizes: Sizes) -> None:
        self._stage, self._sizes = stage, sizes
        self._ours, self._theirs = sides
        self._n = sizes.n_positions
        self._ids = tokens(letters(1, self._n))

    def decode(self) -> Row:
        """A step of decoding at the end of the text, against a forward pass over all of it."""
        n_steps = min(N_STEPS, self._n // 2)
        ours = {"ids": self._ids, "n_steps": n_steps}
        assert_same(self._ours.do("decode", **ours).scores, self._theirs.do("forward", ids=self._ids).scores)
        turns = {
            "ours": lambda _: self._ours.do("decode", **ours).cpu_s / n_steps,
            "theirs": lambda _: self._theirs.do("forward", ids=self._ids).cpu_s,
        }
        return self._row("decode", turns, N_REPEATS, 20.0)

    def forward(self) -> Row:
        """A forward pass with known senses to the logits of the next token, against one to all logits."""
        assert_same(*(side.do("forward", ids=self._ids).scores for side in (self._ours, self._theirs)))
        turns = {
            "ours": lambda _: self._ours.do("forward", ids=self._ids).cpu_s,
            "theirs": lambda _: self._theirs.do("forward", ids=self._ids).cpu_s,
        }
        return self._row("forward", turns, N_REPEATS, 1.8)

    def edit(self) -> Row:
        """What one more edit costs where the text has been seen: all logits behind it, compared with those before."""
        edits = [(self._ids[at], at % 4, 0.5 + 0.1 * at) for at in range(N_EDITS + 1)]
        targets = list(range(64))
        one, many = ({"ids": self._ids, "edits": edits[:n], "targets": targets} for n in (1, len(edits)))
        first = dict(zip(("token", "sense", "factor"), edits[0], strict=True), ids=self._ids)
        theirs = self._theirs.do("edited", **first).scores[targets]
        assert_same(self._ours.do("effects", **many).scores[0], theirs)
        turns = {
            "ours": lambda _: max(
                (self._ours.do("effects", **many).cpu_s - self._ours.do("effects", **one).cpu_s) / N_EDITS, 1e-6
            ),
            "theirs": lambda _: self._theirs.do("edited", **first).cpu_s,
        }
        return self._row("edit", turns, N_REPEATS, 60.0)

    def variants(self) -> Row:
        """Edited variants of one prompt in one request, against one request after the other."""
        n_new = min(N_NEW, self._n // 4)
        prompt = letters(2, self._n - n_new)
        edits = [(tokens(prompt)[at], at % 4, -2.0) for at in range(N_VARIANTS)]
        asked: dict[str, Any] = {"prompt": prompt, "edits": edits, "n_new": n_new}
        together, alone = (self._ours.do("variants", together=one, **asked).scores for one in (True, False))
        np.testing.assert_array_equal(together, alone)
        turns = {
            "ours": lambda _: self._ours.do("variants", together=True, **asked).cpu_s,
            "theirs": lambda _: self._ours.do("variants", together=False, **asked).cpu_s,
        }
        return self._row("variants", turns, N_SLOW_REPEATS, 2.0)

    def bias(self) -> Row:
        """Every sense of every word under every factor, against a forward pass for each."""
        words, pair = tokens(JOBS[:N_JOBS]), tokens("ab")
        text = letters(3, self._n - 2)
        asked = {"prompt": f"{text[:-1]}{{}}{text[-1]}", "words": words, "pair": pair, "factors": FACTORS}
        found = self._ours.do("bias", **asked).scores
        chosen = random.Random(4)
        measured = [tuple(chosen.randrange(n) for n in found.shape) for _ in range(N_MEASURED)]

        def edited(place: Sequence[int]) -> Any:
            word, sense, factor = words[place[0]], place[1], FACTORS[place[2]]
            ids = [*tokens(text[:-1]), word, *tokens(text[-1])]
            return self._theirs.do("edited", ids=ids, token=word, sense=sense, factor=factor)

        for place in measured:
            first, second = edited(place).scores[list(pair)].astype(np.float64)
            np.testing.assert_allclose(found[place], np.exp(abs(first - second)), rtol=1e-3)
        turns = {
            "ours": lambda _: self._ours.do("bias", **asked).cpu_s,
            "theirs": lambda _: found.size * float(np.mean([edited(place).cpu_s for place in measured])),
        }
        return self._row("bias", turns, 1, 100.0)

    def _row(self, name: str, turns: Any, n: int, at_least: float) -> Row:
        tell = self._stage.counting(f"backpack-{name}")
        found = medians(in_turn(turns, self._stage.sizes.repeats(n), n_warm=0, tell=tell))
        return time_row(f"backpack-{name}", found["ours"], found["theirs"], "CPU s", at_least)


def both(stage: Stage, sizes: Sizes) -> AbstractContextManager[Sides]:
    """Our side and theirs, with a model of these sizes."""

    def write(folder: Path) -> None:
        write_backpack(folder, sizes, n_senses=4 if sizes is QUICK else 16)

    return both_sides("backpack_side.py", "backpack_published_side.py", BACKPACK.python(stage.tell), write, stage.tell)


def letters(seed: int, n: int) -> str:
    """A text of ``n`` tokens."""
    chosen = random.Random(seed)
    return "".join(chosen.choice(TEXT) for _ in range(n))


def tokens(text: str) -> list[int]:
    """Token ids of the byte-level tokenizer, whose vocabulary begins with the printable characters, sorted."""
    return [ord(letter) - ord("!") for letter in text]


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raises unless both sides found the same logits."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
