"""What the source of a model holds, on demand, and a model that was made of it brought to where it serves.

Whoever makes the model, transformers or a plugin: the folder is judged before anything of it is read, the weights get
memory of their own on their device, and what cannot be computed with is refused.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from interpd import zoo
from interpd.config import ModelSpec
from interpd.engine.tensors import all_finite
from interpd.errors import DeviceOutOfMemory, InterpdError, InvalidRequest, ModelNotFound
from interpd.plugin.model import LoadedModel
from interpd.worker.checkpoint import WEIGHTS, Checkpoint, Report, folder_revision, inspect_checkpoint, no_report
from interpd.worker.device_map import spread
from interpd.worker.hub import fetch, is_hub_id
from interpd.worker.shards import file_states, has_weights, read_json, stored_dtype
from interpd.worker.tokenizer_files import FILES as TOKENIZER_FILES
from interpd.worker.tokenizer_files import load_tokenizers

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
_FILES = (WEIGHTS, "*.json", *TOKENIZER_FILES)
"""What is fetched from the hub."""
_HALVES = (torch.float16, torch.bfloat16)


class SpecFiles:
    """The files of the model that a spec names; ``plugin.model.ModelFiles`` for plugins.

    Args:
        spec: Which model, and how.
        report: Takes words on how far the loading is.
    """

    def __init__(self, spec: ModelSpec, report: Report = no_report) -> None:
        self._spec, self._report = spec, report

    def settle(self) -> None:
        """Judges what the spec itself says. Raises ``InvalidRequest``."""
        self.device, self._asked  # noqa: B018

    @cached_property
    def device(self) -> torch.device:
        """Where the model is to be. Raises ``InvalidRequest``."""
        return _device(self._spec.device)

    @cached_property
    def _asked(self) -> torch.dtype | None:
        return _dtype(self._spec.dtype)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """``config.json``; empty where there is none that can be read."""
        try:
            return read_json(self.folder / "config.json")
        # whoever goes on to load this is told: another plugin may know the source
        except InterpdError:
            return {}

    @property
    def folder(self) -> Path:
        """Where the files are. Raises ``InvalidRequest`` and ``ModelNotFound``."""
        return self._located[0]

    @cached_property
    def _located(self) -> tuple[Path, str]:
        return _locate(self._spec, self._report)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The folder, judged. Raises what ``inspect_checkpoint`` raises."""
        return inspect_checkpoint(self.folder)

    @cached_property
    def _before(self) -> tuple[Any, str]:
        """(state of the weight files, revision) before the loading."""
        states = file_states(self.checkpoint.files)
        return states, self._located[1] or _local_revision(self._spec, self.folder, self._report)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The safetensors files of the weights, complete."""
        self._before  # noqa: B018  from here on nobody may write to them
        return self.checkpoint.files

    @property
    def dtype(self) -> torch.dtype:
        """What the model is to be computed in."""
        return self.dtype_for(None)

    def dtype_for(self, stored: torch.dtype | None) -> torch.dtype:
        """The dtype of the spec; with ``auto`` that of the weights, but float32 on a CPU for halves.

        Args:
            stored: What the config says of the weights, if it says.
        """
        if self._asked is not None:
            return self._asked
        stored = stored or DTYPES[stored_dtype(self.checkpoint.files)]
        return torch.float32 if self.device.type == "cpu" and stored in _HALVES else stored

    def finished(self, model: Any) -> LoadedModel:
        """The model where it is to serve, with its tokenizer.

        Args:
            model: Made of ``weights``, on any device.

        Raises:
            InvalidRequest: NaN or infinity; files that changed meanwhile; a tokenizer that cannot be loaded.
            DeviceOutOfMemory: The weights do not fit.
        """
        states, revision = self._before
        model = self._placed(model)
        _refuse_non_finite(model, self.folder)
        found = load_tokenizers(self.folder, has_encoder=bool(getattr(model.config, "is_encoder_decoder", False)))
        if file_states(self.checkpoint.files) != states:
            raise InvalidRequest(f"the weights in {str(self.folder)!r} changed while they were loaded: load them again")
        return LoadedModel(model, found.own, revision, found.problem, found.target)

    def _placed(self, model: PreTrainedModel) -> nn.Module:
        if self._spec.device_map:
            self._report("spreading the weights over GPUs")
            return spread(model, self._spec.device_map, int(self._spec.num_gpus), self._spec.source)
        return _moved(model, self.device, self._spec.source)


def _locate(spec: ModelSpec, report: Report) -> tuple[Path, str]:
    folder = Path(spec.source).expanduser()
    if folder.is_dir():
        return folder, ""
    if folder.exists():
        raise InvalidRequest(f"model source {spec.source!r} is a file, expected the folder that holds it")
    if spec.source in zoo.names():
        return zoo.path(spec.source), ""
    if not is_hub_id(spec.source):
        raise ModelNotFound(
            f"model source {spec.source!r} is neither a folder here, nor an id of the hub (OWNER/NAME), nor a bundled "
            f"model ({', '.join(zoo.names())})"
        )
    report(f"fetching {spec.source} from the hub, unless it is in the cache")
    return fetch(spec.source, spec.revision, _FILES, has_weights)


def _local_revision(spec: ModelSpec, folder: Path, report: Report) -> str:
    revision = folder_revision(folder, report)
    if spec.revision and spec.revision != revision:
        raise InvalidRequest(
            f"folder {spec.source!r} is not at revision {spec.revision!r}: its files are {revision!r}; "
            "a local folder takes no other revision"
        )
    return revision


def _dtype(name: str) -> torch.dtype | None:
    if name == "auto":
        return None
    if name not in DTYPES:
        raise InvalidRequest(f"unknown dtype {name!r}: expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidRequest(f"unknown device {name!r}: expected auto, cpu or cuda[:N]") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidRequest(f"device {name!r} is not here: this worker sees {torch.cuda.device_count()} CUDA devices")
    return device


def _refuse_non_finite(model: nn.Module, folder: Path) -> None:
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not all_finite(weight):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise InvalidRequest(
                f"the weights in {str(folder)!r} hold NaN or infinity, as {dtype}, at {name!r}: no result would be a "
                "number; load a sound checkpoint, or this one in a dtype with a larger range"
            )


@torch.no_grad()
def _moved(model: PreTrainedModel, device: torch.device, source: str) -> PreTrainedModel:
    """The model on its device, in memory of its own."""
    try:
        for tensor in (*model.parameters(), *model.buffers()):
            # what is loaded as it was stored lies in the file itself, which others may write to while the model serves
            tensor.data = tensor.to(device) if tensor.device != device else tensor.clone()
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(f"model {source!r} does not fit on {device}: {error}") from error
    return model
