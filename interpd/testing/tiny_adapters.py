"""Random PEFT adapters of tiny models, for tests: made and saved by PEFT itself."""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

_STD = 0.3


def save_adapter(path: Path | str, model: PreTrainedModel, config: PeftConfig | None = None, seed: int = 0) -> Path:
    """The folder of an adapter of ``model``, whose weights are all random; ``model`` stays as it is.

    Args:
        path: Where to save it.
        model: What it adapts.
        config: Of which kind; a LoRA of rank 4 on all linear layers when absent.
        seed: Equal seeds give equal weights.
    """
    with warnings.catch_warnings(), torch.no_grad():
        # about what it guessed, which is what we mean
        warnings.simplefilter("ignore")
        adapted = get_peft_model(copy.deepcopy(model), config or LoraConfig(r=4, target_modules="all-linear"))
        generator = torch.Generator().manual_seed(seed)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * _STD)
        adapted.save_pretrained(path)
    return Path(path)


def adapted_by_peft(model: PreTrainedModel, path: Path | str) -> Any:
    """``model`` with the adapter in ``path`` as PEFT itself applies it, to compare with; ``model`` stays as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(copy.deepcopy(model), str(path)).eval().requires_grad_(False)
