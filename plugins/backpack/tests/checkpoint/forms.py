"""Backpacks in the forms in which others publish them."""

import json

import torch
from safetensors.torch import save_file

WTE, WPE = "backpack.gpt2_model.wte.weight", "backpack.gpt2_model.wpe.weight"
ALIASES = {
    "backpack.word_embeddings.weight": WTE,
    "lm_head.weight": WTE,
    "backpack.position_embeddings.weight": WPE,
}


def published(model):
    """The state dict of the published code under transformers 4.29: tied storages, masks as buffers."""
    state = {name: weight.detach() for name, weight in model.state_dict().items()}
    n = model.config.n_positions
    for layer in range(model.config.n_layer):
        path = f"backpack.gpt2_model.h.{layer}.attn"
        state[f"{path}.bias"] = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
        state[f"{path}.masked_bias"] = torch.tensor(-1e4)
    return {**state, **{alias: state[own] for alias, own in ALIASES.items()}}


def published_settings(model, **changes):
    """Its ``config.json``."""
    settings = {name: value for name, value in model.config.to_dict().items() if name not in ("sense_block_scale",)}
    code = {"AutoModelForCausalLM": "modeling_backpack_gpt2.BackpackGPT2LMHeadModel"}
    return {**settings, "model_type": "gpt2", "architectures": ["BackpackGPT2LMHeadModel"], "auto_map": code, **changes}


def as_published(folder, model, **changes):
    """The folder of the published repository."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(published(model), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(published_settings(model, **changes)))
    return folder


def as_safetensors(folder, state, settings):
    """A folder with safetensors and a config that asks for no code."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous().clone() for name, weight in state.items()}, folder / "model.safetensors")
    settings = {name: value for name, value in settings.items() if name != "auto_map"}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def flash(model):
    """The state dict of the paper's training code: other names, layers as ``[out, in]``, norms behind their branch."""
    weights = {name.removeprefix("backpack."): weight.detach() for name, weight in model.state_dict().items()}
    found, n_layer = {}, model.config.n_layer

    def take(old, new, *, turned=False):
        for leaf in ("weight", "bias"):
            weight = weights.pop(f"{old}.{leaf}")
            found[f"transformer.{new}.{leaf}"] = weight.t().contiguous() if turned and leaf == "weight" else weight

    for layer in range(n_layer):
        here, there = f"gpt2_model.h.{layer}", f"gpt2_model.layers.{layer}"
        take(f"{here}.attn.c_attn", f"{there}.mixer.Wqkv", turned=True)
        take(f"{here}.attn.c_proj", f"{there}.mixer.out_proj", turned=True)
        take(f"{here}.mlp.c_fc", f"{there}.mlp.fc1", turned=True)
        take(f"{here}.mlp.c_proj", f"{there}.mlp.fc2", turned=True)
        take(f"{here}.ln_1", "gpt2_model.ln_0" if layer == 0 else f"gpt2_model.layers.{layer - 1}.norm2")
        take(f"{here}.ln_2", f"{there}.norm1")
    take("gpt2_model.ln_f", f"gpt2_model.layers.{n_layer - 1}.norm2")
    take("sense_network.ln", "content_model.ln_0")
    take("sense_network.block.ln_1", "content_model.layers.0.norm1")
    take("sense_network.block.ln_2", "content_model.layers.0.norm2")
    take("sense_network.block.mlp.c_fc", "content_model.layers.0.mlp.fc1", turned=True)
    take("sense_network.block.mlp.c_proj", "content_model.layers.0.mlp.fc2", turned=True)
    take("sense_network.final_mlp.c_fc", "content_model.final_mlp.fc1", turned=True)
    take("sense_network.final_mlp.c_proj", "content_model.final_mlp.fc2", turned=True)
    take("sense_weight_net.c_attn", "contextualization_attn.Wqkv")
    words, places = weights.pop("gpt2_model.wte.weight"), weights.pop("gpt2_model.wpe.weight")
    for owner in ("gpt2_model.", "content_model.", ""):
        found[f"transformer.{owner}embeddings.word_embeddings.weight"] = words
        found[f"transformer.{owner}embeddings.position_embeddings.weight"] = places
    found["lm_head.weight"] = weights.pop("lm_head.weight")
    assert not weights
    return found
