"""The published code of Backpacks. Runs with the Python of an environment that has it: ``peer_environment.py``."""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from working import work

torch.set_num_threads(1)
FOLDER = Path(sys.argv[1])


def published() -> ModuleType:
    """The modeling file alone: the package around it imports what it does not need."""
    package = importlib.util.find_spec("pyvene")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "models" / "backpack_gpt2" / "modelings_backpack_gpt2.py"
    spec = importlib.util.spec_from_file_location("published_backpack", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def loaded() -> Any:
    """The model, whose checkpoint has each tensor once."""
    code = published()
    settings = json.loads((FOLDER / "config.json").read_text())
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "num_senses", "bos_token_id", "eos_token_id")
    config = code.BackpackGPT2Config(**{name: settings[name] for name in names}, attn_implementation="eager")
    model = code.BackpackGPT2LMHeadModel(config)
    rest = model.load_state_dict(load_file(FOLDER / "model.safetensors"), strict=False)
    assert not rest.unexpected_keys
    assert all(name.startswith(("backpack.word_", "backpack.position_", "lm_head")) for name in rest.missing_keys)
    return model.eval()


MODEL = loaded()


@torch.no_grad()
def logits(ids: Sequence[int]) -> torch.Tensor:
    """Of the token behind ``ids``: ``[d_vocab]``."""
    return MODEL(torch.tensor([ids])).logits[0, -1]


def forward(ids: Sequence[int]) -> Callable[[], np.ndarray]:
    """A forward pass, as it is the only way to the next token."""
    return lambda: logits(ids).numpy()


def edited(ids: Sequence[int], token: int, sense: int, factor: float) -> Callable[[], np.ndarray]:
    """A forward pass with one sense of a token scaled: an edit's effect."""

    def scaled(_: Any, args: tuple[Any, ...], senses: torch.Tensor) -> torch.Tensor:
        senses = senses.clone()
        senses[:, sense, torch.tensor(ids) == token] *= factor
        return senses

    def run() -> np.ndarray:
        handle = MODEL.backpack.sense_network.register_forward_hook(scaled)
        try:
            return logits(ids).numpy()
        finally:
            handle.remove()

    return run


if __name__ == "__main__":
    work({"forward": forward, "edited": edited})
