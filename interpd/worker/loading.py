"""Loads a Hugging Face causal language model without ever running or unpickling what came with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from interpd import zoo
from interpd.config import ModelSpec
from interpd.engine.resident import Loaded
from interpd.errors import DeviceOutOfMemory, FeatureUnsupported, InvalidRequest, ModelNotFound
from interpd.plugin.model import LoadedModel
from interpd.worker.checkpoint import folder_revision, has_tokenizer, inspect_checkpoint
from interpd.worker.hub import fetch, is_hub_id

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
_HALVES = (torch.float16, torch.bfloat16)


class ModelBuilders(Protocol):
    """What this module asks of the plugin registry."""

    def model_for_spec(self, spec: ModelSpec) -> LoadedModel | None:
        """The model that a plugin builds for ``spec``; ``None`` when none knows it."""


def load_model(spec: ModelSpec, registry: ModelBuilders | None = None) -> Loaded:
    """The model of ``spec`` on its device, in eval mode, with frozen weights.

    A plugin that knows the source is asked first. Local folders are identified by a hash of their files, models of
    the hub by a commit.

    Raises:
        ModelNotFound: No such folder or hub model, or a file is missing.
        InvalidRequest: A spec that contradicts itself, a file that is damaged.
        FeatureUnsupported: Pickled weights, code in the checkpoint, an architecture that cannot be served.
        DeviceOutOfMemory: The weights do not fit.
    """
    built = None if registry is None else registry.model_for_spec(spec)
    if built is not None:
        return Loaded(_frozen(built.model), built.tokenizer, spec, built.revision)
    device, dtype = _device(spec.device), _dtype(spec.dtype)
    folder, commit = _locate(spec)
    settings = inspect_checkpoint(folder)
    revision = commit or _local_revision(spec, folder)
    # one bar per file on the daemon's standard error says nothing that its log does not
    transformers_logging.disable_progress_bar()
    model = _load_weights(folder, settings, dtype)
    if spec.dtype == "auto" and device.type == "cpu" and model.dtype in _HALVES:
        model = model.to(torch.float32)
    try:
        model = model.to(device)
    except torch.OutOfMemoryError as error:
        raise DeviceOutOfMemory(f"model {spec.source!r} does not fit on {device}: {error}") from error
    tokenizer, problem = _load_tokenizer(folder)
    return Loaded(_frozen(model), tokenizer, spec, revision, problem)


def _frozen(model: PreTrainedModel) -> PreTrainedModel:
    return model.eval().requires_grad_(False)


def _locate(spec: ModelSpec) -> tuple[Path, str]:
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
    return fetch(spec.source, spec.revision)


def _local_revision(spec: ModelSpec, folder: Path) -> str:
    revision = folder_revision(folder)
    if spec.revision and spec.revision != revision:
        raise InvalidRequest(
            f"folder {spec.source!r} is not at revision {spec.revision!r}: its files are {revision!r}; "
            "a local folder takes no other revision"
        )
    return revision


def _dtype(name: str) -> torch.dtype | str:
    if name == "auto":
        return name
    if name not in _DTYPES:
        raise InvalidRequest(f"unknown dtype {name!r}: expected auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


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


def _load_weights(folder: Path, settings: Mapping[str, Any], dtype: torch.dtype | str) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FeatureUnsupported(
            f"{str(folder)!r}: transformers does not know a model of type {settings.get('model_type')!r}: {error}"
        ) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise FeatureUnsupported(f"{str(folder)!r}: {config.model_type!r} is no causal language model")
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            # named, because a config may name a kernel of the hub, which is code
            attn_implementation="sdpa" if getattr(architecture, "_supports_sdpa", False) else "eager",
        )
    except ImportError as error:
        raise FeatureUnsupported(f"{str(folder)!r} needs a package that is not installed: {error}") from error
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InvalidRequest(f"the weights in {str(folder)!r} cannot be loaded: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise InvalidRequest(
            f"the weights in {str(folder)!r} lack {len(missing)} tensors of {architecture.__name__}, "
            f"such as {missing[0]!r}; they would be random"
        )
    return model


def _load_tokenizer(folder: Path) -> tuple[PreTrainedTokenizerFast | None, str]:
    if not has_tokenizer(folder):
        return None, "the model's folder holds no tokenizer"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
        raise InvalidRequest(f"the tokenizer in {str(folder)!r} cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        return None, f"the model's tokenizer ({type(tokenizer).__name__}) is no fast one and cannot tell offsets"
    return tokenizer, ""
