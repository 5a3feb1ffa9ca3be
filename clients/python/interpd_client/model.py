"""A resident model, as the client sees it: what it offers, and the traces that run on it."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack, final

from interpd.graph.run import TokenGenerated, Tokens
from interpd.graph.schema import ArtifactInfo, Manifest, ModelInfo
from interpd.plugin import parts
from interpd_client.calls import put_artifact
from interpd_client.connection import Connection
from interpd_client.generation import GenerationTrace, TokenStream
from interpd_client.listings import model_html
from interpd_client.options import GenerateOptions, RunOptions, checked, split_options
from interpd_client.plugin_part import plugin_part
from interpd_client.prompts import PromptLike, TargetLike, as_prompt, with_target
from interpd_client.sites import SiteTable
from interpd_client.trace import Trace, TraceContext
from interpd_client.waiting import finished


class ModelFacts:
    """What is known of a resident model without asking."""

    def __init__(self, connection: Connection, manifest: Manifest) -> None:
        self._connection = connection
        self._manifest = manifest

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self._manifest.model.name

    @property
    def info(self) -> ModelInfo:
        """Facts: source, revision, architecture, sizes, dtype, device."""
        return self._manifest.model

    @property
    def manifest(self) -> Manifest:
        """All that the model's workers offer: sites, modules, weights, operations, artifacts, limits."""
        return self._manifest

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the canonical sites; raw module paths are in ``manifest.sites``."""
        return tuple(site.name for site in self._manifest.sites.values() if site.canonical)

    @cached_property
    def _context(self) -> TraceContext:
        return TraceContext(self._connection, self._manifest, SiteTable(self._manifest))

    def _repr_html_(self) -> str:
        return model_html(self._manifest)

    def __repr__(self) -> str:
        info = self.info
        sizes = ", ".join(f"{name} {size}" for name, size in info.sizes.items())
        return f"<model {info.name}: {info.architecture}, {info.depth} layers, {sizes}, {info.dtype} on {info.device}>"


@final
class Model(ModelFacts):
    """One resident model. Made by ``Client.model``; any thread may use it, each with traces of its own."""

    def trace(
        self, prompt: PromptLike | None = None, *, target: TargetLike | None = None, **options: Unpack[RunOptions]
    ) -> Trace:
        """A trace over one prompt (text, chat messages or token ids), or over several added with ``t.prompt``.

        Of an encoder-decoder model the prompt is the source, and ``target`` is what the decoder is given after its
        start token: text or token ids; ``None``: nothing.
        """
        run = checked(options)
        return Trace(self._context, with_target(prompt, target, run), run)

    def generate(
        self,
        prompt: PromptLike | None = None,
        *,
        max_new_tokens: int,
        target: TargetLike | None = None,
        on_token: Callable[[TokenGenerated], None] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> GenerationTrace:
        """A trace whose prompts are continued by up to ``max_new_tokens`` tokens.

        ``target`` is what the continuation of an encoder-decoder model begins with. ``on_token`` is called with each
        token as it comes.
        """
        generation, run = split_options(max_new_tokens, options)
        return GenerationTrace(self._context, with_target(prompt, target, run), run, generation, on_token)

    def stream(
        self,
        prompt: PromptLike,
        *,
        max_new_tokens: int,
        target: TargetLike | None = None,
        **options: Unpack[GenerateOptions],
    ) -> TokenStream:
        """The new tokens of a prompt as they come: ``for token in model.stream(...): print(token, end="")``."""
        options = {**options, "progress": False}
        # the callback does nothing, but with one the service sends every token
        trace = self.generate(prompt, max_new_tokens=max_new_tokens, target=target, on_token=_nothing, **options)
        return TokenStream(finished(trace._feed()))

    def generate_text(
        self,
        prompt: PromptLike,
        *,
        max_new_tokens: int,
        target: TargetLike | None = None,
        **options: Unpack[GenerateOptions],
    ) -> str:
        """The text that continues a prompt; of an encoder-decoder model, that answers it (behind ``target``)."""
        return self.generate(prompt, max_new_tokens=max_new_tokens, target=target, **options).run().text

    def tokenize(self, prompt: PromptLike, *, target: TargetLike | None = None) -> Tokens:
        """The prompt as the model's tokenizer sees it: ids, strings, offsets, text.

        Of an encoder-decoder model these are the source's, and ``tokens.target`` is what the decoder is given.
        """
        return finished(self._context.tokenize(as_prompt(prompt, target=target)))

    def artifacts(self) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the model's workers know now; ``manifest.artifacts`` has those of when it was fetched."""
        return finished(self._connection.ask("artifacts", self.name))

    def upload_artifact(self, file: str | Path | bytes, name: str, kind: str) -> ArtifactInfo:
        """The artifact that the model's workers now know under ``name``. Traces find it at once.

        Args:
            file: A safetensors file of this machine, or the content of one.
            name: What params of kind ``artifact:<kind>`` take from now on.
            kind: One of the model's kinds of artifacts.
        """
        return finished(put_artifact(self._connection, self.name, file, name, kind))

    def __getattr__(self, name: str) -> Any:
        """The client part of the plugin ``name``: whatever its entry point in ``interpd.client`` makes of this model.

        Raises ``UnknownName``, and ``Broken`` when the part cannot be used.
        """
        if name.startswith("_"):
            # Python's own protocols and notebooks ask for such names
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__.setdefault(name, plugin_part(self, name))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *parts.names(parts.CLIENT)})


def _nothing(event: TokenGenerated) -> None:
    """What a stream, whose reader gets the tokens, does with each of them beside that."""
