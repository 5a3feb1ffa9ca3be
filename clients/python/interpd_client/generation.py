"""Generations: traces that continue their prompts, and tokens as they come."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import final

from interpd.graph.ir import Generation, Steps
from interpd.graph.run import TokenGenerated
from interpd_client.connection import Connection
from interpd_client.following import Follower, Job
from interpd_client.options import RunOptions
from interpd_client.prompts import PromptLike
from interpd_client.result import Collector, Result
from interpd_client.trace import Trace, TraceContext, TraceDraft
from interpd_client.waiting import finished


class StreamedToken(str):
    """The text that one generated token adds; ``token_id``, ``step`` and ``invoke`` say which token it is."""

    __slots__ = ("invoke", "step", "token_id")
    invoke: int
    step: int
    token_id: int

    def __new__(cls, event: TokenGenerated) -> "StreamedToken":
        """The token of an event."""
        self = super().__new__(cls, event.text)
        self.invoke, self.step, self.token_id = event.invoke, event.step, event.token_id
        return self


@final
class TokenFeed:
    """The tokens of a generation, and its result behind the last one."""

    def __init__(self, connection: Connection, job: Job) -> None:
        self._run = Follower(connection, job)
        self._collector = Collector()
        self._is_closed = False
        self.result: Result | None = None
        """The result, once the tokens have ended."""

    async def wait_accepted(self) -> None:
        """Returns once the service has taken the run in. Raises what refused it."""
        await self._run.wait_accepted()

    async def next(self) -> StreamedToken | None:
        """The next token; ``None`` after the last one. Raises what ends the run otherwise."""
        while (event := await self._run.next()) is not None:
            self._collector.feed(event)
            if isinstance(event, TokenGenerated):
                return StreamedToken(event)
        if self.result is None and not self._is_closed:
            self.result = self._collector.result(self._run.id)
        return None

    async def close(self) -> None:
        """Ends the run if it still goes on."""
        self._is_closed = True
        await self._run.leave()

    def the_result(self) -> Result:
        """The result. Raises ``RuntimeError`` when there is none."""
        if self.result is None:
            raise RuntimeError("the stream was closed before its end, so there is no result")
        return self.result


class StepBlocks(TraceDraft):
    """What a trace has whose prompts are continued: blocks that act at some steps only."""

    @contextmanager
    def steps(self, start: int, stop: int | None = None) -> Generator[None]:
        """Inside the block reads and writes act at ``start <= step < stop`` only (``None``: to the end).

        Step 0 runs the prompt; step k feeds back the k-th new token.
        """
        if start < 0 or (stop is not None and stop <= start):
            raise ValueError(f"steps({start}, {stop}) is empty: wanted 0 <= start < stop")
        before = self._recording.steps
        self._recording.steps = Steps(start, stop)
        try:
            yield
        finally:
            self._recording.steps = before

    def at(self, step: int) -> AbstractContextManager[None]:
        """Inside the block reads and writes act at one step only; 0 runs the prompt."""
        return self.steps(step, step + 1)

    async def _feed(self) -> TokenFeed:
        feed = TokenFeed(self._context.connection, await self._checked(is_detached=self._outlives_us))
        await feed.wait_accepted()
        return feed


class GenerationTrace(StepBlocks, Trace):
    """A trace whose prompts are continued. Made by ``Model.generate``.

    Reads and writes act at every step unless they stand inside ``with g.steps(...)`` or ``with g.at(...)``. What is
    read at several steps comes back with a leading ``step`` axis.
    """

    def __init__(
        self,
        context: TraceContext,
        prompt: PromptLike | None,
        options: RunOptions,
        generation: Generation,
        on_token: Callable[[TokenGenerated], None] | None = None,
    ) -> None:
        super().__init__(context, prompt, options)
        self._recording.generation = generation
        self._on_token = on_token


@final
class TokenStream(Iterator[StreamedToken]):
    """The tokens of a generation as they come; ``result`` holds the rest once they have ended.

    Leaving the loop early and closing the stream ends the run.
    """

    def __init__(self, feed: TokenFeed) -> None:
        self._feed = feed

    def __next__(self) -> StreamedToken:
        token = finished(self._feed.next())
        if token is None:
            raise StopIteration
        return token

    @property
    def result(self) -> Result:
        """The result; waits for the tokens that are still to come and drops them.

        Raises ``RuntimeError`` when the stream was closed before its end.
        """
        for _ in self:
            pass
        return self._feed.the_result()

    def close(self) -> None:
        """Ends the run if it still goes on."""
        finished(self._feed.close())
