"""A model in training mode for one pass: what it drops is drawn from a seed, and nothing of it is left behind."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from interpd.engine.guard import unchanged_globals
from interpd.engine.model_config import devices_of


@contextmanager
def dropping(model: nn.Module, seed: int | None) -> Iterator[None]:
    """While it lasts, ``model`` drops what it drops in training, drawn from ``seed``; ``None``: nothing is changed.

    Norms that would learn from what they see stay as they are. Afterwards every module is in the mode in which it was,
    and torch's random numbers go on where they were.
    """
    if seed is None:
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    with unchanged_globals():
        _sow(model, seed)
        try:
            # not `train()`, which some modules take as an occasion to rearrange their weights
            for module, _ in modes:
                module.training = not (isinstance(module, _NormBase) and module.track_running_stats)
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def _sow(model: nn.Module, seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    for device in devices_of(model):
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
