"""What users ask for in the claims about many of them: as many different experiments, the same ones on both sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness.model_folder import prompt
from benchmarks.harness.sizes import Sizes

KINDS = ("resid_post", "attn.out", "mlp.out")
N_TOP = 5


@dataclass(frozen=True, slots=True)
class Experiment:
    """Scales one site at the last token; reads a later residual stream and the best next tokens."""

    prompt: str
    kind: str
    """One of ``KINDS``."""
    write_layer: int
    scale: float
    read_layer: int


Answer = Mapping[str, np.ndarray]
"""``hidden`` and ``top`` of one experiment."""


def experiments(sizes: Sizes, number: int) -> list[Experiment]:
    """One experiment of each user; the prompts differ from one ``number`` to the next."""
    found = []
    for user in range(sizes.n_users):
        layer = (5 * user) % sizes.n_layers
        last = min(layer + 1 + user % 3, sizes.n_layers - 1)
        text = prompt(sizes, 1000 * number + user)
        found.append(Experiment(text, KINDS[user % 3], layer, 0.5 + user / 10, last))
    return found


def ask(model: Any, experiment: Experiment) -> Answer:
    """The answer of interpd; ``model`` is a client's."""
    with model.trace(experiment.prompt, progress=False) as t:
        site = t.site(f"layers.{experiment.write_layer}.{experiment.kind}")
        site[:, -1] *= experiment.scale
        t.save(hidden=t.layers[experiment.read_layer].resid_post[:, -1], top=t.logits[:, -1].topk(N_TOP).values)
    return {"hidden": t.result["hidden"], "top": t.result["top"]}


def assert_equal(ours: Answer, theirs: Answer) -> None:
    """Raises ``AssertionError`` when the two sides did not compute the same."""
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-3, atol=1e-3, err_msg=name)
