"""A model that is asked as Inseq's are."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn, Self

from interpd.errors import CallerError
from interpd_attribution.inseq_shim import outputs
from interpd_attribution.inseq_shim.call import Call, Written
from interpd_attribution.inseq_words import METHODS, dotted, generation_of, method_of
from interpd_client import Client, Model

_TOKENS = "the tokenizer is where the model is; .model.tokenize(text or ids) has ids, strings, offsets and the text"
_WEIGHTS = "the weights are where the model is; .model.trace(text) reads what its modules compute"

INSTEAD = {
    **dict.fromkeys(("encode", "decode", "tokenizer", "convert_ids_to_tokens", "convert_tokens_to_ids"), _TOKENS),
    **dict.fromkeys(("convert_tokens_to_string", "convert_string_to_tokens", "clean_tokens"), _TOKENS),
    **dict.fromkeys(("pad_token", "bos_token", "eos_token", "bos_token_id", "eos_token_id"), _TOKENS),
    **dict.fromkeys(("embed", "embed_ids", "get_embedding_layer", "vocabulary_embeddings", "forward"), _WEIGHTS),
    "get_token_with_ids": _TOKENS,
    "setup": "give load_model what is to be loaded",
    "load_attribution_method": "name it: load_model(..., method), attribute(..., method=...)",
    "get_attribution_method": "name it: load_model(..., method), attribute(..., method=...)",
}
"""Of Inseq's models, and what takes its place."""


class AttributionModel:
    """What ``load_model`` gives: ``attribute``, ``generate``, ``info``; ``model`` is interpd's own. Close it, or use it
    as a context manager, when it runs in this process."""

    def __init__(
        self, model: Model, method: str | None, method_args: Mapping[str, Any], *, client: Client | None
    ) -> None:
        self.model = model
        self.attribution_method = method
        self._method_args = dict(method_args)
        self._client = client
        self.path_of: Callable[[Any], str] = dotted

    @property
    def info(self) -> dict[str, str]:
        """The model's name and class."""
        return {"model_name": self.model.info.source, "model_class": self.model.info.architecture}

    @property
    def device(self) -> str:
        """Where it is."""
        return self.model.info.device

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it has two sides."""
        return self.model.info.has_encoder

    def attribute(
        self, input_texts: str | Sequence[str], generated_texts: str | Sequence[str] | None = None,
        method: str | None = None, **options: Any,
    ) -> outputs.FeatureAttributionOutput:  # fmt: skip
        """The attribution of each text, as Inseq 0.7.1 is asked for it.

        Args:
            input_texts: One or several.
            generated_texts: What is explained; of a decoder-only model it begins with the input text. ``None``: the
                model generates it first.
            method: Of Inseq or of ours; ``None``: that of ``load_model``.
            options: The fields of ``Written``, options of step functions (``logprob``, ``top_k``, ...),
                ``contrast_...`` and options of the method.

        Raises:
            CallerError: What Inseq has and this has not, with the way out; unknown options.
        """
        known = {one.name for one in fields(Written)}
        written = Written(**{name: value for name, value in options.items() if name in known})
        rest = {name: value for name, value in options.items() if name not in known}
        name = self._method(method, written.override_default_attribution)
        texts = [input_texts] if isinstance(input_texts, str) else list(input_texts)
        given = (
            [None] * len(texts) if generated_texts is None else _listed(generated_texts, len(texts), "generated_texts")
        )
        self._check(written)
        call = Call(self, name, written, rest)
        if method_of(name).note:
            warnings.warn(method_of(name).note, stacklevel=2)
        found = [call.one(text, generated, at) for at, (text, generated) in enumerate(zip(texts, given, strict=True))]
        return outputs.merge_attributions([outputs.FeatureAttributionOutput((item,), item.info) for item in found])

    def generate(self, texts: str | Sequence[str], **generation_args: Any) -> list[str]:
        """What the model writes behind each text, prompts of decoder-only models included, as Inseq has it."""
        items = [texts] if isinstance(texts, str) else list(texts)
        found = []
        for text in items:
            made = self.model.generate_text(text, **self.generation(text, generation_args))
            found.append(made if self.is_encoder_decoder else text + made)
        return found

    def generation(self, text: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of transformers' ``generate`` as ours. Raises ``CallerError`` for those that there are not."""
        found = generation_of(given)
        length = found.pop("max_length", None)
        if "max_new_tokens" not in found:
            whole = 20 if length is None else int(length)
            # transformers counts what the decoder was given
            n_given = 1 if self.is_encoder_decoder else len(self.model.tokenize(text).ids)
            found["max_new_tokens"] = max(whole - n_given, 1)
        return found

    def close(self) -> None:
        """Frees a model that runs in this process, and closes a connection that was opened for it."""
        if self._client is not None:
            self._client.close()

    def __getattr__(self, name: str) -> NoReturn:
        if name in INSTEAD:
            raise AttributeError(f"{name}: {INSTEAD[name]}")
        raise AttributeError(f"a model has no {name!r} here; .model is interpd's own")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.attribution_method or 'no method'} on {self.model!r}>"

    def _method(self, method: str | None, override: bool) -> str:
        name = method or self.attribution_method
        if name is None:
            raise CallerError(f"no method: give method=, one of {', '.join(METHODS)} or of ours, here or to load_model")
        if override or self.attribution_method is None:
            self.attribution_method = name
        return name

    def _check(self, written: Written) -> None:
        if written.device not in (None, self.device):
            raise CallerError(
                f"device={written.device!r}, but the model is on {self.device}: say it where it is loaded"
            )
        if written.batch_size is not None and written.batch_size < 1:
            raise CallerError(f"batch_size is {written.batch_size}, expected 1 or more")
        for what in (written.target, *written.step_scores):
            if not isinstance(what, str):
                raise CallerError(
                    f"step function {what!r} is a function of this process, which workers cannot run: offer it there "
                    "(entry point interpd_attribution.step_functions), or attribute a value of the graph: "
                    "model.attribute(text, target=lambda t: ...)"
                )

    @property
    def method_args(self) -> Mapping[str, Any]:
        """Options of the method that ``load_model`` was given."""
        return self._method_args


def _listed(given: str | Sequence[str], n: int, what: str) -> list[str]:
    items = [given] if isinstance(given, str) else list(given)
    if len(items) != n:
        raise CallerError(f"{what}: {len(items)} of them for {n} input_texts; give one for each")
    return items
