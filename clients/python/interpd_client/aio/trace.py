"""Traces whose end is awaited: what is written inside ``async with model.trace(...) as t`` becomes one graph.

Writing a trace asks nobody, so it needs no ``await``. The one exception are the tokens of a prompt, which only the
service knows: ``await t.tokens`` asks for them, and from then on ``t.tokens("Marsh")`` is as in any trace.
"""

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, ClassVar, Self, Unpack, final

from interpd.graph.check import CheckReport
from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens
from interpd_client import prompt_trace
from interpd_client.aio.runs import RunHandle
from interpd_client.options import RunOptions, checked
from interpd_client.prompts import PromptLike
from interpd_client.recording import Recording
from interpd_client.result import Result
from interpd_client.tokens import TokenPositions
from interpd_client.trace import TraceContext, TraceDraft


@final
class AwaitedTokenizer:
    """What a recording asks for tokens: it has none to give before they were awaited."""

    def __init__(self, context: TraceContext) -> None:
        self._context = context

    def __call__(self, prompt: Prompt) -> Tokens:
        raise RuntimeError(
            "the tokens of this prompt are not known yet, and a line that is no `await` cannot ask the service: write "
            "`await t.tokens` above it"
        )

    async def ask(self, recording: Recording, invoke: int) -> None:
        """Tells the recording the tokens of a prompt, if it does not know them."""
        if recording.n_tokens()[invoke] is None:
            recording.learn(invoke, await self._context.tokenize(recording.prompts[invoke]))


@final
class AwaitedPositions(TokenPositions):
    """The tokens of one prompt, once they were awaited: ``await t.tokens``, then ``t.tokens("Marsh")``."""

    def __init__(self, recording: Recording, invoke: Callable[[], int]) -> None:
        super().__init__(lambda: recording.tokens(invoke()))
        self._recording, self._invoke = recording, invoke

    def __await__(self) -> Generator[Any, None, Self]:
        return self._asked().__await__()

    async def _asked(self) -> Self:
        tokenizer = self._recording.tokenize
        assert isinstance(tokenizer, AwaitedTokenizer)
        await tokenizer.ask(self._recording, self._invoke())
        return self


class PromptTrace(prompt_trace.PromptTrace):
    """One prompt of a trace: its sites, tokens and operations, as ``interpd_client.PromptTrace``."""

    @property
    def tokens(self) -> AwaitedPositions:
        """Positions of the prompt, once they were awaited; also its ids and strings."""
        return AwaitedPositions(self._recording, self._scope.invoke)


class Trace(PromptTrace, TraceDraft):
    """A request under construction, as ``interpd_client.Trace``. Made by ``Model.trace``.

    The end of an ``async with`` block sends everything and waits, unless an exception left it or ``submit`` was called.
    """

    _one_prompt: ClassVar[type[prompt_trace.PromptTrace]] = PromptTrace

    def __init__(self, context: TraceContext, prompt: PromptLike | None, options: RunOptions) -> None:
        TraceDraft.__init__(self, context, prompt, options, AwaitedTokenizer(context))
        self._handle: RunHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._handle is None:
            await self.run()
        self._recording.closed = True

    @property
    def result(self) -> Result:
        """What came back. Raises ``RuntimeError`` before the end of the run."""
        if self._handle is None:
            raise RuntimeError("there is no result yet: the request is sent when the `async with` block ends")
        found = self._handle._result_now
        if found is None:
            raise RuntimeError("there is no result yet: `await handle.result()` waits for a run that was submitted")
        return found

    def again(self, prompt: PromptLike, **options: Unpack[RunOptions]) -> "Trace":
        """A new trace of what this one has recorded, over another prompt; it saves nothing yet, and nothing is sent.

        Positions stay as they were written: those that were found by text or counted from the start keep their
        numbers. Raises ``ValueError`` unless this trace has one prompt.
        """
        return Trace(self._context, prompt, checked(options))._begun_as(self)

    async def check(self, *, remote: bool = False) -> CheckReport:
        """What is wrong with the trace so far, its types and its cost; nothing runs.

        ``remote=True`` lets the service tokenise and check.
        """
        return await self._report(remote=remote)

    async def run(self) -> Result:
        """The result; what the end of a block does. Raises ``InvalidGraph`` before anything is sent."""
        if self._handle is None:
            self._handle = RunHandle(self._context.connection, await self._checked(is_detached=False))
        return await self._handle.result()

    async def submit(self) -> RunHandle:
        """A hold on the run, once the service has accepted it; the end of the block then sends nothing."""
        if self._handle is None:
            handle = RunHandle(self._context.connection, await self._checked(is_detached=self._outlives_us))
            await handle.wait_accepted()
            self._handle = handle
        return self._handle
