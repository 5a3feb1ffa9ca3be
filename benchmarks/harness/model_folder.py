"""A GPT-2 of random weights with a byte-level tokenizer: one byte is one token, so lengths are plain to see."""

import random
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.harness.sizes import Sizes

_END = "<|end|>"


def write_model(folder: Path, sizes: Sizes) -> None:
    """Writes the model of these sizes to ``folder``, as safetensors."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=sizes.n_layers,
        n_embd=sizes.d_model,
        n_head=sizes.n_heads,
        vocab_size=sizes.d_vocab,
        n_positions=sizes.n_positions,
        # the model's own end of text is no token of this vocabulary when it is small
        bos_token_id=sizes.d_vocab - 1,
        eos_token_id=sizes.d_vocab - 1,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


def byte_tokenizer(n_tokens: int = 0) -> PreTrainedTokenizerFast:
    """One token per byte, one for the end, and as many that no text has as it takes to make ``n_tokens``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    unused = (f"<|{number}|>" for number in range(len(alphabet) + 1, n_tokens))
    vocabulary = {text: index for index, text in enumerate([*alphabet, _END, *unused])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=_END, eos_token=_END, pad_token=_END)


def prompt(sizes: Sizes, number: int) -> str:
    """A text of ``sizes.n_tokens`` tokens; another one for each number, so that nothing is answered from memory."""
    letters = random.Random(number)
    return "".join(letters.choice(string.ascii_lowercase) for _ in range(sizes.n_tokens))
