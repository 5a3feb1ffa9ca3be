"""A tiny model that takes up its token embeddings again behind its blocks, where it has keys and values of its own.

The stack only says where to look: what is looked at are vectors of the tokens themselves. So something beside the
residual stream goes on past the blocks, and the cache has a layer more than there are blocks.
"""

from dataclasses import replace
from functools import cache

import torch
from torch import nn
from transformers import GPT2LMHeadModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from interpd.config import ModelSpec
from interpd.engine.families.gpt2 import GPT2
from interpd.engine.nnsight_engine import NnsightEngine
from interpd.engine.resident import Loaded, make_resident
from interpd.plugin.registry import load_registry
from interpd.plugin.site_table import SiteRow, SiteTable
from interpd.testing.bench import Bench
from interpd.testing.tiny_models import tiny_model

STREAM = ("batch", "pos", "d_model")
TABLE = SiteTable(
    family="side",
    architectures=("SideReader",),
    block=GPT2.block,
    attention=GPT2.attention,
    softmax_in_float32=False,
    rotary=False,
    mlp_width=GPT2.mlp_width,
    activation=GPT2.activation,
    rows=(
        *GPT2.rows,
        SiteRow("vectors", STREAM, "reader.vectors", doc="what is looked at"),
        SiteRow("looks", ("batch", "query_pos", "key_pos"), "reader.looks", doc="where each position looks"),
        SiteRow(
            "mixed",
            STREAM,
            "reader",
            made_of=("looks", "vectors"),
            made_by=lambda looks, vectors: looks @ vectors,
            doc="what it sees",
        ),
    ),
    absent=GPT2.absent,
    follows=("reader",),
    lookups={"by_id": ("d_model",)},
)


class Same(nn.Module):
    """What it is given: a place to look at."""

    def forward(self, x):
        return x


class Reader(nn.Module):
    """Mixes vectors of the tokens by what the stack says."""

    def __init__(self, width, layer):
        super().__init__()
        self.asks, self.keys, self.vectors = (nn.Linear(width, width) for _ in range(3))
        self.looks = Same()
        self.layer = layer

    def forward(self, hidden, embeds, mask=None, past=None):
        keys, vectors = self.keys(embeds)[:, None], self.vectors(embeds)[:, None]
        if past is not None:
            while len(past.layers) <= self.layer:
                past.layers.append(DynamicLayer())
            keys, vectors = past.update(keys, vectors, self.layer)
        scores = self.asks(hidden) @ keys[:, 0].transpose(1, 2)
        n, total = scores.shape[-2:]
        seen = torch.ones(n, total, dtype=torch.bool, device=scores.device).tril(total - n)
        if mask is not None:
            seen = seen & mask.bool()[:, None]
        scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        return self.looks(scores.softmax(-1)) @ vectors[:, 0]


class ById(nn.Module):
    """The vectors of token ids."""

    def __init__(self, model):
        super().__init__()
        # not a part of it: the model has these modules already
        self.parts = (model.transformer.wte, model.reader.vectors)

    def forward(self, ids):
        table, vectors = self.parts
        return vectors(table(ids))


class SideReader(GPT2LMHeadModel):
    """The model."""

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        use_cache=None,
        logits_to_keep=0,
    ):
        embeds = self.transformer.wte(input_ids)
        out = self.transformer(
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        mixed = self.reader(out.last_hidden_state, embeds, attention_mask, past_key_values if use_cache else None)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(logits=self.lm_head(mixed[:, kept]), past_key_values=out.past_key_values)


def side_reader(dtype=torch.float32):
    """(the model, its tokenizer)."""
    tiny = tiny_model("gpt2")
    model = SideReader(tiny.model.config)
    model.load_state_dict(tiny.model.state_dict())
    torch.manual_seed(0)
    model.reader = Reader(model.config.n_embd, model.config.n_layer)
    model.by_id = ById(model)
    return model.to(dtype).eval().requires_grad_(False), tiny.tokenizer


class Tables:
    """Offers one table."""

    def __init__(self, table):
        self.table = table

    def sites_for_model(self, model_config):
        return self.table


def resident_reader(dtype=torch.float32, **changes):
    """It, probed and tested; ``changes`` are of its table."""
    model, tokenizer = side_reader(dtype)
    return make_resident(Loaded(model, tokenizer, ModelSpec("side"), "seed 0"), Tables(replace(TABLE, **changes)))


@cache
def reader_bench():
    """An engine on it, in double precision."""
    resident = resident_reader(torch.float64)
    return Bench(NnsightEngine(resident, load_registry([])), resident.model)
