"""Generations: traces that continue their prompts, and tokens as they come."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import final

from interpd.graph.ir import Generation, Steps
from interpd.graph.run import TokenGenerated
from interpd_client.options import RunOptions
from interpd_client.prompts import PromptLike
from interpd_client.result import Collector, Result
from interpd_client.runs import RunHandle
from interpd_client.trace import Trace, TraceContext


class GenerationTrace(Trace):
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
class TokenStream(Iterator[StreamedToken]):
    """The tokens of a generation as they come; ``result`` holds the rest once they have ended.

    Leaving the loop early and closing the stream ends the run.
    """

    def __init__(self, handle: RunHandle) -> None:
        self._handle = handle
        self._events = handle.events()
        self._collector = Collector()
        self._result: Result | None = None
        self._is_closed = False

    def __next__(self) -> StreamedToken:
        for event in self._events:
            self._collector.feed(event)
            if isinstance(event, TokenGenerated):
                return StreamedToken(event)
        if self._result is None and not self._is_closed:
            self._result = self._collector.result(self._handle.id)
        raise StopIteration

    @property
    def result(self) -> Result:
        """The result; waits for the tokens that are still to come and drops them.

        Raises ``RuntimeError`` when the stream was closed before its end.
        """
        for _ in self:
            pass
        if self._result is None:
            raise RuntimeError("the stream was closed before its end, so there is no result")
        return self._result

    def close(self) -> None:
        """Ends the run if it still goes on."""
        self._is_closed = True
        self._events.close()
