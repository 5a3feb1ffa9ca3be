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
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

BOS, EOS = "<s>", "</s>"

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

_CONFIGS: Mapping[str, Mapping[str, object]] = {
    "gpt2": {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_inner": 44, "n_positions": 64},
    "llama": {**_GROUPED, "head_dim": 10, "attention_bias": True, "mlp_bias": True},
    "mistral": {**_GROUPED, "head_dim": 10, "sliding_window": 3},
    "qwen2": {**_GROUPED, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    "gpt_neox": {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
}

ARCHITECTURES = tuple(_CONFIGS)
"""What ``tiny_model`` can make: ``gpt2``, ``llama`` (grouped heads), ``mistral`` and ``qwen2`` (with sliding windows),
``gpt_neox`` (no canonical sites: raw paths only)."""


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
    """A tiny random model of one of ``ARCHITECTURES``, saved at ``path`` when that is given.

    The same seed gives the same weights; the state of torch's global generator is left alone.
    """
    tokenizer = tiny_tokenizer(with_bos=architecture != "gpt2", with_chat=architecture == "llama")
    config = AutoConfig.for_model(
        architecture,
        **_CONFIGS[architecture],
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
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
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.normal_(1.0 if is_norm else 0.0, _STD)


def tiny_tokenizer(*, with_bos: bool = False, with_chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of about 320 tokens with common words; ``with_bos`` makes it put ``<s>`` first."""
    backend = Tokenizer.from_str(_trained())
    if with_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
        )
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
