"""A model and its tokenizer with arguments of the caller's own, loaded by transformers in this process."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from interpd.errors import FeatureUnsupported, InvalidRequest

QUANTISED = ("load_in_4bit", "load_in_8bit", "quantization_config")


def pretrained(source: str, model_kwargs: Mapping[str, Any], tokenizer_kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model and the tokenizer of ``source``, a folder or ``OWNER/NAME@REVISION``.

    Only safetensors are read, and code that comes with a model is never run. Raises ``InvalidRequest`` for arguments
    that transformers refuses, ``FeatureUnsupported`` for quantised weights.
    """
    for kwargs in (model_kwargs, tokenizer_kwargs):
        if "trust_remote_code" in kwargs:
            raise InvalidRequest("trust_remote_code: code that comes with a model is never run; leave it out")
    if asked := [name for name in QUANTISED if model_kwargs.get(name)]:
        raise FeatureUnsupported(f"{asked[0]}: attribution of quantised models is not tested; load it without")
    path, _, revision = source.partition("@")
    pinned = {"revision": revision} if revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **{**pinned, **tokenizer_kwargs})
        config = AutoConfig.from_pretrained(path, **pinned)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(path, **{**pinned, **model_kwargs, "use_safetensors": True})
    except (OSError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{source!r} cannot be loaded with these arguments: {error}") from error
    if (language := tokenizer_kwargs.get("tgt_lang")) is not None:
        model.generation_config.forced_bos_token_id = _language(tokenizer, language)
    return model.eval(), tokenizer


def _language(tokenizer: Any, name: str) -> int:
    """The token that answers in a language begin with, as Inseq has it."""
    codes = getattr(tokenizer, "lang_code_to_id", {})
    found = codes.get(name, tokenizer.get_vocab().get(name))
    if found is None:
        raise InvalidRequest(f"--tokenizer-kwargs: the tokenizer has no language {name!r}")
    return found
