"""A model and its tokenizer with arguments of the caller's own, loaded by transformers in this process."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from interpd.errors import FeatureUnsupported, InvalidRequest

QUANTISED = ("load_in_4bit", "load_in_8bit", "quantization_config")


def pretrained(
    source: str, model_kwargs: Mapping[str, Any], tokenizer_kwargs: Mapping[str, Any], *, device: str | None = None
) -> tuple[Any, Any]:
    """The model and the tokenizer of ``source``, a folder or ``OWNER/NAME@REVISION``.

    ``device``: by default a GPU where there is one.

    Only safetensors are read, and code that comes with a model is never run. Raises ``InvalidRequest`` for arguments
    that transformers refuses, ``FeatureUnsupported`` for quantised weights.
    """
    _refuse_code(model_kwargs)
    if asked := [name for name in QUANTISED if model_kwargs.get(name)]:
        raise FeatureUnsupported(f"{asked[0]}: attribution of quantised models is not tested; load it without")
    path, pinned = _pinned(source)
    tokenizer = tokenizer_of(source, tokenizer_kwargs)
    try:
        config = AutoConfig.from_pretrained(path, **pinned)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(path, **{**pinned, **model_kwargs, "use_safetensors": True})
    except (OSError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{source!r} cannot be loaded with these arguments: {error}") from error
    if (language := tokenizer_kwargs.get("tgt_lang")) is not None:
        model.generation_config.forced_bos_token_id = _language(tokenizer, language)
    if device in (None, "auto"):
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return model.eval().to(device), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise InvalidRequest(f"device {device!r} cannot be had: {error}") from error


def tokenizer_of(source: str, kwargs: Mapping[str, Any]) -> Any:
    """The tokenizer of ``source``. Raises ``InvalidRequest`` as ``pretrained`` does."""
    _refuse_code(kwargs)
    path, pinned = _pinned(source)
    try:
        return AutoTokenizer.from_pretrained(path, **{**pinned, **kwargs})
    except (OSError, TypeError, ValueError) as error:
        raise InvalidRequest(f"the tokenizer of {source!r} cannot be loaded with these arguments: {error}") from error


def _refuse_code(kwargs: Mapping[str, Any]) -> None:
    if "trust_remote_code" in kwargs:
        raise InvalidRequest("trust_remote_code: code that comes with a model is never run; leave it out")


def _pinned(source: str) -> tuple[str, dict[str, str]]:
    """A path or an id, and the arguments that say which version."""
    path, _, revision = source.partition("@")
    return path, {"revision": revision} if revision else {}


def _language(tokenizer: Any, name: str) -> int:
    """The token that answers in a language begin with, as Inseq has it."""
    codes = getattr(tokenizer, "lang_code_to_id", {})
    found = codes.get(name, tokenizer.get_vocab().get(name))
    if found is None:
        raise InvalidRequest(f"--tokenizer-kwargs: the tokenizer has no language {name!r}")
    return found
