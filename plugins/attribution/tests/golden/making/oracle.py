"""Inseq, loaded once per method, and what it is asked."""

import atexit
import contextlib
import logging
import os
import random
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from tempfile import mkdtemp

# read when inseq and transformers are first imported
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ["INSEQ_HOME"] = mkdtemp(prefix="inseq_home_")

import inseq
import numpy as np
import torch
from inseq.data import FeatureAttributionOutput
from inseq.models import HuggingfaceModel

from making import inputs

SEED = 20260101

atexit.register(shutil.rmtree, os.environ["INSEQ_HOME"], ignore_errors=True)

warnings.filterwarnings("ignore")
logging.disable(logging.ERROR)
torch.set_num_threads(1)
inseq.register_model_config(
    "GPT2LMHeadModel",
    {"self_attention_module": "attn", "value_vector": "value_states", "cross_attention_module": None},
    overwrite=True,
)


@dataclass(frozen=True)
class Method:
    """A method as it is loaded and called."""

    id: str
    load: Mapping[str, object] = field(default_factory=dict)
    call: Mapping[str, object] = field(default_factory=dict)
    attribute_target: bool = False

    @property
    def arguments(self) -> dict[str, object]:
        """All that was given, as the index records it."""
        return {**self.load, **self.call}


@dataclass(frozen=True)
class Target:
    """A step function as it is attributed: ``contrast`` names texts of ``inputs.Texts``."""

    id: str = "probability"
    call: Mapping[str, object] = field(default_factory=dict)
    contrast: str | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """What the index calls it."""
        return self.label or self.id


def load(model_name: str, method: Method) -> HuggingfaceModel:
    """The model behind Inseq's face. Always a fresh one: what fails leaves hooks behind."""
    model, tokenizer = inputs.model(model_name), inputs.tokenizer(model_name)
    loaded = inseq.load_model(model, method.id, tokenizer=tokenizer, device="cpu", model_kwargs={}, **method.load)
    if model.config.model_type == "pegasus":
        _scale_inside(loaded)
    return loaded


def _scale_inside(loaded: HuggingfaceModel) -> None:
    """Has the model scale the vectors that it is given, on both sides, instead of Inseq.

    Pegasus' encoder scales what it embeds itself only, its decoder what it is given too; Inseq scales for both, and
    asks another model therefore. The vectors are those of the embedding modules then, as they are where nothing scales.
    """
    scale, loaded.embed_scale = loaded.embed_scale, 1.0

    def scaled(_: torch.nn.Module, given: tuple[object, ...], named: dict[str, object]) -> tuple[object, object]:
        if named.get("inputs_embeds") is not None:
            named = {**named, "inputs_embeds": named["inputs_embeds"] * scale}
        return given, named

    loaded.model.get_encoder().register_forward_pre_hook(scaled, with_kwargs=True)


def contrast_arguments(model_name: str, contrast: str | None) -> dict[str, object]:
    """The texts that the target is contrasted to."""
    texts = inputs.TEXTS[model_name]
    if contrast is None:
        return {}
    if contrast == "elsewhere" and model_name in inputs.ENCODER_DECODER:
        return {"contrast_sources": texts.source_elsewhere}
    return {"contrast_targets": getattr(texts, contrast)}


def attribute(
    loaded: HuggingfaceModel, model_name: str, method: Method, target: Target | None = None, **options: object
) -> FeatureAttributionOutput:
    """What Inseq says of the forced continuation; random numbers begin anew each time."""
    texts = inputs.TEXTS[model_name]
    seed()
    asked = {} if target is None else {"attributed_fn": target.id, **target.call}
    asked.update(contrast_arguments(model_name, target.contrast if target else None))
    return loaded.attribute(
        texts.source,
        texts.target,
        show_progress=False,
        attribute_target=method.attribute_target,
        generation_args={},
        # by name, because a quadrature rule is called "method" too
        attribution_args=dict(method.call),
        **{**asked, **options},
    )


def seed() -> None:
    """Begins all random numbers anew."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@contextlib.contextmanager
def drawn_alphas() -> Iterator[list[np.ndarray]]:
    """What Captum's gradient SHAP draws along the path while the block runs, one array per generated token."""
    drawn: list[np.ndarray] = []
    uniform = np.random.uniform

    def remembered(*arguments: object, **options: object) -> np.ndarray:
        drawn.append(uniform(*arguments, **options))
        return drawn[-1]

    np.random.uniform = remembered
    try:
        yield drawn
    finally:
        np.random.uniform = uniform
