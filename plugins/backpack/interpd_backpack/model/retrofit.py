"""Senses beside a finished language model: ``logits = head(h + g * o)`` (ACROS, arXiv 2605.28669).

The backbone is any causal language model of transformers, and stays as it is; the senses are made of its embeddings,
their weights of its last states, and a gate g, zero at first, says how much of their sum is added. What the senses say
is exact as in a Backpack; what the backbone says is not made of senses.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache

from interpd_backpack.model.backpack import BackpackOutput, kept_positions, placed, scale_down, wants_cache
from interpd_backpack.model.config import RetrofitConfig
from interpd_backpack.model.mixing import SenseMixing
from interpd_backpack.model.network import SenseNetwork
from interpd_backpack.model.table import SenseTable
from interpd_backpack.model.weighting import SenseMemory, SenseWeightNetwork

_TOLERANCE = 1e-4


class SenseSide(nn.Module):
    """The senses of a model whose transformer lies elsewhere, under the names that a Backpack has for them.

    Args:
        config: Of the retrofit.
        owner: Whose embeddings they are made of.
    """

    def __init__(self, config: RetrofitConfig, owner: PreTrainedModel) -> None:
        super().__init__()
        # in a tuple it is no submodule of this one
        self._held = (owner,)
        self.sense_network = SenseNetwork(config)
        self.sense_weight_net = SenseWeightNetwork(config)
        self.sense_table = SenseTable(self)
        self.mixing = SenseMixing(config)
        self.gate = nn.Parameter(torch.zeros(()))

    def embeddings(self) -> nn.Module:
        """The table of token embeddings."""
        return self._held[0].get_input_embeddings()


class RetrofitForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model with senses added.

    Args:
        config: Of both.

    Raises:
        ValueError: A backbone whose logits are more than its last layer of its last states, or whose embeddings have
            another width.
    """

    config_class = RetrofitConfig
    base_model_prefix = "backbone"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: RetrofitConfig) -> None:
        super().__init__(config)
        if config.text_config is None:
            raise ValueError("text_config is missing: the config of the language model that the senses are added to")
        whole = AutoModelForCausalLM.from_config(config.text_config)
        self.backbone: Any = whole.base_model
        self.lm_head: Any = whole.get_output_embeddings()
        self.backpack = SenseSide(config, self)
        self._refuse_odd_ends(whole)
        if config.tie_word_embeddings:
            own = next(name for name, module in self.named_modules() if module is self.get_input_embeddings())
            self._tied_weights_keys = {"lm_head.weight": f"{own}.weight"}
        self.post_init()
        self._freeze()

    def _refuse_odd_ends(self, whole: PreTrainedModel) -> None:
        text, width = self.config.get_text_config(), self.get_input_embeddings().weight.shape[1]
        if width != self.config.n_embd:
            raise ValueError(
                f"{type(whole).__name__} embeds in {width} dimensions and computes in {self.config.n_embd}"
            )
        changes = {"final_logit_softcapping": None, "logit_scale": 1, "logits_scaling": 1, "lm_head_multiplier": 1}
        for name, plain in changes.items():
            if getattr(text, name, plain) not in (None, plain):
                raise ValueError(f"{type(whole).__name__} changes its logits ({name}), so senses cannot be added to it")

    def _freeze(self) -> None:
        self.backbone.requires_grad_(False)
        self.lm_head.requires_grad_(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        scale_down(module, self.config)
        if isinstance(module, SenseSide):
            init.zeros_(module.gate)

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's table of token embeddings."""
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces it."""
        self.backbone.set_input_embeddings(value)

    def train(self, mode: bool = True) -> "RetrofitForCausalLM":
        """Training mode for the senses; the backbone is frozen and has none."""
        super().train(mode)
        self.backbone.eval()
        return self

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
        """Logits of the next token at each position; arguments as those of ``BackpackForCausalLM.forward``."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected either input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if past_key_values is None and wants_cache(self, use_cache):
            past_key_values = DynamicCache(config=self.config)
        n_past = 0 if past_key_values is None else past_key_values.get_seq_length()
        limit = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        places = placed(inputs_embeds, attention_mask, position_ids, n_past, limit)
        memory = SenseMemory(past_key_values, self.config.n_layer)
        options.pop("return_dict", None)
        hidden = self.backbone(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=places,
            past_key_values=past_key_values,
            use_cache=past_key_values is not None,
            **options,
        ).last_hidden_state
        mixed = self.backpack.mixing(
            hidden,
            inputs_embeds,
            input_ids,
            attention_mask,
            parts=self.backpack,
            memory=memory,
        )
        whole = hidden + self.backpack.gate * mixed
        logits = self.lm_head(kept_positions(whole, logits_to_keep))
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return BackpackOutput(loss, logits, past_key_values, memory.weights)


@torch.no_grad()
def retrofit(backbone: PreTrainedModel, **settings: Any) -> RetrofitForCausalLM:
    """The language model with senses that say nothing yet: its gate is zero.

    Args:
        backbone: A causal language model; its modules are taken over, not copied.
        settings: Fields of ``RetrofitConfig``, such as ``num_senses``.

    Raises:
        ValueError: Its logits are not its last layer of its last states.
    """
    config = RetrofitConfig(text_config=backbone.config, **settings)
    with torch.device("meta"):
        model = RetrofitForCausalLM(config)
    model.backbone, model.lm_head = backbone.base_model, backbone.get_output_embeddings()
    model.backpack = SenseSide(config, model)
    model.backpack.apply(model._init_weights).to(backbone.device, backbone.dtype)
    if backbone.generation_config is not None:
        model.generation_config = copy.deepcopy(backbone.generation_config)
    model._freeze()
    model.eval()
    ids = torch.arange(min(8, config.vocab_size), device=backbone.device)[None]
    expected, found = backbone.eval()(ids).logits, model(ids).logits
    if not torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * float(expected.abs().max())):
        raise ValueError(
            f"the logits of {type(backbone).__name__} are not {type(model.lm_head).__name__}(last states), or it does "
            "more with tokens than embed them, so senses cannot be added to it"
        )
    return model
