"""The families written out once more in plain torch, from the weights alone: what each canonical site means.

``logits(model, ids, at)`` runs one unpadded pass and calls ``at(name, value)`` at every site; what it returns goes on
in its place. Shares no code with the engine or with the attention of transformers; norms and activations are called.
"""

import math

import torch
from transformers.activations import ACT2FN

LLAMA = {
    "embed": "model.embed_tokens",
    "block": "model.layers.{i}",
    "norm": "input_layernorm",
    "second": "post_attention_layernorm",
    "attention": "self_attn",
    "o": "o_proj",
    "last": "mlp.down_proj",
    "final": "model.norm",
}
GPT2 = {
    "embed": "transformer.wte",
    "positions": "transformer.wpe",
    "block": "transformer.h.{i}",
    "norm": "ln_1",
    "second": "ln_2",
    "attention": "attn",
    "o": "c_proj",
    "first": "mlp.c_fc",
    "last": "mlp.c_proj",
    "final": "transformer.ln_f",
}
GEMMA = {
    **LLAMA,
    "second": "pre_feedforward_layernorm",
    "behind": ("post_attention_layernorm", "post_feedforward_layernorm"),
}
PARTS = {
    "gpt2": GPT2,
    "gpt_neo": {**GPT2, "attention": "attn.attention", "o": "out_proj"},
    "opt": {
        "embed": "model.decoder.embed_tokens",
        "positions": "model.decoder.embed_positions",
        "block": "model.decoder.layers.{i}",
        "norm": "self_attn_layer_norm",
        "second": "final_layer_norm",
        "attention": "self_attn",
        "o": "out_proj",
        "first": "fc1",
        "last": "fc2",
        "final": "model.decoder.final_layer_norm",
    },
    "gpt_neox": {
        "embed": "gpt_neox.embed_in",
        "block": "gpt_neox.layers.{i}",
        "norm": "input_layernorm",
        "second": "post_attention_layernorm",
        "attention": "attention",
        "o": "dense",
        "first": "mlp.dense_h_to_4h",
        "last": "mlp.dense_4h_to_h",
        "final": "gpt_neox.final_layer_norm",
    },
    "phi": {
        **LLAMA,
        "second": "input_layernorm",
        "o": "dense",
        "first": "mlp.fc1",
        "last": "mlp.fc2",
        "final": "model.final_layernorm",
    },
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "gemma3": {
        **GEMMA,
        "embed": "model.language_model.embed_tokens",
        "block": "model.language_model.layers.{i}",
        "final": "model.language_model.norm",
    },
    "olmo2": {
        **LLAMA,
        "norm": None,
        "second": None,
        "behind": ("post_attention_layernorm", "post_feedforward_layernorm"),
    },
    "cohere": {**LLAMA, "second": "input_layernorm"},
}
PARALLEL = ("phi", "cohere")
# the second norm of these parallel blocks is the first
ONE_NORM = ("stablelm",)


def logits(model, ids, at=lambda name, value: value):
    """The logits ``[batch pos d_vocab]``."""
    config, part = model.config.get_text_config(), PARTS.get(model.config.model_type, LLAMA)
    x = at("embed", _embed(model, part, ids))
    if "positions" in part:
        offset = 2 if config.model_type == "opt" else 0
        x = x + model.get_submodule(part["positions"]).weight[offset : offset + ids.shape[1]]
    for layer in range(config.num_hidden_layers):
        x = _Block(model, part, layer, at).run(x)
    if not _is_post_norm(config):
        x = at("ln_final", model.get_submodule(part["final"])(x))
    if getattr(config, "word_embed_proj_dim", x.shape[-1]) != x.shape[-1]:
        x = model.model.decoder.project_out(x)
    return at("logits", _head(model, x))


def _embed(model, part, ids):
    x, config = model.get_submodule(part["embed"]).weight[ids], model.config.get_text_config()
    if config.model_type.startswith("gemma"):
        x = x * torch.tensor(config.hidden_size**0.5, dtype=torch.float32).to(x.dtype)
    if getattr(config, "word_embed_proj_dim", config.hidden_size) != config.hidden_size:
        x = model.model.decoder.project_in(x)
    return x


def _head(model, x):
    found, cap = model.lm_head(x), getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if cap:
        found = torch.tanh(found / cap) * cap
    return found * getattr(model.config, "logit_scale", 1.0)


def _is_post_norm(config):
    return not getattr(config, "do_layer_norm_before", True)


class _Block:
    def __init__(self, model, part, layer, at):
        self.config, self.part, self.layer = model.config.get_text_config(), part, layer
        self.kind = self.config.model_type
        self.block = model.get_submodule(part["block"].format(i=layer))
        self.at = lambda name, value: at(f"layers.{layer}.{name}", value)
        self.n_heads = self.config.num_attention_heads
        self.n_kv = getattr(self.config, "num_key_value_heads", None) or self.n_heads
        self.d_head = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.n_heads

    def module(self, path):
        return self.block.get_submodule(path)

    def attention_module(self, name):
        return self.block.get_submodule(f"{self.part['attention']}.{name}")

    def normed(self, name, x):
        path = self.part[name]
        return x if path is None else self.module(path)(x)

    def run(self, x):
        at, behind = self.at, self.part.get("behind", (None, None))
        x = at("resid_pre", x)
        if _is_post_norm(self.config):
            x = at("resid_mid", self.normed("norm", x + self.attention(x, None)))
            return at("resid_post", self.normed("second", x + self.mlp(x, None)))
        attended = self.attention(self.normed("norm", x), behind[0])
        if self.kind in PARALLEL or getattr(self.config, "use_parallel_residual", False):
            second = self.normed("norm" if self.kind in ONE_NORM else "second", x)
            return at("resid_post", x + attended + self.mlp(second, None))
        x = at("resid_mid", x + attended)
        return at("resid_post", x + self.mlp(self.normed("second", x), behind[1]))

    def mlp(self, x, behind):
        config = self.config
        name = getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", None)
        act = ACT2FN[name or config.activation_function]
        if "first" in self.part:
            post = act(self.at("mlp.pre", self.module(self.part["first"])(x)))
        else:
            if self.kind == "phi3":
                both = self.module("mlp.gate_up_proj")(x)
                gate, up = both[..., : config.intermediate_size], both[..., config.intermediate_size :]
            else:
                gate, up = self.module("mlp.gate_proj")(x), self.module("mlp.up_proj")(x)
            post = act(self.at("mlp.gate", gate)) * self.at("mlp.up", up)
        out = self.module(self.part["last"])(self.at("mlp.post", post))
        return self.at("mlp.out", out if behind is None else self.module(behind)(out))

    def attention(self, x, behind):
        at, rotary = self.at, "positions" not in self.part
        q, k, v = self.qkv(x)
        q, k, v = at("attn.q", q), at("attn.k", k), at("attn.v", v)
        if rotary:
            q, k = at("attn.q_rot", self.rotated(q)), at("attn.k_rot", self.rotated(k))
        k, v = (torch.stack([t[:, :, h * self.n_kv // self.n_heads] for h in range(self.n_heads)], 2) for t in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * self.scale
        cap = getattr(self.config, "attn_logit_softcapping", None)
        scores = self.at("attn.scores", torch.tanh(scores / cap) * cap if cap else scores)
        pattern = at("attn.pattern", scores.masked_fill(~self.visible(x.shape[1]), -torch.inf).softmax(-1))
        z = at("attn.z", torch.einsum("bhqk,bkhd->bqhd", pattern, v))
        out = self.attention_module(self.part["o"])(z.flatten(2))
        return at("attn.out", out if behind is None else self.module(behind)(out))

    def heads(self, x, n):
        return x.reshape(*x.shape[:2], n, self.d_head)

    def qkv(self, x):
        d_q, d_kv = self.n_heads * self.d_head, self.n_kv * self.d_head
        if self.kind == "gpt_neox":
            heads = self.attention_module("query_key_value")(x).reshape(*x.shape[:2], self.n_heads, 3, self.d_head)
            return heads[..., 0, :], heads[..., 1, :], heads[..., 2, :]
        if self.kind in ("gpt2", "phi3"):
            both = self.attention_module("c_attn" if self.kind == "gpt2" else "qkv_proj")(x)
            q, k, v = both[..., :d_q], both[..., d_q : d_q + d_kv], both[..., d_q + d_kv :]
        else:
            q, k, v = (self.attention_module(f"{name}_proj")(x) for name in "qkv")
        if self.kind == "olmo2":
            q, k = self.attention_module("q_norm")(q), self.attention_module("k_norm")(k)
        q, k, v = self.heads(q, self.n_heads), self.heads(k, self.n_kv), self.heads(v, self.n_kv)
        if self.kind in ("qwen3", "gemma3_text", "cohere"):
            q, k = self.attention_module("q_norm")(q), self.attention_module("k_norm")(k)
        if self.kind == "stablelm" and self.config.qk_layernorm:
            q, k = (
                torch.stack([self.attention_module(f"{name}_layernorm.norms.{h}")(t[:, :, h]) for h in range(n)], 2)
                for name, t, n in (("q", q, self.n_heads), ("k", k, self.n_kv))
            )
        return q, k, v

    @property
    def scale(self):
        if self.kind == "gpt_neo":
            return 1.0
        return getattr(self.config, "query_pre_attn_scalar", self.d_head) ** -0.5

    @property
    def kind_of_layer(self):
        types = getattr(self.config, "layer_types", None) or getattr(self.config, "attention_layers", None)
        return types[self.layer] if types else "sliding_attention"

    def visible(self, n_pos):
        """``[query key]``: a window counts the query itself."""
        apart = torch.arange(n_pos)[:, None] - torch.arange(n_pos)
        window = getattr(self.config, "sliding_window", None) or getattr(self.config, "window_size", None)
        if window is None or self.kind_of_layer not in ("sliding_attention", "local"):
            return apart >= 0
        return (apart >= 0) & (apart < window)

    def rotated(self, x):
        rope = self.config.rope_parameters
        rope = rope.get(self.kind_of_layer, rope)
        d_rot = int(self.d_head * rope.get("partial_rotary_factor", 1.0))
        rates = rope["rope_theta"] ** -(torch.arange(0, d_rot, 2) / d_rot)
        grown = 1.0
        if rope["rope_type"] == "longrope":
            trained = rope["original_max_position_embeddings"]
            rates = rates / torch.tensor(rope["long_factor" if x.shape[1] > trained else "short_factor"])
            grown = math.sqrt(1 + math.log(self.config.max_position_embeddings / trained) / math.log(trained))
        angles = torch.arange(x.shape[1])[:, None, None] * rates
        turning, rest = x[..., :d_rot], x[..., d_rot:]
        if self.kind == "cohere":
            a, b = turning[..., 0::2], turning[..., 1::2]
        else:
            a, b = turning[..., : d_rot // 2], turning[..., d_rot // 2 :]
        cos, sin = angles.cos() * grown, angles.sin() * grown
        turned = a * cos - b * sin, b * cos + a * sin
        turned = torch.stack(turned, -1).flatten(-2) if self.kind == "cohere" else torch.cat(turned, -1)
        return torch.cat([turned, rest], -1)
