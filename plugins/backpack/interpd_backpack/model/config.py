"""The configurations of Backpacks: those of the transformer, and of the senses."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, GPT2Config, PreTrainedConfig


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
    sense_block_scale: int = 4
    """The same of its block; 1 in the paper's ablations over the number of senses."""
    sense_output_scale: float = 1.0
    """Factor of the sum of senses: 1 as published, 1 / num_senses in Levanter's checkpoints."""


@strict
class RetrofitConfig(PreTrainedConfig):
    """What senses beside a finished language model are made of (ACROS, arXiv 2605.28669)."""

    model_type: ClassVar[str] = "backpack_retrofit"
    sub_configs: ClassVar[dict[str, type]] = {"text_config": AutoConfig}

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    """Of the language model, the backbone; one that transformers knows."""
    num_senses: int = 32
    sense_intermediate_scale: int = 4
    sense_block_scale: int = 4
    sense_output_scale: float = 1.0
    layer_norm_epsilon: float = 1e-5
    activation_function: str = "gelu_new"
    embd_pdrop: float | int = 0.0
    resid_pdrop: float | int = 0.0
    initializer_range: float = 0.02
    use_cache: bool = True
    tie_word_embeddings: bool = True
    """Follows the backbone's."""

    def __post_init__(self, **options: Any) -> None:
        """Makes the backbone's config of its dictionary. Raises ``ValueError`` where there is none."""
        if isinstance(self.text_config, dict):
            settings = dict(self.text_config)
            self.text_config = AutoConfig.for_model(settings.pop("model_type", ""), **settings)
        if self.text_config is not None:
            self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        super().__post_init__(**options)

    @property
    def n_embd(self) -> int:
        """Width of the embeddings."""
        return self._of_backbone("hidden_size")

    @property
    def n_layer(self) -> int:
        """Blocks of the backbone."""
        return self._of_backbone("num_hidden_layers")

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self._of_backbone("vocab_size")

    def _of_backbone(self, name: str) -> int:
        # without a backbone this config is only what others are compared with
        return 0 if self.text_config is None else getattr(self.get_text_config(), name)
