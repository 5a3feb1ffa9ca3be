"""Three tiny models whose weights follow a rule that no library version changes, with their tokenizers.

    model = tiny.model("tiny-gpt2")            # in evaluation mode, float32
    tokenizer = tiny.tokenizer("tiny-gpt2")
    tiny.save("tiny-gpt2", folder)             # a folder that is loaded by path

The weights come from the raw 64-bit words of ``PCG64(crc32(parameter name))``, which NumPy guarantees to stay as they
are (the streams of ``Generator`` it does not), by elementary arithmetic only: the same bits on every machine. What
makes the golden numbers and the tests that read them both build their models here; nothing but numpy, torch, tokenizers
and transformers is imported. The tokenizers are written out in ``tokenizers/``; ``making/spelling.py`` trained them.
"""

from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

HERE = Path(__file__).resolve().parent

UNK_ID, PAD_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
"""The same in the three vocabularies."""

_SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
_IDS = {"pad_token_id": PAD_ID, "bos_token_id": BOS_ID, "eos_token_id": EOS_ID}

# no two axes of a model have the same size, except where the architecture wants it
_GPT2 = {
    "n_embd": 64,
    "n_layer": 4,
    "n_head": 4,
    "n_inner": 96,
    "n_positions": 48,
    # left alone, these are 0.1: what leaves a model in training mode must not go unseen (nor may it here)
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
}
_LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 88,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 48,
    "tie_word_embeddings": False,
}
_T5 = {
    "d_model": 64,
    "d_kv": 12,
    "d_ff": 96,
    "num_layers": 3,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "feed_forward_proj": "relu",
    "decoder_start_token_id": PAD_ID,
}

NAMES = ("tiny-gpt2", "tiny-llama", "tiny-t5")
ENCODER_DECODER = ("tiny-t5",)

_KINDS = {
    "tiny-gpt2": (GPT2Config, GPT2LMHeadModel, _GPT2),
    "tiny-llama": (LlamaConfig, LlamaForCausalLM, _LLAMA),
    "tiny-t5": (T5Config, T5ForConditionalGeneration, _T5),
}

# standard deviations of the embeddings, chosen so that the predicted distributions are neither flat nor certain
_EMBEDDING = {"tiny-gpt2": 0.3, "tiny-llama": 1.0, "tiny-t5": 1.0}


def model(name: str) -> PreTrainedModel:
    """The model of that name, in evaluation mode and float32, with attention that shows its weights."""
    make_config, make_model, sizes = _KINDS[name]
    vocabulary = len(tokenizer(name))
    config = make_config(**sizes, **_IDS, vocab_size=vocabulary, attn_implementation="eager")
    # what keys caches of other libraries
    config._name_or_path = name
    made = make_model(config)
    with torch.no_grad():
        for parameter_name, parameter in made.named_parameters():
            parameter.copy_(_values(name, parameter_name, parameter))
    return made.float().eval()


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of that name: byte-level BPE that adds nothing (GPT-2), "▁" and a BOS (LLaMA) or an EOS (T5)."""
    file = HERE / "tokenizers" / f"{name}.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), model_max_length=48, **_SPECIAL)


def save(name: str, folder: Path) -> None:
    """Writes the model and its tokenizer as a folder in the usual layout."""
    model(name).save_pretrained(folder)
    tokenizer(name).save_pretrained(folder)


def _values(name: str, parameter_name: str, parameter: nn.Parameter) -> Tensor:
    uniform = _uniform(parameter_name, parameter.numel()).reshape(tuple(parameter.shape))
    return torch.from_numpy(_centre(parameter_name) + _spread(name, parameter_name, parameter) * uniform)


def _uniform(parameter_name: str, count: int) -> np.ndarray:
    """Uniform numbers of mean 0 and variance 1, float32, from the generator's raw words."""
    words = np.random.PCG64(crc32(parameter_name.encode())).random_raw(count)
    unit = (words >> np.uint64(40)).astype(np.float64) / float(1 << 24)
    return ((unit - 0.5) * 3.4641016151377544).astype(np.float32)


def _is_norm(parameter_name: str) -> bool:
    return "ln_" in parameter_name or "norm" in parameter_name


def _centre(parameter_name: str) -> np.float32:
    return np.float32(_is_norm(parameter_name) and parameter_name.endswith("weight"))


def _spread(name: str, parameter_name: str, parameter: nn.Parameter) -> np.float32:
    if _is_norm(parameter_name) or parameter_name.endswith("bias"):
        return np.float32(0.1)
    if "relative_attention_bias" in parameter_name:
        return np.float32(0.5)
    if any(part in parameter_name for part in ("wte", "wpe", "embed_tokens", "shared")):
        return np.float32(_EMBEDDING[name])
    # GPT-2 keeps its matrices the other way round
    fan_in = parameter.shape[0] if name == "tiny-gpt2" else parameter.shape[1]
    gain = {"lm_head.weight": 2.0}.get(parameter_name, 1.0)
    return np.float32(gain / fan_in**0.5)
