"""Facts that every model has, also one that a plugin built and that is no ``PreTrainedModel``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def text_config(model: nn.Module) -> Any:
    """The config of the language model: its own part of the config of a model of several modalities."""
    config = model.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def n_layers(model: nn.Module) -> int:
    """How many blocks the config counts; 0 when it does not say."""
    return getattr(text_config(model), "num_hidden_layers", None) or 0


def n_vocab(model: nn.Module) -> int:
    """How many token ids the embedding knows."""
    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    return embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else text_config(model).vocab_size


def has_encoder(model: nn.Module) -> bool:
    """Whether it is an encoder-decoder model, whose prompts have a source and a target side."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def n_target_vocab(model: nn.Module) -> int:
    """How many token ids the decoder knows; some models have a vocabulary for each side."""
    embeddings = model.get_decoder().get_input_embeddings() if has_encoder(model) else None
    return embeddings.num_embeddings if isinstance(embeddings, nn.Embedding) else n_vocab(model)


def end_ids_of(model: nn.Module, tokenizer: Any) -> frozenset[int]:
    """The ids with which a text of this model ends, from its generation config, its config and its tokenizer."""
    found: set[int] = set()
    for source in (getattr(model, "generation_config", None), model.config, tokenizer):
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else () if ids is None else (ids,))
    return frozenset(found)


def long_from(model: nn.Module) -> int:
    """The number of positions beyond which the model turns *every* position of a pass otherwise; 0: it never does.

    With ``longrope`` (LongRoPE, arXiv 2402.13753) the longest row of a pass decides for all of them.
    """
    rope = getattr(text_config(model), "rope_parameters", None) or {}
    kinds = [part for part in (rope, *rope.values()) if isinstance(part, Mapping)]
    long = [part for part in kinds if part.get("rope_type") == "longrope"]
    return min((part.get("original_max_position_embeddings") or 0 for part in long), default=0)


def device_of(model: nn.Module) -> torch.device:
    """Where the weights are."""
    return next(model.parameters()).device


def devices_of(model: nn.Module) -> tuple[torch.device, ...]:
    """Where the weights are: one device, or several, in the order of the modules."""
    return tuple(dict.fromkeys(parameter.device for parameter in model.parameters()))


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of the first floating weight."""
    return next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
