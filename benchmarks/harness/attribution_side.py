"""interpd in one process, with the attribution plugin, as its users call it."""

import sys
from collections.abc import Callable
from typing import Any

import interpd_client
import numpy as np
import torch
from working import work

torch.set_num_threads(1)
CLIENT = interpd_client.local(sys.argv[1], plugins=["attribution"], name="bench")
MODEL = CLIENT.model("bench")


def matrix(method: str, prompt: str, text: str, options: dict[str, Any]) -> Callable[[], np.ndarray]:
    """Scores of each input for each token: ``[input step]``."""
    return lambda: MODEL.attribute(prompt, text, method=method, **options).scores


def span(method: str, prompt: str, text: str, options: dict[str, Any]) -> Callable[[], np.ndarray]:
    """Scores of the prompt for all tokens together: ``[input]``."""
    return lambda: MODEL.attribute(prompt, text, method=method, span=True, **options).scores[: len(prompt), 0]


def cat(prompt: str, text: str, foil: str, n_layers: int) -> Callable[[], np.ndarray]:
    """Contrastive attribution tracing: the MLP of each layer, ``[layer input]``."""

    def run() -> np.ndarray:
        found = MODEL.attribute(
            prompt,
            text,
            method="layer_gradient_x_activation",
            target="contrast_prob_diff",
            contrast=foil,
            sites=["layers.{i}.mlp.out"],
            reduce="sum",
        )
        return found.scores[: len(prompt), 0].T

    return run


if __name__ == "__main__":
    work({"matrix": matrix, "span": span, "cat": cat})
