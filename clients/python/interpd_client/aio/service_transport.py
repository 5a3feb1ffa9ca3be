"""``interpd_client.service_transport`` with coroutines for methods."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar, final

from interpd.graph.check import CheckReport
from interpd.graph.ir import Prompt
from interpd.graph.run import Event, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest, PluginInfo
from interpd.graph.types import TensorData
from interpd.scheduler.interface import ModelStatus, Statistics
from interpd.specs import AdapterSpec, ModelSpec
from interpd.wire.events import EventAssembler
from interpd_client import questions
from interpd_client.aio.transport import EventStream
from interpd_client.connection import remaining_s
from interpd_client.questions import Question

_T = TypeVar("_T")


class Messages(ABC):
    """The answers to a question that has several."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Any]:
        """The messages. Raises the classes of ``interpd.errors``."""

    @abstractmethod
    def close(self) -> None:
        """Stops reading. Idempotent."""


class ServiceTransport(ABC):
    """Implements ``aio.Transport`` but for what carries the questions."""

    @abstractmethod
    async def _ask(self, question: Question[_T], timeout_s: float | None) -> _T:
        """The answer to a question. Raises the classes of ``interpd.errors``."""

    @abstractmethod
    async def _stream(self, question: Question[Any], timeout_s: float | None) -> Messages:
        """The answers to a question that has several."""

    @abstractmethod
    async def close(self) -> None:
        """Gives up the connection. Idempotent."""

    async def models(self, timeout_s: float | None) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed."""
        return await self._ask(questions.models(), timeout_s)

    async def manifest(self, model: str, timeout_s: float | None) -> Manifest:
        """What a model offers."""
        return await self._ask(questions.manifest(model), timeout_s)

    async def load(self, spec: ModelSpec, timeout_s: float | None) -> ModelStatus:
        """The status of a model once it serves."""
        return await self._ask(questions.load(spec), timeout_s)

    async def unload(self, model: str, timeout_s: float | None) -> None:
        """Takes a model away."""
        await self._ask(questions.unload(model), timeout_s)

    async def tokenize(self, model: str, prompts: Sequence[Prompt], timeout_s: float | None) -> tuple[Tokens, ...]:
        """The prompts as the model's tokenizer sees them."""
        return await self._ask(questions.tokenize(model, prompts), timeout_s)

    async def validate(self, request: RunRequest, timeout_s: float | None) -> CheckReport:
        """Whether the run would be accepted, with types and costs."""
        return await self._ask(questions.validate(request), timeout_s)

    async def run(self, request: RunRequest) -> EventStream:
        """The events of a new run; ``request.deadline_s`` bounds it."""
        question = questions.run(request)
        return EventsOfMessages(await self._stream(question, remaining_s(request.deadline_s)), 0)

    async def attach(self, run_id: str, start: int, timeout_s: float | None) -> EventStream:
        """The events of a known run from number ``start`` on."""
        return EventsOfMessages(await self._stream(questions.attach(run_id, start), timeout_s), start)

    async def cancel(self, run_id: str, timeout_s: float | None) -> None:
        """Ends a run."""
        await self._ask(questions.cancel(run_id), timeout_s)

    async def put_blob(self, model: str, digest: str, tensor: TensorData, timeout_s: float | None) -> None:
        """Uploads a large constant for the workers of ``model`` (``""``: of all)."""
        await self._ask(questions.put_blob(model, digest, tensor), timeout_s)

    async def put_artifact(
        self, model: str, name: str, kind: str, data: bytes, timeout_s: float | None
    ) -> ArtifactInfo:
        """Uploads a safetensors file as a named artifact."""
        return await self._ask(questions.put_artifact(model, name, kind, data), timeout_s)

    async def get_artifact(self, model: str, name: str, timeout_s: float | None) -> bytes:
        """The file of an artifact."""
        return await self._ask(questions.get_artifact(model, name), timeout_s)

    async def delete_artifact(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an artifact away."""
        await self._ask(questions.delete_artifact(model, name), timeout_s)

    async def artifacts(self, model: str, timeout_s: float | None) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the workers of a model know."""
        return await self._ask(questions.artifacts(model), timeout_s)

    async def load_adapter(self, model: str, spec: AdapterSpec, timeout_s: float | None) -> AdapterInfo:
        """An adapter of a model, once requests can ask for it."""
        return await self._ask(questions.load_adapter(model, spec), timeout_s)

    async def unload_adapter(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an adapter away."""
        await self._ask(questions.unload_adapter(model, name), timeout_s)

    async def plugins(self, timeout_s: float | None) -> dict[str, tuple[PluginInfo, ...]]:
        """The plugins that the workers of each model found."""
        return await self._ask(questions.plugins(), timeout_s)

    async def statistics(self, timeout_s: float | None) -> Statistics:
        """Counters of the daemon."""
        return await self._ask(questions.statistics(), timeout_s)


@final
class EventsOfMessages:
    """An ``aio.transport.EventStream`` made of the messages of a run."""

    def __init__(self, messages: Messages, start: int) -> None:
        self._messages = messages
        self._assembler = EventAssembler()
        self._assembler.next_number = start
        self._is_closed = False

    @property
    def next_number(self) -> int:
        """Number of the first event that has not come out completely."""
        return self._assembler.next_number

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for message in self._messages:
            for part in (message.event, *message.more):
                event = self._assembler.feed(part)
                if event is not None:
                    yield event
        if not self._is_closed:
            self._assembler.finish()

    def close(self) -> None:
        """Stops reading. Idempotent."""
        self._is_closed = True
        self._messages.close()
