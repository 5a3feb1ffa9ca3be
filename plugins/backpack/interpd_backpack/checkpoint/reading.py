"""Backpacks from safetensors files, in the folder that ``save_pretrained`` or ``convert`` wrote, or as published."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interpd.errors import InvalidRequest
from interpd_backpack.checkpoint.names import check_weights, expected_shapes, own_weights
from interpd_backpack.checkpoint.variants import config_for, renamed, variant_of
from interpd_backpack.model import BackpackConfig, BackpackForCausalLM, RetrofitConfig, RetrofitForCausalLM

RETROFIT = RetrofitConfig.model_type


def tensor_names(files: Sequence[Path]) -> list[str]:
    """The names of the tensors in safetensors files. Raises ``InvalidRequest`` for one that cannot be read."""
    return [name for file in files for name in _opened(file)]


def read_tensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors in safetensors files, by the names that they have there. Raises ``InvalidRequest``."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        with ExitStack() as stack:
            try:
                opened = stack.enter_context(safe_open(file, framework="pt"))
                found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise InvalidRequest(f"{str(file)!r} cannot be read: {error}") from error
        if twice := sorted(found.keys() & tensors.keys()):
            raise InvalidRequest(f"{twice[0]!r} is in {file.name!r} and in another of its files")
        tensors |= found
    return tensors


def _opened(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise InvalidRequest(f"{str(file)!r} cannot be read: {error}") from error


def understood(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], where: str
) -> tuple[BackpackConfig, dict[str, Tensor], str]:
    """(config, weights by our names, which variant it was) of a Backpack in any of its published forms.

    Args:
        tensors: By the names in the file.
        settings: Of its ``config.json``.
        where: What it is, for errors.

    Raises:
        FeatureUnsupported: A form that computes something else.
        InvalidRequest: No Backpack; weights that are missing, not known, of another shape, or that contradict another.
    """
    variant = variant_of(tensors, settings, where)
    weights = own_weights(renamed(tensors, variant, where), where)
    config = config_for(settings, weights, variant, where)
    check_weights(weights, expected_shapes(config), where)
    return config, weights, variant


def backpack_of(config: BackpackConfig, weights: Mapping[str, Tensor], dtype: torch.dtype) -> BackpackForCausalLM:
    """The model, in eval mode, made of weights that were checked.

    Args:
        config: Of the model.
        weights: By our names; taken over where they have this dtype already.
        dtype: What it computes in.
    """
    with torch.device("meta"):
        model = BackpackForCausalLM(config)
    state = {name: weight.to(dtype).contiguous() for name, weight in weights.items()}
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    config.dtype = dtype
    return model.eval()


def read_backpack(
    files: Sequence[Path], settings: Mapping[str, Any], dtype: torch.dtype, where: str
) -> BackpackForCausalLM:
    """The Backpack in safetensors files. Raises what ``understood`` raises.

    Args:
        files: Its weights.
        settings: Its ``config.json``.
        dtype: What it computes in.
        where: What it is, for errors.
    """
    config, weights, _ = understood(read_tensors(files), settings, where)
    return backpack_of(config, weights, dtype)


def read_retrofit(folder: Path, dtype: torch.dtype) -> RetrofitForCausalLM:
    """Senses beside another language model, with that model. Raises ``InvalidRequest``.

    Args:
        folder: As ``save_pretrained`` wrote it.
        dtype: What it computes in.
    """
    where = f"the retrofit in {str(folder)!r}"
    try:
        model, report = RetrofitForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"{where} cannot be loaded: {error}") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, report[what])):
            raise InvalidRequest(f"{where} has {len(names)} {what.replace('_keys', '')} weights, such as {names[0]!r}")
    return model.eval()
