"""A resident model, for programs with an event loop."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, Unpack, final

from interpd.graph.run import TokenGenerated, Tokens
from interpd.graph.schema import ArtifactInfo
from interpd.plugin import parts
from interpd_client.aio.generation import GenerationTrace, TokenStream
from interpd_client.aio.trace import Trace
from interpd_client.calls import put_artifact
from interpd_client.model import ModelFacts
from interpd_client.names import UnknownName
from interpd_client.options import GenerateOptions, RunOptions, checked, split_options
from interpd_client.prompts import PromptLike, TargetLike, as_prompt, with_target


@final
class Model(ModelFacts):
    """One resident model, as ``interpd_client.Model``. Made by ``await Client.model``; tasks may share it."""

    def trace(
        self, prompt: PromptLike | None = None, *, target: TargetLike | None = None, **options: Unpack[RunOptions]
    ) -> Trace:
        """A trace for ``async with``, over one prompt or over several added with ``t.prompt``."""
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
        """A trace for ``async with`` whose prompts are continued by up to ``max_new_tokens`` tokens.

        ``on_token`` is called, on the event loop, with each token as it comes.
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
        """The new tokens of a prompt as they come: ``async for token in model.stream(...): ...``."""
        options = {**options, "progress": False}
        # the callback does nothing, but with one the service sends every token
        trace = self.generate(prompt, max_new_tokens=max_new_tokens, target=target, on_token=_nothing, **options)
        return TokenStream(trace)

    def generate_text(
        self,
        prompt: PromptLike,
        *,
        max_new_tokens: int,
        target: TargetLike | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Coroutine[Any, Any, str]:
        """The text that continues a prompt; of an encoder-decoder model, that answers it (behind ``target``)."""
        # the trace begins here, on the caller's line, wherever its end is awaited
        return _text_of(self.generate(prompt, max_new_tokens=max_new_tokens, target=target, **options))

    async def tokenize(self, prompt: PromptLike, *, target: TargetLike | None = None) -> Tokens:
        """The prompt as the model's tokenizer sees it: ids, strings, offsets, text.

        Of an encoder-decoder model these are the source's, and ``tokens.target`` is what the decoder is given.
        """
        return await self._context.tokenize(as_prompt(prompt, target=target))

    async def artifacts(self) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the model's workers know now; ``manifest.artifacts`` has those of when it was fetched."""
        return await self._connection.ask("artifacts", self.name)

    async def upload_artifact(self, file: str | Path | bytes, name: str, kind: str) -> ArtifactInfo:
        """The artifact that the model's workers now know under ``name``. Traces find it at once.

        Arguments are those of ``interpd_client.Model.upload_artifact``.
        """
        return await put_artifact(self._connection, self.name, file, name, kind)

    def __getattr__(self, name: str) -> NoReturn:
        if name in parts.names(parts.CLIENT):
            raise UnknownName(
                f"the client part of plugin {name!r} works with models of the blocking client: use "
                "interpd_client.connect in a thread",
                name=name,
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _nothing(event: TokenGenerated) -> None:
    """What a stream, whose reader gets the tokens, does with each of them beside that."""


async def _text_of(trace: GenerationTrace) -> str:
    return (await trace.run()).text
