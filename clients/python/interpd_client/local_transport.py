"""The transport to a daemon in this process: the only file of the client that knows what daemons are made of."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, final

from interpd.config import ModelDefaults, ModelSpec, parse_model
from interpd.errors import Cancelled
from interpd_client.questions import Question
from interpd_client.service_transport import Messages, ServiceTransport

try:
    from interpd.in_process import InProcess, Stream
except ModuleNotFoundError as error:
    raise ImportError(
        "interpd_client.local runs models in this process and needs what the daemon needs: "
        f"pip install interpd[daemon] (there is no {error.name!r})"
    ) from error

_T = TypeVar("_T")

Plugins = Sequence[str] | Mapping[str, ModuleType]
"""Names of installed plugins, or modules by plugin name."""


@final
class LocalTransport(ServiceTransport):
    """A daemon in this process, without models. It ends when it is closed, and with this object.

    Args:
        daemon: Made for this transport.
    """

    def __init__(self, daemon: InProcess) -> None:
        self._daemon = daemon
        # at the end of the program too: a thread that is left in the middle of a pass may bring it down
        self._end = weakref.finalize(self, daemon.close)

    def __repr__(self) -> str:
        return "the models in this process"

    def close(self) -> None:
        """Ends the runs and the threads, and frees the models. Idempotent."""
        self._end()

    def _ask(self, question: Question[_T], timeout_s: float | None) -> _T:
        return question.read(_waited(self._daemon.answer(question.method, question.sent, timeout_s)))

    def _stream(self, question: Question[Any], timeout_s: float | None) -> Messages:
        return _Messages(self._daemon.stream(question.method, question.sent, timeout_s))


@final
class _Messages(Messages):
    """The responses of a daemon in this process."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._is_closed = False

    def __iter__(self) -> Iterator[Any]:
        while not self._is_closed and (message := _waited(self._stream.next())) is not None:
            yield message

    def close(self) -> None:
        """Ends what makes the responses."""
        self._is_closed = True
        self._stream.close()

    def __del__(self) -> None:
        # as gRPC does with a call that nobody holds any more
        if not self._is_closed:
            self.close()


def _waited(future: "Future[_T]") -> _T:
    try:
        return future.result()
    except CancelledError:
        raise was_cancelled() from None
    except BaseException:
        # Ctrl-C while waiting
        future.cancel()
        raise


def was_cancelled() -> Cancelled:
    """What a caller is told whose client was closed meanwhile."""
    return Cancelled("the call was cancelled", stage="call")


def specs_of(daemon: InProcess, models: Sequence[Any], name: str, dtype: str, device: str) -> list[ModelSpec]:
    """What to load for the arguments of ``local``. Raises ``TypeError``, ``InvalidRequest``."""
    if not models:
        raise TypeError("local() wants a model at least: a folder, a hub id, a bundled name or a model of transformers")
    if name and len(models) > 1:
        raise TypeError(f"name={name!r} names one model, and {len(models)} were given; write SOURCE=NAME, or ModelSpec")
    return [_spec(daemon, model, ModelDefaults(dtype=dtype, device=device), name) for model in models]


def _spec(daemon: InProcess, model: Any, defaults: ModelDefaults, name: str) -> ModelSpec:
    if isinstance(model, ModelSpec):
        return model
    if isinstance(model, (str, Path)):
        spec = parse_model(str(model), defaults)
        return ModelSpec(spec.source, name or spec.name, spec.revision, spec.dtype, spec.device)
    given = model if isinstance(model, tuple) else (model, None)
    if len(given) != 2 or not hasattr(given[0], "forward"):
        raise TypeError(
            "local() takes folders, hub ids, bundled names, ModelSpecs, models of transformers and (model, tokenizer) "
            f"pairs, got {model!r}"
        )
    called = name or str(getattr(getattr(given[0], "config", None), "model_type", "")) or "model"
    return ModelSpec(daemon.give(*given), called, dtype=defaults.dtype, device=defaults.device)
