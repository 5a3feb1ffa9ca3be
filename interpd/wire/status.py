"""The one table error class -> gRPC status, and the way back.

The way out: ``to_rpc_status`` makes a ``google.rpc.Status`` with exactly one ``ErrorInfo`` (domain ``interpd``, the
class's reason, its facts) and the standard detail of its kind (AIP-193). The way back: ``from_rpc_error`` gives the
same class; an unknown reason gives the class of its code, and a status that gRPC itself made (nobody listens, a message
too large) the class whose handling fits.

Everything travels in HTTP/2 headers, of which other clients take 8 KiB by default: long messages and long lists of
violations are cut, and say so.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from interpd import errors
from interpd.errors import InterpdError, Violation

DOMAIN = "interpd"
DETAILS_KEY = "grpc-status-details-bin"
"""The metadata key in which gRPC carries a ``google.rpc.Status``."""

MESSAGE_BYTES = 1_200
STATUS_BYTES = 5_000
"""Bounds of the message, which travels twice, and of the whole status."""
FACT_BYTES = 200
MAX_FACTS = 16
VIOLATION_BYTES = 600

_Code = grpc.StatusCode

CODES: dict[type[InterpdError], grpc.StatusCode] = {
    errors.InterpdError: _Code.UNKNOWN,
    errors.CallerError: _Code.INVALID_ARGUMENT,
    errors.InvalidGraph: _Code.INVALID_ARGUMENT,
    errors.InvalidRequest: _Code.INVALID_ARGUMENT,
    errors.PositionOutOfRange: _Code.OUT_OF_RANGE,
    errors.NotFound: _Code.NOT_FOUND,
    errors.ModelNotFound: _Code.NOT_FOUND,
    errors.ArtifactNotFound: _Code.NOT_FOUND,
    errors.AdapterNotFound: _Code.NOT_FOUND,
    errors.BlobNotFound: _Code.NOT_FOUND,
    errors.RunNotFound: _Code.NOT_FOUND,
    errors.PreconditionFailed: _Code.FAILED_PRECONDITION,
    errors.OpVersionMismatch: _Code.FAILED_PRECONDITION,
    errors.ModelNotReady: _Code.FAILED_PRECONDITION,
    errors.FeatureUnsupported: _Code.UNIMPLEMENTED,
    errors.LimitExceeded: _Code.RESOURCE_EXHAUSTED,
    errors.NotAuthenticated: _Code.UNAUTHENTICATED,
    errors.NotAuthorised: _Code.PERMISSION_DENIED,
    errors.Interrupted: _Code.ABORTED,
    errors.Cancelled: _Code.CANCELLED,
    errors.DeadlineExceeded: _Code.DEADLINE_EXCEEDED,
    errors.Unavailable: _Code.UNAVAILABLE,
    errors.Overloaded: _Code.RESOURCE_EXHAUSTED,
    errors.WorkerLost: _Code.UNAVAILABLE,
    errors.Draining: _Code.UNAVAILABLE,
    errors.Broken: _Code.INTERNAL,
    errors.DeviceOutOfMemory: _Code.RESOURCE_EXHAUSTED,
    errors.OpFailed: _Code.INTERNAL,
    errors.DataLoss: _Code.DATA_LOSS,
    errors.InternalError: _Code.INTERNAL,
}
"""Every class of ``interpd.errors``; a subclass from elsewhere travels with the code of its nearest ancestor here."""

_BY_REASON: dict[str, type[InterpdError]] = {cls.reason: cls for cls in CODES}

_BY_CODE: dict[grpc.StatusCode, type[InterpdError]] = {
    _Code.INVALID_ARGUMENT: errors.CallerError,
    _Code.OUT_OF_RANGE: errors.CallerError,
    _Code.ALREADY_EXISTS: errors.CallerError,
    _Code.NOT_FOUND: errors.NotFound,
    _Code.FAILED_PRECONDITION: errors.PreconditionFailed,
    _Code.UNIMPLEMENTED: errors.FeatureUnsupported,
    _Code.RESOURCE_EXHAUSTED: errors.LimitExceeded,
    _Code.UNAUTHENTICATED: errors.NotAuthenticated,
    _Code.PERMISSION_DENIED: errors.NotAuthorised,
    _Code.ABORTED: errors.Interrupted,
    _Code.CANCELLED: errors.Cancelled,
    _Code.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    _Code.UNAVAILABLE: errors.Unavailable,
    _Code.INTERNAL: errors.Broken,
    _Code.DATA_LOSS: errors.DataLoss,
    _Code.UNKNOWN: errors.InterpdError,
    _Code.OK: errors.InterpdError,
}


def code_of(error: InterpdError) -> grpc.StatusCode:
    """The gRPC code of an error: that of its class, or of the nearest ancestor in the table."""
    return next(CODES[cls] for cls in type(error).__mro__ if cls in CODES)


def to_rpc_status(error: InterpdError) -> status_pb2.Status:
    """The error as a ``google.rpc.Status`` of at most 5 000 bytes, for the details key of the trailing metadata."""
    status = status_pb2.Status(code=code_of(error).value[0], message=_message(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in list(error.facts.items())[:MAX_FACTS]:
        info.metadata[_cut(key, 64)] = _cut(value, FACT_BYTES)
    status.details.add().Pack(info)
    detail = _detail(error, STATUS_BYTES - status.ByteSize())
    if detail is not None:
        status.details.add().Pack(detail)
    return status


def _message(error: InterpdError) -> str:
    # the violations travel one by one, and the client writes the list again
    text = error.message.split(":\n")[0] if isinstance(error, errors.InvalidGraph) else error.message
    return _cut(text, MESSAGE_BYTES)


def _cut(text: str, limit_bytes: int) -> str:
    """``text``, or as much of it as fits and three dots."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode()
    return encoded[: limit_bytes - 3].decode("utf-8", "ignore") + "..."


def _detail(error: InterpdError, room_bytes: int) -> Any:
    """The standard detail of this kind of error, or ``None``."""
    match error:
        case errors.InvalidGraph():
            return _bad_request(error.violations, room_bytes - 64)
        case errors.Unavailable():
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(max(0, round(error.retry_after_s * 1000)))
            return retry
        case errors.NotFound():
            kind = error.reason.removesuffix("_NOT_FOUND").lower()
            return error_details_pb2.ResourceInfo(resource_type=kind, resource_name=_cut(error.facts.get(kind, ""), 64))
        case errors.LimitExceeded():
            limits = [f"{key}={value}" for key, value in error.facts.items() if key.startswith("limit_")]
            violation = error_details_pb2.QuotaFailure.Violation(
                subject="request", description=_cut(", ".join(limits), 64)
            )
            return error_details_pb2.QuotaFailure(violations=[violation])
        case errors.PreconditionFailed():
            subject = _cut(error.facts.get("model", ""), 64)
            failed = error_details_pb2.PreconditionFailure.Violation(type=error.reason, subject=subject)
            return error_details_pb2.PreconditionFailure(violations=[failed])
    return None


def _bad_request(violations: Iterable[Violation], room_bytes: int) -> error_details_pb2.BadRequest:
    """As many violations as fit; the last one says how many do not."""
    bad = error_details_pb2.BadRequest()
    rest = list(violations)
    while rest:
        field = _field_violation(rest[0])
        # room for the sentence about those left out
        if bad.ByteSize() + field.ByteSize() + 160 > room_bytes:
            message = f"{len(rest)} more violations do not fit into an error; ValidateGraph lists all of them"
            bad.field_violations.append(_field_violation(Violation("MORE_VIOLATIONS", "graph", message)))
            break
        bad.field_violations.append(field)
        rest.pop(0)
    return bad


def _field_violation(violation: Violation) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(
        field=_cut(violation.path, FACT_BYTES),
        description=_cut(violation.message, VIOLATION_BYTES),
        reason=_cut(violation.code, 64),
    )


def from_rpc_error(error: grpc.RpcError) -> InterpdError:
    """The error that the service raised, or what gRPC's own failure means to a caller.

    Takes the errors of synchronous calls and of ``grpc.aio``.
    """
    # a grpc.RpcError of a call is also the call; the base class alone promises nothing
    call: Any = error
    code, text = call.code(), call.details() or ""
    metadata = call.trailing_metadata() or ()
    sent = next((value for key, value in metadata if key == DETAILS_KEY), None)
    try:
        status = status_pb2.Status.FromString(sent) if isinstance(sent, bytes) else None
    except DecodeError:
        status = None
    return from_rpc_status(status, code) if status is not None else from_transport(code, text)


def from_rpc_status(status: status_pb2.Status, code: grpc.StatusCode) -> InterpdError:
    """The error that ``status`` tells of; ``code`` decides when its reason is unknown."""
    info = next(_unpacked(status, error_details_pb2.ErrorInfo), error_details_pb2.ErrorInfo())
    retry = next(_unpacked(status, error_details_pb2.RetryInfo), None)
    cls = _BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    if cls is None:
        cls = errors.Unavailable if retry is not None else _BY_CODE.get(code, InterpdError)
    rebuilt = _rebuilt(cls, status, retry)
    rebuilt.facts.update(info.metadata)
    return rebuilt


def _unpacked(status: status_pb2.Status, cls: Callable[[], Any]) -> Iterator[Any]:
    for packed in status.details:
        detail = cls()
        if packed.Is(detail.DESCRIPTOR) and packed.Unpack(detail):
            yield detail


def _rebuilt(cls: type[InterpdError], status: status_pb2.Status, retry: Any) -> InterpdError:
    if issubclass(cls, errors.InvalidGraph):
        bad = next(_unpacked(status, error_details_pb2.BadRequest), error_details_pb2.BadRequest())
        return cls([Violation(field.reason, field.field, field.description) for field in bad.field_violations])
    if issubclass(cls, errors.Unavailable) and retry is not None:
        return cls(status.message, retry_after_s=retry.retry_delay.ToMilliseconds() / 1000)
    return cls(status.message)


def from_transport(code: grpc.StatusCode, text: str) -> InterpdError:
    """What a status without our details means: gRPC, a proxy or an old service made it."""
    match code:
        case _Code.UNAVAILABLE:
            # gRPC's own words name sockets and addresses of no use to a caller
            return errors.Unavailable("the service cannot be reached", retry_after_s=1.0, grpc=text)
        case _Code.DEADLINE_EXCEEDED:
            return errors.DeadlineExceeded("the call's own deadline passed before the service answered", stage="call")
        case _Code.CANCELLED:
            return errors.Cancelled("the call was cancelled", stage="call")
        case _Code.RESOURCE_EXHAUSTED if "larger than max" in text:
            return errors.LimitExceeded(f"a message is too large ({text}); upload large constants, or return less")
        case _Code.RESOURCE_EXHAUSTED:
            return errors.Overloaded(f"the service takes no more calls now: {text}", retry_after_s=1.0)
        case _Code.UNIMPLEMENTED:
            return errors.FeatureUnsupported(f"the service does not know this call; it may be an older version: {text}")
    return _BY_CODE.get(code, InterpdError)(f"the call failed with {code.name}: {text}")
