"""The names of a Backpack's weights: which there are, which are the same weight twice, which are no weights at all."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interpd.errors import InvalidRequest
from interpd_backpack.model import BackpackConfig, BackpackForCausalLM

WTE, WPE = "backpack.gpt2_model.wte.weight", "backpack.gpt2_model.wpe.weight"
ALIASES: Mapping[str, tuple[str, ...]] = {
    WTE: ("backpack.word_embeddings.weight", "lm_head.weight"),
    WPE: ("backpack.position_embeddings.weight",),
}
"""Other names of the same weights; the published code has all of them, savers keep any of them."""
SENSE_NETWORK = "backpack.sense_network."

# ``attn.bias`` alone would take ``c_attn.bias`` as well, which is a weight
_MASKS = re.compile(r"backpack\.gpt2_model\.h\.\d+\.attn\.(bias|masked_bias)")
_FEW = 3


def is_backpack(config: Mapping[str, Any], names: Iterable[str] = ()) -> bool:
    """Whether a checkpoint is one of a Backpack, by its senses: the published one calls itself ``gpt2``.

    Args:
        config: Its ``config.json``.
        names: Of its tensors.
    """
    return "num_senses" in config or any(name.startswith(SENSE_NETWORK) for name in names)


def expected_shapes(config: BackpackConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that a Backpack of this config has, each once, by name."""
    with torch.device("meta"):
        model = BackpackForCausalLM(config)
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def own_weights(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The weights under our names: attention masks left out, weights of several names taken once.

    Args:
        tensors: As they were found, under the names of the published code.
        where: What they were found in, for errors.

    Raises:
        InvalidRequest: Names of one weight that hold different numbers.
    """
    weights = {name: tensor for name, tensor in tensors.items() if not _MASKS.fullmatch(name)}
    for own, aliases in ALIASES.items():
        found = {name: weights.pop(name) for name in (own, *aliases) if name in weights}
        for name, tensor in found.items():
            first = next(iter(found))
            if not _same(tensor, found[first]):
                raise InvalidRequest(
                    f"{where}: {first!r} and {name!r} are one weight in a Backpack, but differ here: the checkpoint "
                    "is damaged, or was trained with an output of its own, which no Backpack has"
                )
            weights[own] = tensor
    return weights


def check_weights(weights: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], where: str) -> None:
    """Refuses weights that are not exactly those of a Backpack.

    Args:
        weights: By our names.
        shapes: As ``expected_shapes`` gives them.
        where: What the weights were found in, for errors.

    Raises:
        InvalidRequest: Weights that are missing, not known, of another shape, or no floating numbers.
    """
    if missing := sorted(shapes.keys() - weights.keys()):
        raise InvalidRequest(f"{where} lacks {_listed(missing)} of the {len(shapes)} weights of this Backpack")
    if odd := sorted(weights.keys() - shapes.keys()):
        raise InvalidRequest(f"{where} holds {_listed(odd)}, which a Backpack of this config does not have")
    wrong = [name for name, shape in shapes.items() if tuple(weights[name].shape) != tuple(shape)]
    if wrong:
        name = wrong[0]
        raise InvalidRequest(
            f"{where}: {len(wrong)} of {len(shapes)} weights have another shape than the config says, such as "
            f"{name!r}: {list(weights[name].shape)}, expected {list(shapes[name])}"
        )
    if none := [name for name, weight in weights.items() if not weight.is_floating_point()]:
        raise InvalidRequest(f"{where}: {none[0]!r} is {weights[none[0]].dtype}, expected floating numbers")


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    # NaN in both is the same damage, of which the loading tells
    return one.data_ptr() == other.data_ptr() or torch.equal(one.nan_to_num(), other.nan_to_num())


def _listed(names: Sequence[str]) -> str:
    few = ", ".join(map(repr, names[:_FEW]))
    return few + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")
