"""Generations, and tokens as they come, for programs with an event loop."""

from collections.abc import AsyncIterator, Callable
from typing import final

from interpd.graph.ir import Generation
from interpd.graph.run import TokenGenerated
from interpd_client.aio.trace import Trace
from interpd_client.generation import StepBlocks, StreamedToken, TokenFeed
from interpd_client.options import RunOptions
from interpd_client.prompts import PromptLike
from interpd_client.result import Result
from interpd_client.trace import TraceContext


class GenerationTrace(StepBlocks, Trace):
    """A trace whose prompts are continued, as ``interpd_client.GenerationTrace``. Made by ``Model.generate``."""

    def __init__(
        self,
        context: TraceContext,
        prompt: PromptLike | None,
        options: RunOptions,
        generation: Generation,
        on_token: Callable[[TokenGenerated], None] | None = None,
    ) -> None:
        Trace.__init__(self, context, prompt, options)
        self._recording.generation = generation
        self._on_token = on_token


@final
class TokenStream(AsyncIterator[StreamedToken]):
    """The tokens of a generation as they come; the first ``async for`` or ``anext`` sends the request.

    Leaving the loop early and closing the stream ends the run.
    """

    def __init__(self, trace: GenerationTrace) -> None:
        self._trace = trace
        self._feed: TokenFeed | None = None
        self._is_closed = False

    async def __anext__(self) -> StreamedToken:
        if self._feed is None:
            if self._is_closed:
                raise StopAsyncIteration
            self._feed = await self._trace._feed()
        token = await self._feed.next()
        if token is None:
            raise StopAsyncIteration
        return token

    @property
    def result(self) -> Result:
        """The result, once the tokens have ended. Raises ``RuntimeError`` before, and for a stream that was closed."""
        if self._is_closed or self._feed is None or self._feed.result is None:
            state = "the stream was closed before its end" if self._is_closed else "tokens are still to come"
            raise RuntimeError(f"{state}, so there is no result")
        return self._feed.result

    async def close(self) -> None:
        """Ends the run if it still goes on."""
        if self._feed is not None:
            await self._feed.close()
        self._is_closed = self._feed is None or self._feed.result is None
