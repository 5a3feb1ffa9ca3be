"""The Backpack language model of Hewitt et al. 2023, with the module names of its published weights."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, GPT2Model, GPT2PreTrainedModel, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.utils import ModelOutput

from interpd_backpack.model.config import BackpackConfig
from interpd_backpack.model.mixing import SenseMixing
from interpd_backpack.model.network import SenseNetwork, activation
from interpd_backpack.model.table import SenseTable
from interpd_backpack.model.weighting import SenseMemory, SenseWeightNetwork


@dataclass
class BackpackOutput(ModelOutput):
    """What a Backpack returns."""

    loss: Tensor | None = None
    """Mean negative log-likelihood of the labels."""
    logits: Tensor | None = None
    """``[batch, pos, d_vocab]``."""
    past_key_values: Cache | None = None
    """With one layer more than the transformer: keys of the sense weights, and the senses."""
    contextualization: Tensor | None = None
    """The sense weights, ``[batch, sense, query, key]``."""


class BackpackPreTrainedModel(GPT2PreTrainedModel):
    """How Backpacks are initialised, loaded and saved."""

    config_class = BackpackConfig
    base_model_prefix = "backpack"
    supports_gradient_checkpointing = False
    _no_split_modules: ClassVar[list[str]] = ["GPT2Block", "NoMixBlock"]
    _can_compile_fullgraph = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        scale_down(module, self.config)


class BackpackModel(BackpackPreTrainedModel):
    """A GPT-2 that says how much each sense of each token counts, and the senses.

    Args:
        config: Of the Backpack.
    """

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__(config)
        self.gpt2_model = GPT2Model(config)
        for block in self.gpt2_model.h:
            block.mlp.act = activation(config.activation_function)
        self.sense_network = SenseNetwork(config)
        self.sense_weight_net = SenseWeightNetwork(config)
        self.sense_table = SenseTable(self)
        self.mixing = SenseMixing(config)
        self.post_init()

    def embeddings(self) -> nn.Embedding:
        """The table of token embeddings, from which both sides start."""
        return self.gpt2_model.wte

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of token embeddings."""
        return self.gpt2_model.wte

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replaces the table of token embeddings."""
        self.gpt2_model.wte = value

    def forward(
        self,
        input_ids: Tensor | None,
        memory: SenseMemory,
        attention_mask: Tensor | None,
        position_ids: Tensor,
        *,
        inputs_embeds: Tensor | None = None,
        past_key_values: Cache | None = None,
        **options: Any,
    ) -> Tensor:
        """The mix of senses ``[batch, pos, d_model]``; arguments as in ``BackpackForCausalLM``."""
        if inputs_embeds is None:
            inputs_embeds = self.embeddings()(input_ids)
        hidden = self.gpt2_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=past_key_values is not None,
            **options,
        ).last_hidden_state
        return self.mixing(hidden, inputs_embeds, input_ids, attention_mask, parts=self, memory=memory)


class BackpackForCausalLM(BackpackPreTrainedModel, GenerationMixin):
    """A Backpack that predicts the next token: ``logits = E o``.

    Args:
        config: Of the Backpack.
    """

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "backpack.gpt2_model.wte.weight"}

    def __init__(self, config: BackpackConfig) -> None:
        super().__init__(config)
        self.backpack = BackpackModel(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **options: Any,
    ) -> BackpackOutput:
        """Logits of the next token at each position.

        Args:
            input_ids: Tokens ``[batch, pos]``; those that are not in the cache.
            attention_mask: Zero for padding on either side, ``[batch, pos]``, cached positions included.
            position_ids: Places of the tokens; counted from the first that is no padding when left out.
            past_key_values: A cache, empty or of the positions before.
            inputs_embeds: Embeddings instead of tokens, ``[batch, pos, d_model]``.
            labels: Tokens whose likelihood is the loss, shifted in here; -100 is left out.
            use_cache: Whether to keep what the next positions need.
            logits_to_keep: The last so many positions only, or these; 0: all.
            options: Passed on to the GPT-2.

        Raises:
            ValueError: More positions than the model has, or a mask that is not ``[batch, pos]``.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected either input_ids or inputs_embeds")
        given = input_ids if input_ids is not None else inputs_embeds
        if past_key_values is None and wants_cache(self, use_cache):
            past_key_values = DynamicCache(config=self.config)
        n_past = 0 if past_key_values is None else past_key_values.get_seq_length()
        places = placed(given, attention_mask, position_ids, n_past, self.config.n_positions)
        memory = SenseMemory(past_key_values, self.config.n_layer)
        options.pop("return_dict", None)
        mixed = self.backpack(
            input_ids,
            memory,
            attention_mask,
            places,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
            **options,
        )
        logits = self.lm_head(kept_positions(mixed, logits_to_keep))
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return BackpackOutput(loss, logits, past_key_values, memory.weights)


def scale_down(module: nn.Module, config: Any) -> None:
    """Initialises what is added to a residual: smaller, as in GPT-2."""
    if getattr(module, "is_residual", False):
        init.normal_(module.weight, mean=0.0, std=config.initializer_range / (2 * config.n_layer) ** 0.5)


def wants_cache(model: PreTrainedModel, use_cache: bool | None) -> bool:
    """Whether a forward without a cache makes one: as it is told, or as the config says, but not in training."""
    return bool(model.config.use_cache and not model.training) if use_cache is None else use_cache


def placed(
    given: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, n_past: int, n_positions: int | None
) -> Tensor:
    """The places ``[batch, pos]`` of what is given.

    Args:
        given: Tokens or embeddings, ``[batch, pos, ...]``.
        attention_mask: Zero for padding, ``[batch, key]``.
        position_ids: The places, when the caller says them.
        n_past: How many are cached.
        n_positions: How many places there are; ``None``: no end of them.

    Raises:
        ValueError: A mask of another shape, or more places than there are.
    """
    n_new = given.shape[1]
    if attention_mask is not None and attention_mask.shape != (len(given), n_past + n_new):
        raise ValueError(
            f"attention_mask is {list(attention_mask.shape)}, expected [batch, pos] = {[len(given), n_past + n_new]}"
        )
    if position_ids is None and attention_mask is not None:
        position_ids = _counted(attention_mask, n_new)
    elif position_ids is None:
        position_ids = torch.arange(n_past, n_past + n_new, device=given.device)[None]
    # told before a table is read beyond its end, which on a GPU ends the process
    needed = int(position_ids.max()) + 1 if n_positions is not None and position_ids.numel() else 0
    if n_positions is not None and needed > n_positions:
        raise ValueError(f"the model has {n_positions} positions, got a text of {needed} tokens")
    return position_ids


def _counted(attention_mask: Tensor, n_new: int) -> Tensor:
    """Places counted from the first that is no padding; one row for all where padding stands at the ends only."""
    places = attention_mask.long().cumsum(-1) - 1
    columns = torch.arange(places.shape[1], device=places.device)[None]
    is_last = (places == columns) | (attention_mask == 0)
    if is_last.all() and attention_mask[:, -1].any():
        # equal for all rows: whatever is made of it goes with rows that are moved between blocks
        return columns[:, -n_new:]
    return places.clamp(min=0)[:, -n_new:]


def kept_positions(mixed: Tensor, keep: int | Tensor) -> Tensor:
    """The positions whose logits are asked for."""
    return mixed[:, -keep:] if isinstance(keep, int) and keep else mixed if isinstance(keep, int) else mixed[:, keep]
