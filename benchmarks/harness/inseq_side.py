"""Inseq, as its users call it. Runs with the Python of an environment that has it: ``peer_environment.py``."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from tempfile import mkdtemp
from typing import Any

os.environ["INSEQ_HOME"] = mkdtemp(prefix="inseq_")

import inseq
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from working import work

warnings.filterwarnings("ignore")
logging.disable(logging.ERROR)
torch.set_num_threads(1)
FOLDER = sys.argv[1]
_loaded: dict[Any, Any] = {}


def loaded(method: str, **options: Any) -> Any:
    """The model with a method, loaded once."""
    key = (method, *options.items())
    if key not in _loaded:
        model = AutoModelForCausalLM.from_pretrained(FOLDER, attn_implementation="eager")
        tokenizer = AutoTokenizer.from_pretrained(FOLDER)
        _loaded[key] = inseq.load_model(model, method, tokenizer=tokenizer, **options)
    return _loaded[key]


def attributed(model: Any, prompt: str, text: str, **options: Any) -> Any:
    """One call, without its display of progress, which costs time."""
    return model.attribute(prompt, prompt + text, show_progress=False, **options)[0]


def matrix(method: str, prompt: str, text: str, options: dict[str, Any]) -> Callable[[], np.ndarray]:
    """Scores of each input for each token: ``[input step]``."""
    model = loaded(method)

    def run() -> np.ndarray:
        found = attributed(model, prompt, text, **options)
        if method != "occlusion":
            found = found.aggregate("vnorm", normalize=False)
        return found.target_attributions.numpy()

    return run


def span(method: str, prompt: str, text: str, options: dict[str, Any]) -> Callable[[], np.ndarray]:
    """Scores of the prompt for all tokens together: the sum of their gradients is that of their sum. ``[input]``."""
    model = loaded(method)

    def run() -> np.ndarray:
        vectors = attributed(model, prompt, text, **options).target_attributions
        return vectors[: len(prompt)].sum(1).norm(dim=-1).numpy()

    return run


def cat(prompt: str, text: str, foil: str, n_layers: int) -> Callable[[], np.ndarray]:
    """Contrastive attribution tracing: the MLP of each layer, ``[layer input]``."""
    models = [
        loaded("layer_gradient_x_activation", target_layer=f"transformer.h.{layer}.mlp") for layer in range(n_layers)
    ]

    def run() -> np.ndarray:
        contrast = {"attributed_fn": "contrast_prob_diff", "contrast_targets": prompt + foil}
        found = [attributed(model, prompt, text, **contrast).target_attributions for model in models]
        return torch.stack([vectors[: len(prompt), 0].sum(-1) for vectors in found]).numpy()

    return run


if __name__ == "__main__":
    work({"matrix": matrix, "span": span, "cat": cat})
