import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from interpd import errors
from interpd.errors import InterpdError, Violation
from interpd.wire.status import CODES, DETAILS_KEY, STATUS_BYTES, code_of, from_rpc_error, to_rpc_status

VIOLATIONS = (
    Violation(
        "UNKNOWN_SITE", "graph.nodes[0].params.site", "no site 'layers.12.resid'; nearest is 'layers.1.resid_post'"
    ),
    Violation("CYCLE", "graph.nodes[2]", "node 'é' needs itself"),
)


class RpcError(grpc.RpcError):
    """An error of a call, as grpc raises it."""

    def __init__(self, code, details, metadata=()):
        self._fields = code, details, metadata

    def code(self):
        return self._fields[0]

    def details(self):
        return self._fields[1]

    def trailing_metadata(self):
        return self._fields[2]


def every_class(cls=InterpdError):
    return [cls] + [below for child in cls.__subclasses__() for below in every_class(child)]


CLASSES = [cls for cls in every_class() if cls.__module__ == "interpd.errors"]


def example(cls):
    if issubclass(cls, errors.InvalidGraph):
        return cls(VIOLATIONS, model="facts")
    if issubclass(cls, errors.Unavailable):
        return cls("later", retry_after_s=2.25, model="facts")
    return cls("what, where and what to do: 'é'", model="facts", limit_bytes=12)


def travelled(error):
    status = to_rpc_status(error)
    return from_rpc_error(RpcError(code_of(error), status.message, ((DETAILS_KEY, status.SerializeToString()),)))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_comes_back_as_its_own_class(cls):
    error = example(cls)
    back = travelled(error)
    assert type(back) is cls
    assert (back.message, back.facts, str(back)) == (error.message, error.facts, str(error))
    assert vars(back) == vars(error)


def test_the_table_holds_every_class_and_each_has_its_own_reason():
    assert set(CODES) == set(CLASSES)
    assert len({cls.reason for cls in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_status_has_exactly_one_error_info_of_our_domain(cls):
    status = to_rpc_status(example(cls))
    infos = [packed for packed in status.details if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    info = error_details_pb2.ErrorInfo.FromString(infos[0].value)
    assert (len(infos), info.domain, info.reason) == (1, "interpd", cls.reason)
    assert status.code == CODES[cls].value[0]
    assert code_pb2.Code.Name(status.code) == CODES[cls].name


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (errors.InvalidGraph(VIOLATIONS), error_details_pb2.BadRequest),
        (errors.Overloaded("full"), error_details_pb2.RetryInfo),
        (errors.WorkerLost("died"), error_details_pb2.RetryInfo),
        (errors.ModelNotFound("no", model="x"), error_details_pb2.ResourceInfo),
        (errors.LimitExceeded("big", limit_bytes=3), error_details_pb2.QuotaFailure),
        (errors.ModelNotReady("loading", model="x"), error_details_pb2.PreconditionFailure),
    ],
)
def test_errors_carry_the_standard_detail_of_their_kind(error, detail):
    status = to_rpc_status(error)
    assert any(packed.Is(detail.DESCRIPTOR) for packed in status.details)


def test_a_resource_is_named_by_type_and_name():
    packed = to_rpc_status(errors.ModelNotFound("no model 'x'", model="x")).details[1]
    info = error_details_pb2.ResourceInfo.FromString(packed.value)
    assert (info.resource_type, info.resource_name) == ("model", "x")


def test_a_thousand_violations_are_cut_with_a_count():
    many = [Violation("BAD_PARAM", f"graph.nodes[{i}].params.dim", "x" * 300) for i in range(1000)]
    error = errors.InvalidGraph(many)
    assert to_rpc_status(error).ByteSize() <= STATUS_BYTES
    back = travelled(error).violations
    assert back[:-1] == tuple(many[: len(back) - 1])
    assert back[-1].code == "MORE_VIOLATIONS"
    assert back[-1].message.startswith(f"{1000 - len(back) + 1} more violations do not fit")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_status_outgrows_the_headers_of_other_clients(cls):
    facts = {f"fact{i}": "é" * 5000 for i in range(100)}
    error = cls([], **facts) if issubclass(cls, errors.InvalidGraph) else cls("é" * 9000, **facts)
    assert to_rpc_status(error).ByteSize() <= STATUS_BYTES
    assert type(travelled(error)) is cls


def test_an_endless_message_is_cut_between_characters():
    assert travelled(errors.OpFailed("é" * 9000)).message == "é" * 598 + "..."


def test_a_message_that_is_no_unicode_still_travels():
    assert travelled(errors.OpFailed("bad \ud800 text")).message == "bad ? text"


def test_a_plugins_own_class_travels_as_its_nearest_ancestor():
    class SaeFailed(errors.OpFailed):
        reason = "SAE_FAILED"

    assert code_of(SaeFailed("x")) is grpc.StatusCode.INTERNAL
    assert type(travelled(SaeFailed("x", node=3))) is errors.Broken
    assert travelled(SaeFailed("x", node=3)).facts == {"node": "3"}


def _foreign(code, domain="interpd", retry_s=None):
    status = status_pb2.Status(code=code.value[0], message="m")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NEW_REASON", domain=domain))
    if retry_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(1000 * retry_s))
        status.details.add().Pack(retry)
    return RpcError(code, "m", ((DETAILS_KEY, status.SerializeToString()),))


@pytest.mark.parametrize("code", grpc.StatusCode, ids=lambda code: code.name)
def test_an_unknown_reason_becomes_the_class_of_its_code(code):
    back = from_rpc_error(_foreign(code))
    assert back.message == "m"
    assert type(back) is not errors.InternalError


def test_an_unknown_reason_that_may_be_tried_again_is_unavailable():
    back = from_rpc_error(_foreign(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_s=3))
    assert type(back) is errors.Unavailable
    assert back.retry_after_s == 3.0


def test_another_domains_reason_is_not_taken_for_ours():
    error = _foreign(grpc.StatusCode.NOT_FOUND, domain="googleapis.com")
    assert type(from_rpc_error(error)) is errors.NotFound


TOO_LARGE = "CLIENT: Received message larger than max (9 vs. 4)"


@pytest.mark.parametrize(
    ("code", "details", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, "Locally cancelled by application!", errors.Cancelled),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE, errors.LimitExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", errors.Overloaded),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", errors.FeatureUnsupported),
        (grpc.StatusCode.INTERNAL, "RST_STREAM", errors.Broken),
        (grpc.StatusCode.UNAUTHENTICATED, "", errors.NotAuthenticated),
        (grpc.StatusCode.UNKNOWN, "", InterpdError),
    ],
)
def test_what_grpc_itself_says_becomes_the_class_that_fits(code, details, cls):
    back = from_rpc_error(RpcError(code, details))
    assert type(back) is cls


@pytest.mark.parametrize("code", grpc.StatusCode, ids=lambda code: code.name)
def test_every_code_without_details_becomes_an_error(code):
    assert isinstance(from_rpc_error(RpcError(code, None, None)), InterpdError)


def test_damaged_details_count_as_none():
    error = RpcError(grpc.StatusCode.NOT_FOUND, "x", ((DETAILS_KEY, b"\xff\xff"),))
    assert type(from_rpc_error(error)) is errors.NotFound


def test_details_of_unknown_types_are_passed_over():
    status = to_rpc_status(errors.RunNotFound("no run 'x'"))
    status.details.insert(0, any_pb2.Any(type_url="type.googleapis.com/new.Detail", value=b"\xff"))
    error = RpcError(grpc.StatusCode.NOT_FOUND, "x", ((DETAILS_KEY, status.SerializeToString()),))
    assert type(from_rpc_error(error)) is errors.RunNotFound
