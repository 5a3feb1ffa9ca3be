"""A transport for whoever can put questions to a service: what is asked is the same, whatever carries it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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
from interpd_client.connection import remaining_s
from interpd_client.questions import Question
from interpd_client.transport import EventStream

_T = TypeVar("_T")


class Messages(ABC):
    """The answers to a question that has several."""

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """The messages. Raises the classes of ``interpd.errors``."""

    @abstractmethod
    def close(self) -> None:
        """Stops reading; an iteration that waits then ends. Idempotent."""


class ServiceTransport(ABC):
    """Implements ``Transport`` but for what carries the questions."""

    @abstractmethod
    def _ask(self, question: Question[_T], timeout_s: float | None) -> _T:
        """The answer to a question. Raises the classes of ``interpd.errors``."""

    @abstractmethod
    def _stream(self, question: Question[Any], timeout_s: float | None) -> Messages:
        """The answers to a question that has several."""

    @abstractmethod
    def close(self) -> None:
        """Gives up the connection. Idempotent."""

    def models(self, timeout_s: float | None) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed."""
        return self._ask(questions.models(), timeout_s)

    def manifest(self, model: str, timeout_s: float | None) -> Manifest:
        """What a model offers."""
        return self._ask(questions.manifest(model), timeout_s)

    def load(self, spec: ModelSpec, timeout_s: float | None) -> ModelStatus:
        """The status of a model once it serves."""
        return self._ask(questions.load(spec), timeout_s)

    def unload(self, model: str, timeout_s: float | None) -> None:
        """Takes a model away."""
        self._ask(questions.unload(model), timeout_s)

    def tokenize(self, model: str, prompts: Sequence[Prompt], timeout_s: float | None) -> tuple[Tokens, ...]:
        """The prompts as the model's tokenizer sees them."""
        return self._ask(questions.tokenize(model, prompts), timeout_s)

    def validate(self, request: RunRequest, timeout_s: float | None) -> CheckReport:
        """Whether the run would be accepted, with types and costs."""
        return self._ask(questions.validate(request), timeout_s)

    def run(self, request: RunRequest) -> EventStream:
        """The events of a new run; ``request.deadline_s`` bounds it."""
        question = questions.run(request)
        return EventsOfMessages(self._stream(question, remaining_s(request.deadline_s)), 0)

    def attach(self, run_id: str, start: int, timeout_s: float | None) -> EventStream:
        """The events of a known run from number ``start`` on."""
        return EventsOfMessages(self._stream(questions.attach(run_id, start), timeout_s), start)

    def cancel(self, run_id: str, timeout_s: float | None) -> None:
        """Ends a run."""
        self._ask(questions.cancel(run_id), timeout_s)

    def put_blob(self, model: str, digest: str, tensor: TensorData, timeout_s: float | None) -> None:
        """Uploads a large constant for the workers of ``model`` (``""``: of all)."""
        self._ask(questions.put_blob(model, digest, tensor), timeout_s)

    def put_artifact(self, model: str, name: str, kind: str, data: bytes, timeout_s: float | None) -> ArtifactInfo:
        """Uploads a safetensors file as a named artifact."""
        return self._ask(questions.put_artifact(model, name, kind, data), timeout_s)

    def get_artifact(self, model: str, name: str, timeout_s: float | None) -> bytes:
        """The file of an artifact."""
        return self._ask(questions.get_artifact(model, name), timeout_s)

    def delete_artifact(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an artifact away."""
        self._ask(questions.delete_artifact(model, name), timeout_s)

    def artifacts(self, model: str, timeout_s: float | None) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the workers of a model know."""
        return self._ask(questions.artifacts(model), timeout_s)

    def load_adapter(self, model: str, spec: AdapterSpec, timeout_s: float | None) -> AdapterInfo:
        """An adapter of a model, once requests can ask for it."""
        return self._ask(questions.load_adapter(model, spec), timeout_s)

    def unload_adapter(self, model: str, name: str, timeout_s: float | None) -> None:
        """Takes an adapter away."""
        self._ask(questions.unload_adapter(model, name), timeout_s)

    def plugins(self, timeout_s: float | None) -> dict[str, tuple[PluginInfo, ...]]:
        """The plugins that the workers of each model found."""
        return self._ask(questions.plugins(), timeout_s)

    def statistics(self, timeout_s: float | None) -> Statistics:
        """Counters of the daemon."""
        return self._ask(questions.statistics(), timeout_s)


@final
class EventsOfMessages:
    """An ``EventStream`` made of the messages of a run."""

    def __init__(self, messages: Messages, start: int) -> None:
        self._messages = messages
        self._assembler = EventAssembler()
        self._assembler.next_number = start
        self._events = self._read()
        self._is_closed = False

    @property
    def next_number(self) -> int:
        """Number of the first event that has not come out completely."""
        return self._assembler.next_number

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def close(self) -> None:
        """Stops reading. Idempotent."""
        self._is_closed = True
        self._messages.close()

    def _read(self) -> Iterator[Event]:
        for message in self._messages:
            for part in (message.event, *message.more):
                event = self._assembler.feed(part)
                if event is not None:
                    yield event
        if not self._is_closed:
            self._assembler.finish()
