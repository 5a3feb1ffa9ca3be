"""Loads a Hugging Face language model without ever running or unpickling what came with it."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)
from transformers.utils import logging as transformers_logging

from interpd.config import ModelSpec
from interpd.engine.resident import Loaded
from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd.plugin import discovery
from interpd.plugin.model import LoadedModel, ModelFiles
from interpd.worker.checkpoint import Checkpoint, Report, no_report
from interpd.worker.model_files import SpecFiles


class ModelBuilders(Protocol):
    """What this module asks of the plugin registry."""

    def model_for_spec(self, spec: ModelSpec, files: ModelFiles) -> LoadedModel | None:
        """The model that a plugin builds for ``spec``, of ``files``; ``None`` when none knows it."""


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
    files = SpecFiles(spec, report)
    built = None if registry is None else registry.model_for_spec(spec, files)
    if built is None:
        # before anything is fetched
        files.settle()
        files.weights  # noqa: B018  judged before the bar of transformers is turned into words
        with _told(report):
            model = _load_weights(files)
        built = files.finished(model)
    problem, target = built.tokenizer_problem, built.target_tokenizer
    return Loaded(_frozen(built.model), built.tokenizer, spec, built.revision, problem, target)


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


def _load_weights(files: SpecFiles) -> PreTrainedModel:
    folder = files.folder
    config, architecture = _architecture(folder, files.checkpoint)
    dtype = files.dtype_for(config.dtype)
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
            f"such as {missing[0]!r}; they would be random{_of_plugins()}"
        )
    return model


def _architecture(folder: Path, checkpoint: Checkpoint) -> tuple[Any, type[PreTrainedModel]]:
    """(config, class of the model)."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = checkpoint.config.get("model_type")
        raise FeatureUnsupported(
            f"{str(folder)!r}: transformers does not know a model of type {kind!r}{_of_plugins()}: {error}"
        ) from error
    # some configs are those of a decoder alone as well
    kind, known = "causal language model", MODEL_FOR_CAUSAL_LM_MAPPING
    if config.is_encoder_decoder:
        kind, known = "encoder-decoder language model", MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    if type(config) not in known:
        raise FeatureUnsupported(f"{str(folder)!r}: {config.model_type!r} is no {kind}")
    return config, known[type(config)]


def _of_plugins() -> str:
    """What else could know an architecture."""
    names = [candidate.name for candidate in discovery.installed(discovery.GROUP)]
    installed = f"installed: {', '.join(names)}" if names else "none is installed"
    return f"; if it is the architecture of a plugin, name that plugin (--plugin NAME; {installed})"
