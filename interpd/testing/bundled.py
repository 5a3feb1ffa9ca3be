"""Bundled models as ``from_pretrained`` gives them, loaded once; nobody is to change them."""

from functools import cache
from typing import TYPE_CHECKING, Any

from interpd import zoo

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@cache
def tokenizer_of(name: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a bundled model."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(zoo.path(name))


@cache
def model_of(name: str) -> "PreTrainedModel":
    """The model, in float32 and evaluation mode."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    folder = zoo.path(name)
    is_encoder_decoder = AutoConfig.from_pretrained(folder).is_encoder_decoder
    kind: Any = AutoModelForSeq2SeqLM if is_encoder_decoder else AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float32).eval()
