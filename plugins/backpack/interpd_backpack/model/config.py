"""The configuration of a Backpack: that of its GPT-2, and of its senses."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import GPT2Config


@strict
class BackpackConfig(GPT2Config):
    """What a Backpack is made of; the defaults are those of ``stanfordnlp/backpack-gpt2``.

    The published configuration calls itself ``gpt2``, which makes transformers build a plain GPT-2 of it. This one has
    a name of its own.
    """

    model_type: ClassVar[str] = "backpack"

    vocab_size: int = 50264
    n_positions: int = 512
    scale_attn_by_inverse_layer_idx: bool = True
    num_senses: int = 16
    """k, the sense vectors of each token."""
    sense_intermediate_scale: int = 4
    """Width of the last layer's inside in the sense network, in multiples of ``n_embd``."""
    sense_output_scale: float = 1.0
    """Factor of the sum of senses: 1 as published, 1 / num_senses in Levanter's checkpoints."""
