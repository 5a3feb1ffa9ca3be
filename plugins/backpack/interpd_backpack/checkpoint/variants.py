"""The forms in which Backpacks were published: how each is known, and how it becomes ours.

| variant | known by | what it is |
|---|---|---|
| ``published`` | ``backpack.sense_network.*`` | ``stanfordnlp/backpack-gpt2`` and what was trained from it |
| ``levanter`` | ``model_type`` ``backpack-gpt2`` | the same names; the sum of senses is divided by their number |
| ``flash`` | ``transformer.content_model.*`` | checkpoints of the paper's own training code |

nanoBackpackLM computes something else (other residuals and norms, unscaled scores) and is refused.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd_backpack.checkpoint.names import SENSE_NETWORK, WPE, WTE
from interpd_backpack.model import BackpackConfig

Variant = Literal["published", "levanter", "flash"]

LEVANTER_TYPE = "backpack-gpt2"
_FLASH, _NANO = "transformer.content_model.", "backpack.sense_vector_layer."
_LINEAR = ("c_attn", "c_proj", "c_fc")
_FIELDS = frozenset(BackpackConfig().to_dict()) - {"model_type", "architectures", "dtype", "transformers_version"}

_LAYER = r"gpt2_model\.layers\.(\d+)\."
_RENAMED = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"(gpt2_model|content_model)?\.?embeddings\.word_embeddings\.weight", "gpt2_model.wte.weight"),
        (r"(gpt2_model|content_model)?\.?embeddings\.position_embeddings\.weight", "gpt2_model.wpe.weight"),
        (_LAYER + r"mixer\.Wqkv\.", r"gpt2_model.h.\1.attn.c_attn."),
        (_LAYER + r"mixer\.out_proj\.", r"gpt2_model.h.\1.attn.c_proj."),
        (_LAYER + r"mlp\.fc1\.", r"gpt2_model.h.\1.mlp.c_fc."),
        (_LAYER + r"mlp\.fc2\.", r"gpt2_model.h.\1.mlp.c_proj."),
        (_LAYER + r"norm1\.", r"gpt2_model.h.\1.ln_2."),
        (r"gpt2_model\.ln_0\.", "gpt2_model.h.0.ln_1."),
        (r"content_model\.ln_0\.", "sense_network.ln."),
        (r"content_model\.layers\.0\.norm(\d)\.", r"sense_network.block.ln_\1."),
        (r"content_model\.layers\.0\.mlp\.fc1\.", "sense_network.block.mlp.c_fc."),
        (r"content_model\.layers\.0\.mlp\.fc2\.", "sense_network.block.mlp.c_proj."),
        (r"content_model\.final_mlp\.fc1\.", "sense_network.final_mlp.c_fc."),
        (r"content_model\.final_mlp\.fc2\.", "sense_network.final_mlp.c_proj."),
        (r"contextualization_attn\.Wqkv\.", "sense_weight_net.c_attn."),
    )
)


def variant_of(tensors: Mapping[str, Any], config: Mapping[str, Any], where: str) -> Variant:
    """Which of the published forms a checkpoint has.

    Args:
        tensors: By the names in it.
        config: Its ``config.json``; may be empty.
        where: What it is, for errors.

    Raises:
        FeatureUnsupported: nanoBackpackLM.
        InvalidRequest: No Backpack at all.
    """
    if any(name.startswith(_NANO) for name in tensors):
        raise FeatureUnsupported(
            f"{where} is a nanoBackpackLM, which computes something else than a Backpack as published: its senses have "
            "a residual and a norm at their end, its scores no scale, its attention no bias; it cannot be converted"
        )
    if any(name.startswith(SENSE_NETWORK) for name in tensors):
        return "levanter" if config.get("model_type") == LEVANTER_TYPE else "published"
    if any(name.startswith(_FLASH) for name in tensors):
        return "flash"
    some = ", ".join(map(repr, sorted(tensors)[:3])) or "no tensor at all"
    raise InvalidRequest(
        f"{where} is no Backpack: it has neither {SENSE_NETWORK!r}... nor {_FLASH!r}..., but {some}; a GPT-2 without "
        "senses is served as it is"
    )


def renamed(tensors: Mapping[str, Tensor], variant: Variant, where: str) -> dict[str, Tensor]:
    """The tensors by the names, and in the layouts, of the published code.

    Raises ``InvalidRequest`` for a name that is not known.
    """
    if variant != "flash":
        return dict(tensors)
    own: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new, layout = _from_flash(name, where), tensor
        *_, kind, leaf = new.split(".")
        # GPT-2 keeps its layers as [in, out], but for the weights of the senses
        if leaf == "weight" and kind in _LINEAR and "sense_weight_net" not in new:
            layout = tensor.t()
        if new in own and own[new].data_ptr() != layout.data_ptr() and not own[new].equal(layout):
            raise InvalidRequest(f"{where}: {name!r} is another copy of {new!r}, but holds other numbers")
        own[new] = layout
    return _with_norms(own, where)


def _from_flash(name: str, where: str) -> str:
    if name == "lm_head.weight":
        return name
    plain = name.removeprefix("transformer.")
    # placeholders until it is known how many layers there are
    found = re.fullmatch(_LAYER + r"norm2\.(weight|bias)", plain)
    if found:
        return f"behind.{found[1]}.{found[2]}"
    for pattern, to in _RENAMED:
        if match := pattern.match(plain):
            return f"backpack.{match.expand(to)}{plain[match.end() :]}"
    raise InvalidRequest(f"{where} holds {name!r}, which the training code of the paper does not have")


def _with_norms(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The norm behind a block, as that code has it, is the one before the next block, or the last."""
    behind = {name: tensor for name, tensor in tensors.items() if name.startswith("behind.")}
    own = {name: tensor for name, tensor in tensors.items() if name not in behind}
    last = max((int(name.split(".")[1]) for name in behind), default=-1)
    if last < 0:
        raise InvalidRequest(f"{where} lacks 'transformer.gpt2_model.layers.0.norm2.weight'")
    for name, tensor in behind.items():
        _, layer, leaf = name.split(".")
        place = "ln_f" if int(layer) == last else f"h.{int(layer) + 1}.ln_1"
        own[f"backpack.gpt2_model.{place}.{leaf}"] = tensor
    return own


def config_for(settings: Mapping[str, Any], weights: Mapping[str, Tensor], variant: Variant, where: str) -> Any:
    """The config of a checkpoint: what it says itself, and what follows from the shapes of its weights.

    Args:
        settings: Its ``config.json``, or what somebody says of it.
        weights: By our names.
        variant: Which form it has.
        where: What it is, for errors.

    Raises:
        InvalidRequest: Shapes that are no Backpack's, a setting that is no Backpack's, no ``n_head``.
    """
    known = {name: value for name, value in settings.items() if name in _FIELDS and value is not None}
    try:
        found = _sizes(weights)
    except (KeyError, ValueError, ZeroDivisionError, IndexError) as error:
        raise InvalidRequest(f"{where} lacks weights that every Backpack has, such as {error}") from error
    for name, size in found.items():
        if known.setdefault(name, size) != size:
            raise InvalidRequest(f"{where}: the config says {name} = {known[name]}, but the weights {size}")
    if "n_head" not in known:
        raise InvalidRequest(f"{where} does not say how many heads its attention has: give a config with 'n_head'")
    if variant == "levanter":
        known.setdefault("sense_output_scale", 1.0 / known["num_senses"])
    known["tie_word_embeddings"] = True
    try:
        return BackpackConfig(**known, architectures=["BackpackForCausalLM"])
    except Exception as error:  # whatever its validation says of a stranger's settings
        raise InvalidRequest(f"{where}: its config is none of a Backpack: {error}") from error


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    (n_vocab, width), (n_positions, _) = weights[WTE].shape, weights[WPE].shape
    layers = [int(found[1]) for name in weights if (found := re.match(r"backpack\.gpt2_model\.h\.(\d+)\.", name))]
    block, end = (weights[f"{SENSE_NETWORK}{part}.c_fc.weight"].shape for part in ("block.mlp", "final_mlp"))
    senses = weights[f"{SENSE_NETWORK}final_mlp.c_proj.weight"].shape
    return {
        "vocab_size": n_vocab,
        "n_embd": width,
        "n_positions": n_positions,
        "n_layer": max(layers) + 1,
        "num_senses": senses[1] // width,
        "sense_block_scale": block[1] // width,
        "sense_intermediate_scale": end[1] // width,
    }
