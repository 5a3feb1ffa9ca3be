"""The encoder-decoder families written out once more in plain torch, from the weights alone.

``logits(model, source, target, at)`` runs one unpadded pass and calls ``at(name, value)`` at every canonical site; what
it returns goes on in its place. Shares no code with the engine; norms and activations are called.
"""

from math import log

import torch

T5 = {
    "block": "{side}.block.{i}",
    "attn": ("layer.0.layer_norm", "layer.0.SelfAttention"),
    "cross_attn": ("layer.1.layer_norm", "layer.1.EncDecAttention"),
    "projections": ("q", "k", "v", "o"),
    "root": "{side}",
    "final": "final_layer_norm",
}
BART = {
    "block": "model.{side}.layers.{i}",
    "attn": ("self_attn_layer_norm", "self_attn"),
    "cross_attn": ("encoder_attn_layer_norm", "encoder_attn"),
    "projections": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "root": "model.{side}",
    "final": "layer_norm",
}
NORMS_BEHIND = ("bart", "marian")


def logits(model, source, target, at=lambda name, value: value):
    """The logits ``[batch pos d_vocab]``."""
    memory = _Stack(model, "encoder", at).run(source)
    x = _Stack(model, "decoder", at, memory).run(target)
    config = model.config
    if config.model_type == "t5" and config.scale_decoder_outputs:
        x = x * config.d_model**-0.5
    found = model.lm_head(x)
    return at("logits", found + model.final_logits_bias if hasattr(model, "final_logits_bias") else found)


class _Stack:
    def __init__(self, model, side, at, memory=None):
        self.kind, self.config, self.side = model.config.model_type, model.config, side
        self.parts = T5 if self.kind == "t5" else BART
        self.model, self.memory = model, memory
        self.root = model.get_submodule(self.parts["root"].format(side=side))
        self.at = lambda name, value: at(f"{side}.{name}", value)

    def run(self, ids):
        x = self._embedded(ids)
        blocks = self.root.block if self.kind == "t5" else self.root.layers
        self.bias = _bias(blocks[0], self.config, ids.shape[1], self.side) if self.kind == "t5" else 0.0
        for layer, block in enumerate(blocks):
            x = _Block(self, block, layer).run(x)
        if self.kind in NORMS_BEHIND:
            return x
        return self.at("ln_final", self.root.get_submodule(self.parts["final"])(x))

    def _embedded(self, ids):
        x, scale = self.root.embed_tokens.weight[ids], self.config.d_model**0.5
        if self.kind == "t5":
            return self.at("embed", x)
        learned = self.kind in ("bart", "mbart")
        x = self.at("embed", x * scale) if learned else self.at("embed", x) * scale
        first = 2 if learned else 0
        x = x + self.root.embed_positions.weight[first : first + ids.shape[1]]
        return self.root.layernorm_embedding(x) if learned else x


class _Block:
    def __init__(self, stack, block, layer):
        self.stack, self.block, self.parts = stack, block, stack.parts
        self.at = lambda name, value: stack.at(f"layers.{layer}.{name}", value)
        self.norms_behind = stack.kind in NORMS_BEHIND

    def run(self, x):
        is_decoder = self.stack.side == "decoder"
        x = self.at("resid_pre", x)
        x = self._branch(x, "attn", "resid_cross" if is_decoder else "resid_mid", self._self_attention)
        if is_decoder:
            x = self._branch(x, "cross_attn", "resid_mid", self._cross_attention)
        last = "layer.2" if is_decoder else "layer.1"
        self.mlp_path = f"{last}.DenseReluDense" if self.stack.kind == "t5" else ""
        norm = f"{last}.layer_norm" if self.stack.kind == "t5" else "final_layer_norm"
        return self._added(x, norm, "resid_post", self._mlp)

    def _branch(self, x, name, behind, function):
        norm, self.attention = self.parts[name][0], self.block.get_submodule(self.parts[name][1])
        return self._added(x, norm, behind, function)

    def _added(self, x, norm, behind, function):
        norm = self.block.get_submodule(norm)
        return self.at(behind, norm(x + function(x)) if self.norms_behind else x + function(norm(x)))

    def _self_attention(self, x):
        n = x.shape[1]
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1) if self.stack.side == "decoder" else None
        return self._attend("attn", x, x, self.stack.bias, hidden)

    def _cross_attention(self, x):
        return self._attend("cross_attn", x, self.stack.memory, 0.0, None)

    def _attend(self, name, x, memory, bias, hidden):
        config, t5 = self.stack.config, self.stack.kind == "t5"
        n_heads = config.num_heads if t5 else getattr(config, f"{self.stack.side}_attention_heads")
        projections = [self.attention.get_submodule(part) for part in self.parts["projections"]]
        q, k, v = (
            self.at(f"{name}.{letter}", projection(of).unflatten(-1, (n_heads, -1)))
            for letter, projection, of in zip("qkv", projections, (x, memory, memory), strict=False)
        )
        scale = 1.0 if t5 else q.shape[-1] ** -0.5
        scores = self.at(f"{name}.scores", torch.einsum("bqhd,bkhd->bhqk", q, k) * scale + bias)
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        pattern = self.at(f"{name}.pattern", scores.softmax(-1))
        z = self.at(f"{name}.z", torch.einsum("bhqk,bkhd->bqhd", pattern, v))
        return self.at(f"{name}.out", projections[3](z.flatten(-2)))

    def _mlp(self, x):
        if self.stack.kind != "t5":
            pre = self.at("mlp.pre", self.block.fc1(x))
            return self.at("mlp.out", self.block.fc2(self.at("mlp.post", self.block.activation_fn(pre))))
        mlp = self.block.get_submodule(self.mlp_path)
        if self.stack.config.is_gated_act:
            gate, up = self.at("mlp.gate", mlp.wi_0(x)), self.at("mlp.up", mlp.wi_1(x))
            return self.at("mlp.out", mlp.wo(self.at("mlp.post", mlp.act(gate) * up)))
        return self.at("mlp.out", mlp.wo(self.at("mlp.post", mlp.act(self.at("mlp.pre", mlp.wi(x))))))


def _bias(block, config, n, side):
    table = block.layer[0].SelfAttention.relative_attention_bias.weight
    places = [[_bucket(key - query, config, side) for key in range(n)] for query in range(n)]
    return table[torch.tensor(places)].permute(2, 0, 1)[None]


def _bucket(distance, config, side):
    """The bucket of a distance: one each for the near ones, wider and wider ones up to the greatest."""
    n, first = config.relative_attention_num_buckets, 0
    if side == "encoder":
        n //= 2
        first, distance = (n if distance > 0 else 0), abs(distance)
    else:
        distance = max(-distance, 0)
    exact = n // 2
    if distance < exact:
        return first + distance
    wide = log(distance / exact) / log(config.relative_attention_max_distance / exact) * (n - exact)
    return first + min(exact + int(wide), n - 1)
