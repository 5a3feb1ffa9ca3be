"""Everything that interpd may raise, split at the root by whose act it was.

    InterpdError
    ├── CallerError                 the caller asked for what cannot be
    │   ├── InvalidGraph            every violation of one graph, at once
    │   ├── InvalidRequest          a request that is malformed outside its graph
    │   ├── PositionOutOfRange      known only after tokenising
    │   ├── NotFound
    │   │   ├── ModelNotFound
    │   │   ├── ArtifactNotFound
    │   │   ├── AdapterNotFound     unknown, or it could not be loaded
    │   │   ├── BlobNotFound        a digest that was never uploaded (or has expired)
    │   │   └── RunNotFound
    │   ├── PreconditionFailed
    │   │   ├── OpVersionMismatch
    │   │   └── ModelNotReady
    │   ├── FeatureUnsupported      this model or build cannot do it
    │   ├── LimitExceeded           a bound of this caller; retrying does not help
    │   ├── NotAuthenticated
    │   └── NotAuthorised
    ├── Interrupted                 nobody's fault
    │   ├── Cancelled
    │   └── DeadlineExceeded
    ├── Unavailable                 the service's state now; a retry may help
    │   ├── Overloaded
    │   ├── WorkerLost
    │   └── Draining
    └── Broken                      the service's or a plugin's fault
        ├── DeviceOutOfMemory
        ├── OpFailed                an operation or method of a plugin raised
        ├── DataLoss                bytes that arrived are not the bytes that were sent
        └── InternalError           a bug in interpd

A message says what, where, expected against got, and what to do. ``wire/status.py`` alone knows how a
class travels over gRPC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One reason why a graph cannot run."""

    code: str
    """UPPER_SNAKE: UNKNOWN_OP, UNKNOWN_SITE, PORT_MISMATCH, CYCLE, SITE_ORDER, BAD_PARAM, ..."""
    path: str
    """Where in the request: ``graph.nodes[17].inputs[0]``."""
    message: str
    """What, expected against got, and what to do."""
    place: str = ""
    """Where in the caller's own program, ``steer.py:2: t.save(x=h)``, which only a client knows. Does not travel."""

    def __str__(self) -> str:
        # sentences about nodes and outputs name them; others begin with their verb
        says_what = self.place and (self.path == "graph" or self.path.startswith(("graph.nodes", "graph.outputs[")))
        sentence = f"{self.message} [{self.code}]" if says_what else f"{self.path}: {self.message} [{self.code}]"
        return f"{self.place}\n    {sentence}" if self.place else sentence


class InterpdError(Exception):
    """The root of every error that interpd raises on purpose.

    Args:
        message: What, where, expected against got, what to do.
        facts: Strings a program may act on (``model``, ``node``, ``limit_bytes``); they travel with the error.
    """

    reason: ClassVar[str] = "INTERPD_ERROR"
    trace: str = ""
    """The traceback of the cause, from a worker to the log of its daemon; clients do not get it."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, str] = {key: str(value) for key, value in facts.items()}

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))


def _rebuild(cls: type[InterpdError], message: str, state: dict[str, object]) -> InterpdError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class CallerError(InterpdError):
    """The caller asked for something that cannot be done; asking again unchanged fails again."""

    reason = "CALLER_ERROR"


class InvalidGraph(CallerError):
    """A graph that breaks at least one rule. ``violations`` lists all of them."""

    reason = "INVALID_GRAPH"

    def __init__(self, violations: Sequence[Violation], **facts: object) -> None:
        self.violations: tuple[Violation, ...] = tuple(violations)
        n = len(self.violations)
        head = "the graph breaks a rule" if n == 1 else f"the graph breaks {n} rules"
        lines = [f"{head}:", *map(str, self.violations)]
        # the first line of a message is often all that is looked at, so the caller's own line goes there
        is_alone = n == 1 and self.violations[0].place
        super().__init__(lines[1] if is_alone else "\n  ".join(lines), **facts)


class InvalidRequest(CallerError):
    """A request that is malformed outside its graph: unreadable bytes, missing fields, contradicting options."""

    reason = "INVALID_REQUEST"


class PositionOutOfRange(CallerError):
    """A position that the tokenised prompt does not have."""

    reason = "POSITION_OUT_OF_RANGE"


class NotFound(CallerError):
    """Something named by the caller does not exist here."""

    reason = "NOT_FOUND"


class ModelNotFound(NotFound):
    """No model of that name is resident."""

    reason = "MODEL_NOT_FOUND"


class ArtifactNotFound(NotFound):
    """No artifact of that name is known to the model's workers."""

    reason = "ARTIFACT_NOT_FOUND"


class AdapterNotFound(NotFound):
    """The model has no adapter of that name, or it could not be loaded."""

    reason = "ADAPTER_NOT_FOUND"


class BlobNotFound(NotFound):
    """No uploaded constant has that digest; upload it and send the request again."""

    reason = "BLOB_NOT_FOUND"


class RunNotFound(NotFound):
    """No run of that id, or its result has expired."""

    reason = "RUN_NOT_FOUND"


class PreconditionFailed(CallerError):
    """Something has to be done before this request can be served."""

    reason = "PRECONDITION_FAILED"


class OpVersionMismatch(PreconditionFailed):
    """The graph names a version of an operation that this worker does not have."""

    reason = "OP_VERSION_MISMATCH"


class ModelNotReady(PreconditionFailed):
    """The model is known but not loaded (loading, failed to load, or unloading)."""

    reason = "MODEL_NOT_READY"


class FeatureUnsupported(CallerError):
    """This model, site or build cannot do what was asked, and says so instead of approximating."""

    reason = "FEATURE_UNSUPPORTED"


class LimitExceeded(CallerError):
    """A bound that applies to this caller would be passed; a smaller request is needed."""

    reason = "LIMIT_EXCEEDED"


class NotAuthenticated(CallerError):
    """The caller did not prove who it is."""

    reason = "NOT_AUTHENTICATED"


class NotAuthorised(CallerError):
    """The caller may not do this."""

    reason = "NOT_AUTHORISED"


class Interrupted(InterpdError):
    """The run was ended from outside before it finished."""

    reason = "INTERRUPTED"


class Cancelled(Interrupted):
    """The caller cancelled the run or went away."""

    reason = "CANCELLED"


class DeadlineExceeded(Interrupted):
    """The run's deadline passed before it finished."""

    reason = "DEADLINE_EXCEEDED"


class Unavailable(InterpdError):
    """The service cannot take the request now; ``retry_after_s`` says when to try again."""

    reason = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, **facts: object) -> None:
        super().__init__(message, **facts)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """The queue or the memory is full at this moment."""

    reason = "OVERLOADED"


class WorkerLost(Unavailable):
    """The worker process died or was stopped while it held the request."""

    reason = "WORKER_LOST"


class Draining(Unavailable):
    """The daemon is shutting down and takes no new requests."""

    reason = "DRAINING"


class Broken(InterpdError):
    """Something failed that the caller could not have known."""

    reason = "BROKEN"


class DeviceOutOfMemory(Broken):
    """The device had less memory than the estimate promised."""

    reason = "DEVICE_OUT_OF_MEMORY"


class OpFailed(Broken):
    """An operation or method raised, hung or returned what it had not declared."""

    reason = "OP_FAILED"


class DataLoss(Broken):
    """Bytes arrived damaged or incomplete."""

    reason = "DATA_LOSS"


class InternalError(Broken):
    """A bug in interpd: please report it with the request id."""

    reason = "INTERNAL_ERROR"
