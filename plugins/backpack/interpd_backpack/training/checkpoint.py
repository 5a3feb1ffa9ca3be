"""Checkpoints: the model, the state of its optimiser and the step, as safetensors and JSON."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from interpd.errors import InvalidRequest

STATE, WEIGHTS, OPTIMIZER = "state.json", "weights.safetensors", "optimizer.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight."""


@dataclass(frozen=True)
class State:
    """Where a training stands."""

    step: int
    """Steps that are done."""
    settings: Mapping[str, Any]
    """Those that decide the numbers."""
    data: str
    """Digest of the tokens."""
    curve: tuple[tuple[int, float], ...]
    """(step, loss on what is held out) so far."""


def save_checkpoint(folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Writes a checkpoint in the place of the one before, which stays whole until this one is."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    save_file(_weights(model), new / WEIGHTS)
    save_file(_moments(model, optimizer), new / OPTIMIZER)
    fields = {"step": state.step, "settings": state.settings, "data": state.data, "curve": state.curve}
    (new / STATE).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, wanted: State) -> State:
    """Where the training of a checkpoint stands; model and optimiser are put there.

    Args:
        folder: That ``save_checkpoint`` wrote.
        model: Of the same shape.
        optimizer: Of that model, without a step yet.
        wanted: Settings and data have to be these.

    Raises:
        InvalidRequest: No checkpoint, a damaged one, or one of other settings or texts: its numbers would not be those
            of one run.
    """
    state = _state(folder)
    differing = _differing(state.settings, wanted.settings)
    if state.data != wanted.data:
        differing.append("the texts are others")
    if differing:
        raise InvalidRequest(f"the checkpoint {str(folder)!r} is of another training: {'; '.join(differing)}")
    weights, moments = (_tensors(folder / name) for name in (WEIGHTS, OPTIMIZER))
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(weights[name])
    for name, value in model.named_parameters():
        optimizer.state[value] = {moment: moments[f"{name}:{moment}"].clone() for moment in MOMENTS}
    return state


def _differing(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, field by field, also in what has fields of its own."""
    found: list[str] = []
    for name in dict.fromkeys((*now, *was)):
        one, other = was.get(name), now.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differing(one, other)
        elif one != other:
            found.append(f"{name} was {one!r} and is {other!r}")
    return found


def _state(folder: Path) -> State:
    try:
        fields = json.loads((folder / STATE).read_text(encoding="utf-8"))
        curve = tuple((step, loss) for step, loss in fields["curve"])
        return State(fields["step"], fields["settings"], fields["data"], curve)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidRequest(f"{str(folder)!r} has no checkpoint to go on from: {error}") from None


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidRequest(f"the checkpoint's {str(path)!r} is damaged: {error}") from None


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in model.named_parameters()}


def _moments(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}:{moment}": optimizer.state[value][moment]
        for name, value in model.named_parameters()
        for moment in MOMENTS
    }
