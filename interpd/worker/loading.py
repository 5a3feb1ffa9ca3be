"""Loads a Hugging Face language model without ever running or unpickling what came with it."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)
from transformers.utils import logging as transformers_logging

from interpd import zoo
from interpd.config import ModelSpec
from interpd.engine.resident import Loaded
from interpd.engine.tensors import all_finite
from interpd.errors import DeviceOutOfMemory, FeatureUnsupported, InvalidRequest, ModelNotFound
from interpd.plugin.model import LoadedModel
from interpd.worker.checkpoint import WEIGHTS, Checkpoint, Report, folder_revision, inspect_checkpoint, no_report
from interpd.worker.device_map import spread
from interpd.worker.hub import fetch, is_hub_id
from interpd.worker.shards import file_states, has_weights, stored_dtype
from interpd.worker.tokenizer_files import FILES as TOKENIZER_FILES
from interpd.worker.tokenizer_files import load_tokenizers

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
_FILES = (WEIGHTS, "*.json", *TOKENIZER_FILES)
"""What is fetched from the hub."""
_HALVES = (torch.float16, torch.bfloat16)


class ModelBuilders(Protocol):
    """What this module asks of the plugin registry."""

    def model_for_spec(self, spec: ModelSpec) -> LoadedModel | None:
        """The model that a plugin builds for ``spec``; ``None`` when none knows it."""


def load_model(spec: ModelSpec, registry: ModelBuilders | None = None, report: Report = no_report) -> Loaded:
    """The model of ``spec`` on its device, in eval mode, with frozen weights.

    A plugin that knows the source is asked first. Local folders are identified by a hash of their files, models of
    the hub by a commit.

    Args:
        spec: Which model, and how.
        registry: Of the plugins.
        report: Takes words on how far the loading is.

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
    folder, commit = _locate(spec, report)
    checkpoint = inspect_checkpoint(folder)
    before = file_states(checkpoint.files)
    revision = commit or _local_revision(spec, folder, report)
    with _told(report):
        model = _load_weights(folder, checkpoint, device, dtype)
    model = _placed(model, spec, device, report)
    _refuse_non_finite(model, folder)
    tokenizers = load_tokenizers(folder, has_encoder=bool(model.config.is_encoder_decoder))
    if file_states(checkpoint.files) != before:
        raise InvalidRequest(f"the weights in {str(folder)!r} changed while they were loaded: load them again")
    return Loaded(_frozen(model), tokenizers.own, spec, revision, tokenizers.problem, tokenizers.target)


@contextmanager
def _told(report: Report) -> Iterator[None]:
    """Turns the progress bar of transformers, which would go to the daemon's standard error, into words."""

    def bar(make: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return _counted(args[0], report) if options.get("desc") == "Loading weights" else make(*args, **options)

    transformers_logging.disable_progress_bar()
    before = transformers_logging.set_tqdm_hook(bar)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)


def _counted(tensors: Collection[Any], report: Report) -> Iterator[Any]:
    for done, item in enumerate(tensors):
        report(f"loading weights: {done} of {len(tensors)} tensors")
        yield item


def _frozen(model: PreTrainedModel) -> PreTrainedModel:
    return model.eval().requires_grad_(False)


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


def _load_weights(
    folder: Path, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype | None
) -> PreTrainedModel:
    config, architecture = _architecture(folder, checkpoint)
    stored = config.dtype or _DTYPES[stored_dtype(checkpoint.files)]
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" and stored in _HALVES else stored
    try:
        maker = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model, report = maker.from_pretrained(
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


def _placed(model: PreTrainedModel, spec: ModelSpec, device: torch.device, report: Report) -> PreTrainedModel:
    if spec.device_map:
        report("spreading the weights over GPUs")
        return spread(model, spec.device_map, int(spec.num_gpus), spec.source)
    return _moved(model, device, spec.source)


def _refuse_non_finite(model: PreTrainedModel, folder: Path) -> None:
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not all_finite(weight):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise InvalidRequest(
                f"the weights in {str(folder)!r} hold NaN or infinity, as {dtype}, at {name!r}: no result would be a "
                "number; load a sound checkpoint, or this one in a dtype with a larger range"
            )


def _architecture(folder: Path, checkpoint: Checkpoint) -> tuple[Any, type[PreTrainedModel]]:
    """(config, class of the model)."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = checkpoint.config.get("model_type")
        raise FeatureUnsupported(
            f"{str(folder)!r}: transformers does not know a model of type {kind!r}: {error}"
        ) from error
    # some configs are those of a decoder alone as well
    kind, known = "causal language model", MODEL_FOR_CAUSAL_LM_MAPPING
    if config.is_encoder_decoder:
        kind, known = "encoder-decoder language model", MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    if type(config) not in known:
        raise FeatureUnsupported(f"{str(folder)!r}: {config.model_type!r} is no {kind}")
    return config, known[type(config)]


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
