"""A Backpack of random weights."""

from pathlib import Path

import torch
from interpd_backpack.model import BackpackConfig, BackpackForCausalLM

from benchmarks.harness.model_folder import byte_tokenizer
from benchmarks.harness.sizes import Sizes

FULL = Sizes(d_vocab=50264, n_positions=512, n_tokens=512)
"""Of ``stanfordnlp/backpack-gpt2``: with 16 senses 170,083,584 parameters."""


def write_backpack(folder: Path, sizes: Sizes, *, n_senses: int = 16) -> None:
    """Writes the model of these sizes to ``folder``, as safetensors.

    Its weights are larger than those of a model that begins to learn, so that no two tokens are about as likely.
    """
    torch.manual_seed(0)
    config = BackpackConfig(
        n_layer=sizes.n_layers,
        n_embd=sizes.d_model,
        n_head=sizes.n_heads,
        num_senses=n_senses,
        vocab_size=sizes.d_vocab,
        n_positions=sizes.n_positions,
        initializer_range=0.05,
        bos_token_id=sizes.d_vocab - 1,
        eos_token_id=sizes.d_vocab - 1,
    )
    BackpackForCausalLM(config).save_pretrained(folder)
    # all but 7 rows of the embedding have a token, as published
    byte_tokenizer(sizes.d_vocab - 7).save_pretrained(folder)
