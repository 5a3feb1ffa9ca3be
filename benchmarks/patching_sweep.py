"""Residual patching of every layer and position of one pair of prompts."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.harness.claims import claim
from benchmarks.harness.model_folder import prompt
from benchmarks.harness.row import Row, rate_row
from benchmarks.harness.sizes import Sizes
from benchmarks.harness.stage import Stage
from benchmarks.harness.timing import in_turn, medians, timed

N_REPEATS = 3
TOKEN = 7
"""Whose logit is looked at."""


def sweep(model: Any, sizes: Sizes, number: int) -> np.ndarray:
    """The logits ``[layer, pos]`` of all patches: a request per layer, a prompt per position, all sent at once."""
    clean, corrupt = prompt(sizes, 2 * number), prompt(sizes, 2 * number + 1)
    handles = []
    for layer in range(sizes.n_layers):
        t = model.trace(progress=False)
        source = t.prompt(clean).layers[layer].resid_post
        found = []
        for place in range(sizes.n_tokens):
            target = t.prompt(corrupt)
            target.layers[layer].resid_post[:, place] = source[:, place]
            found.append(target.logits[0, -1, TOKEN])
        t.save(found=t.torch.stack(found))
        handles.append(t.submit())
    return np.stack([handle.result()["found"] for handle in handles])


def one_by_one(model: Any, sizes: Sizes, number: int) -> np.ndarray:
    """The same with one request for each patch, after one that reads what is patched in."""
    clean, corrupt = prompt(sizes, 2 * number), prompt(sizes, 2 * number + 1)
    with model.trace(clean) as t:
        t.save(hidden=[layer.resid_post for layer in t.layers])
    hidden, found = t.result["hidden"], np.zeros((sizes.n_layers, sizes.n_tokens), np.float32)
    for layer, place in np.ndindex(found.shape):
        with model.trace(corrupt) as t:
            t.layers[layer].resid_post[:, place] = hidden[layer][:, place]
            t.save(found=t.logits[0, -1, TOKEN])
        found[layer, place] = t.result["found"]
    return found


@claim(
    "patching-sweep",
    measures="residual patching of every layer and position of one pair of prompts",
    against="one request per patch",
    order=4,
)
def patching_sweep(stage: Stage) -> Iterable[Row]:
    """Patches per second."""
    sizes, model = stage.sizes, stage.model()
    np.testing.assert_allclose(sweep(model, sizes, 0), one_by_one(model, sizes, 0), rtol=1e-3, atol=1e-3)
    sides = {
        "ours": timed(lambda number: sweep(model, sizes, number)),
        "theirs": timed(lambda number: one_by_one(model, sizes, number)),
    }
    seconds = in_turn(sides, sizes.repeats(N_REPEATS), n_warm=0, tell=stage.counting("patching-sweep"))
    found, n = medians(seconds), sizes.n_layers * sizes.n_tokens
    yield rate_row("patching-sweep", n / found["ours"], n / found["theirs"], "patches/s", at_least=4.0)
