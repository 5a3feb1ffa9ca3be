"""Tiny random models with their tokenizers, for tests: seeded, made in milliseconds, never downloaded.

    tiny = tiny_llama(tmp_path / "model")   # a folder that ``load_model`` takes
    tiny = tiny_gpt2()                      # in memory only

The sizes of a model's axes are all different, so that a mixed-up axis shows; every parameter is random (biases and
norm weights too), so that a forgotten one shows. The tokenizer is byte-level and takes any text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

BOS, EOS = "<s>", "</s>"
PAD_ID = 2
"""Of encoder-decoder models; their tokenizer has no token of its own for it."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

# what torch initialises with is so small that the logits come out near-uniform and hide errors
_STD = 0.3

_CORPUS = (
    "Elena Marsh was born in Lisbon. Lisbon is the capital of Portugal. The cat sat on the mat.",
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
    "The quick brown fox jumps over the lazy dog. When Mary and John went to the store, John gave a drink to Mary.",
)

_GROUPED: Mapping[str, object] = {
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}

_LEARNED: Mapping[str, object] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}

# caps so low that they bite, a scale that is not that of the heads
_GEMMA: Mapping[str, object] = {
    **_GROUPED,
    "head_dim": 10,
    "query_pre_attn_scalar": 7,
    "sliding_window": 3,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
    "tie_word_embeddings": True,
}

# 4 of the 6 dimensions of a head
_PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.67}
_NEOX: Mapping[str, object] = {**_LEARNED, "intermediate_size": 44, "rope_parameters": _PARTIAL}
_STABLELM: Mapping[str, object] = {
    **_GROUPED,
    "rope_parameters": _PARTIAL,
    "use_qkv_bias": True,
}

_CONFIGS: Mapping[str, Mapping[str, object]] = {
    "gpt2": {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_inner": 44, "n_positions": 64},
    "llama": {**_GROUPED, "head_dim": 10, "attention_bias": True, "mlp_bias": True},
    "mistral": {**_GROUPED, "head_dim": 10, "sliding_window": 3},
    "qwen2": {**_GROUPED, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    "qwen3": {**_GROUPED, "head_dim": 10, "attention_bias": True},
    "gpt_neox": {**_NEOX, "use_parallel_residual": True},
    "gpt_neox_sequential": {**_NEOX, "model_type": "gpt_neox", "use_parallel_residual": False},
    "gpt_neo": {
        "hidden_size": 24,
        "num_layers": 3,
        "num_heads": 4,
        "intermediate_size": 44,
        "max_position_embeddings": 64,
        "attention_types": [[["global", "local", "local"], 1]],
        "window_size": 3,
    },
    "opt": {**_LEARNED, "ffn_dim": 44},
    "opt_post_norm": {
        **_LEARNED,
        "model_type": "opt",
        "ffn_dim": 44,
        "do_layer_norm_before": False,
        "word_embed_proj_dim": 14,
    },
    "phi": {**_GROUPED, "rope_parameters": _PARTIAL},
    "phi3": {**_GROUPED, "sliding_window": 3},
    "phi3_long": {
        **_GROUPED,
        "model_type": "phi3",
        # beyond 12 positions all of them are turned by the long factors
        "original_max_position_embeddings": 12,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0, 1.1, 1.2],
            "long_factor": [2.0, 3.0, 4.0],
            "original_max_position_embeddings": 12,
        },
    },
    "gemma": {**_GROUPED, "head_dim": 10, "tie_word_embeddings": True},
    "gemma2": _GEMMA,
    "gemma3": {**_GEMMA, "model_type": "gemma3_text", "attn_logit_softcapping": None},
    "gemma3_multimodal": {
        "model_type": "gemma3",
        # the model that sees images caps no logits
        "text_config": {**_GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None},
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 20,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
    "olmo2": _GROUPED,
    "stablelm": {**_STABLELM, "use_parallel_residual": False, "qk_layernorm": True},
    "stablelm_parallel": {**_STABLELM, "model_type": "stablelm", "use_parallel_residual": True},
    "cohere": {**_GROUPED, "use_qk_norm": True, "logit_scale": 0.5, "tie_word_embeddings": True},
    "granite": {**_GROUPED, "residual_multiplier": 0.5, "logits_scaling": 2.0},
}

ARCHITECTURES = tuple(_CONFIGS)
"""The decoder-only models that ``tiny_model`` can make. Windows are 3 positions wide (``mistral``, ``qwen2``,
``gpt_neo``, ``phi3``, ``gemma2``, ``gemma3``); ``granite`` has no site table: raw paths only."""

# the sides have different depths, heads and widths
_SIDES: Mapping[str, object] = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 44,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "scale_embedding": True,
    "tie_word_embeddings": False,
    "decoder_start_token_id": PAD_ID,
    "forced_eos_token_id": None,
}
_T5: Mapping[str, object] = {
    "d_model": 24,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "d_kv": 10,
    "d_ff": 44,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": PAD_ID,
}

_TWO_SIDED: Mapping[str, Mapping[str, object]] = {
    "t5": _T5,
    "t5_gated": {**_T5, "model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bart": {**_SIDES, "decoder_start_token_id": 1},
    "marian": {**_SIDES, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 330},
    "pegasus": _SIDES,
    "mbart": _SIDES,
    "blenderbot": _SIDES,
}

ENCODER_DECODERS = tuple(_TWO_SIDED)
"""The encoder-decoder models that ``tiny_model`` can make; ``marian`` has a vocabulary for each side, ``blenderbot``
no site table."""


@dataclass(frozen=True, slots=True)
class TinyModel:
    """A tiny model, its tokenizer and where they were saved."""

    model: PreTrainedModel
    """float32, on the CPU, in eval mode."""
    tokenizer: PreTrainedTokenizerFast
    folder: Path | None
    """``None`` when it lives in memory only."""


def tiny_gpt2(path: Path | str | None = None, seed: int = 0) -> TinyModel:
    """A random GPT-2: 3 layers, width 24, 4 heads of 6; no BOS, no chat template."""
    return tiny_model("gpt2", path, seed)


def tiny_llama(path: Path | str | None = None, seed: int = 0) -> TinyModel:
    """A random Llama: 3 layers, width 24, 4 heads of 10 over 2 key heads; BOS and a chat template."""
    return tiny_model("llama", path, seed)


def save_tiny(path: Path | str, architecture: str = "gpt2", seed: int = 0) -> Path:
    """The folder of a tiny model of ``architecture``, saved at ``path`` as ``load_model`` takes it."""
    folder = tiny_model(architecture, path, seed).folder
    assert folder is not None
    return folder


def tiny_model(architecture: str, path: Path | str | None = None, seed: int = 0) -> TinyModel:
    """A tiny random model of ``ARCHITECTURES`` or ``ENCODER_DECODERS``, saved at ``path`` when that is given.

    The same seed gives the same weights; the state of torch's global generator is left alone.
    """
    two_sided = architecture in ENCODER_DECODERS
    tokenizer = tiny_tokenizer(
        with_bos=architecture not in ("gpt2", *ENCODER_DECODERS), with_chat=architecture == "llama", with_eos=two_sided
    )
    settings = {"model_type": architecture, **(_TWO_SIDED if two_sided else _CONFIGS)[architecture]}
    of_text: dict[str, object] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": PAD_ID if two_sided else None,
    }
    if "text_config" in settings:
        of_text = {"text_config": {**settings["text_config"], **of_text}}
    config = AutoConfig.for_model(**{**settings, **of_text})
    maker = AutoModelForSeq2SeqLM if two_sided else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = maker.from_config(config, dtype=torch.float32).eval()
        _randomise(model)
    folder = None
    if path is not None:
        folder = Path(path)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return TinyModel(model, tokenizer, folder)


@torch.no_grad()
def _randomise(model: PreTrainedModel) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            # positions that are computed, and computed again when a checkpoint is loaded
            continue
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.normal_(1.0 if is_norm else 0.0, _STD)
    for name, buffer in model.named_buffers():
        # a weight that some encoder-decoder models add to their logits
        if name == "final_logits_bias":
            buffer.normal_(0.0, _STD)


def tiny_tokenizer(
    *, with_bos: bool = False, with_chat: bool = False, with_eos: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of about 320 tokens with common words.

    ``with_bos`` makes it put ``<s>`` first, ``with_eos`` ``</s>`` last, as encoder-decoder models have it.
    """
    backend = Tokenizer.from_str(_trained())
    if with_bos or with_eos:
        words = [BOS] * with_bos + ["$A"] + [EOS] * with_eos
        special = [(word, backend.token_to_id(word)) for word in (BOS, EOS)]
        backend.post_processor = processors.TemplateProcessing(single=" ".join(words), special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=EOS)
    if with_chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@cache
def _trained() -> str:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=321,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return backend.to_str()
