"""Steered generations of many clients, who arrive while others decode."""

import random
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.harness.claims import claim
from benchmarks.harness.model_folder import prompt
from benchmarks.harness.row import Row, rate_row
from benchmarks.harness.sizes import Sizes
from benchmarks.harness.stage import Crowd, Stage
from benchmarks.harness.timing import in_turn, medians, timed

N_REPEATS = 3
ARRIVE_WITHIN = 12
"""Steps of a decode, as long as one user alone takes for them, within which all users arrive."""


def arrivals(n_users: int, within_s: float) -> list[float]:
    """Seconds at which each user arrives: a Poisson process of a fixed seed, of which the last arrives at the end."""
    gaps = random.Random(0)
    times, now = [], 0.0
    for _ in range(n_users):
        times.append(now)
        now += gaps.expovariate(1.0)
    return [within_s * moment / max(times[-1], 1e-9) for moment in times]


def generate(model: Any, sizes: Sizes, number: int, user: int) -> tuple[int, ...]:
    """The new tokens of one steered generation."""
    direction = np.random.default_rng(user).standard_normal(sizes.d_model).astype(np.float32)
    with model.generate(prompt(sizes, 1000 * number + user), max_new_tokens=sizes.n_new_tokens, ignore_eos=True) as g:
        g.layers[user % sizes.n_layers].resid_post[:, -1] += direction
    return g.result.token_ids


@claim(
    "cobatch-generate",
    measures="16 clients, a steered generation of 32 tokens each, arriving over time",
    against="the same daemon with sharing off",
    order=3,
)
def cobatch_generate(stage: Stage) -> Iterable[Row]:
    """New tokens per second, from the first arrival to the last token."""
    sizes = stage.sizes
    crowds = {"ours": Crowd(stage), "theirs": Crowd(stage, share_passes=False)}
    alone = timed(lambda number: generate(crowds["ours"].models[0], sizes, number, 0))
    alone(0)
    starts = arrivals(sizes.n_users, ARRIVE_WITHIN * alone(1) / sizes.n_new_tokens)
    tokens: dict[str, Any] = {}

    def burst(name: str, number: int) -> None:
        def act(model: Any, user: int) -> tuple[int, ...]:
            time.sleep(starts[user])
            return generate(model, sizes, number, user)

        tokens[name] = crowds[name].act(act)

    sides = {name: timed(lambda number, name=name: burst(name, number)) for name in crowds}
    seconds = in_turn(sides, sizes.repeats(N_REPEATS), n_warm=1, tell=stage.counting("cobatch-generate"))
    # both sides have just generated from the same prompts
    if tokens["ours"] != tokens["theirs"]:
        raise AssertionError("generations that share passes differ from those that do not")
    found = medians(seconds)
    n = sizes.n_users * sizes.n_new_tokens
    yield rate_row("cobatch-generate", n / found["ours"], n / found["theirs"], "tokens/s", at_least=5.0)
