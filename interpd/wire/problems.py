"""What is wrong with a message that came over the wire, every problem with its path.

Decoders report here and go on with a placeholder, so that one answer lists everything. A problem inside the graph is
the graph's (``InvalidGraph``); any other makes the whole request malformed (``InvalidRequest``).
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from interpd.errors import DataLoss, InvalidGraph, InvalidRequest, LimitExceeded, Violation
from interpd.wire.parts import LOOKED_AT_BYTES, MOST_PARTS, crowded_field

MALFORMED = "MALFORMED"
"""The violation code of all that a decoder refuses."""

MAX_PROBLEMS = 200
"""Problems that are kept; the rest is counted."""

MOST_ARGUMENTS = MOST_PARTS // 2
"""Of a graph, as it is read; the checker, which knows the limits, allows fewer."""

NAME_CHARACTERS = 256
"""Longest name of an operation, parameter, output, label or model."""

_M = TypeVar("_M", bound=Message)


class Problems:
    """Collects problems; ``raise_if_any`` ends the decoding."""

    def __init__(self) -> None:
        self._found: list[Violation] = []
        self._n_dropped = 0
        self._n_arguments = 0

    def add(self, path: str, message: str) -> None:
        """Notes that what stands at ``path`` cannot be used."""
        if len(self._found) < MAX_PROBLEMS:
            self._found.append(Violation(MALFORMED, path, message))
        else:
            self._n_dropped += 1

    def count_arguments(self, n: int) -> None:
        """Notes that ``n`` more arguments are about to be read. Raises ``LimitExceeded`` for too many in all."""
        self._n_arguments += n
        if self._n_arguments > MOST_ARGUMENTS:
            raise LimitExceeded(
                f"graph.nodes: more than {MOST_ARGUMENTS} arguments of all nodes: send less at once", path="graph.nodes"
            )

    def raise_if_any(self) -> None:
        """Raises ``InvalidGraph`` when every problem lies in the graph, ``InvalidRequest`` when one does not."""
        if not self._found:
            return
        found = list(self._found)
        if self._n_dropped:
            found.append(Violation(MALFORMED, found[-1].path, f"{self._n_dropped} more problems follow"))
        if all(violation.path.split(".")[0] == "graph" for violation in found):
            raise InvalidGraph(found)
        raise InvalidRequest(_listed(found), fields=", ".join(v.path for v in found[:20]))

    def raise_as_data_loss(self, what: str) -> None:
        """Raises ``DataLoss`` when anything was found: the message came from the service, not from a caller."""
        if self._found:
            raise DataLoss(f"{what} cannot be read: {_listed(self._found)}")


def _listed(found: Iterable[Violation]) -> str:
    lines = [f"{violation.path}: {violation.message}" for violation in found]
    if len(lines) == 1:
        return f"malformed request: {lines[0]}"
    return "\n  ".join([f"malformed request, {len(lines)} problems:", *lines])


def parse(cls: type[_M], data: bytes) -> _M:
    """The message in ``data``. Raises ``InvalidRequest`` for bytes that are none: gRPC itself would say UNKNOWN.

    Raises ``LimitExceeded`` for one that would take far more memory than its bytes.
    """
    crowded = crowded_field(cls.DESCRIPTOR, data) if len(data) > LOOKED_AT_BYTES else ""
    if crowded:
        name = cls.DESCRIPTOR.name
        text = f"a {name} of {len(data)} bytes has more than {MOST_PARTS} parts, seen at {crowded}: send less at once"
        raise LimitExceeded(text, message_type=cls.DESCRIPTOR.full_name)
    try:
        return cls.FromString(data)
    except DecodeError as error:
        name = cls.DESCRIPTOR.full_name
        raise InvalidRequest(f"the {len(data)} bytes sent are no readable {name}: {error}", message_type=name) from None


def build(cls: type[_M], problems: Problems, path: str, **fields: Any) -> _M:
    """The message with these fields; an empty one, and a problem for each value that does not fit its field."""
    try:
        return cls(**fields)
    except (TypeError, ValueError):
        for name, value in fields.items():
            _try_field(cls, problems, f"{path}.{name}" if path else name, name, value)
        return cls()


def _try_field(cls: type[Message], problems: Problems, path: str, name: str, value: object) -> None:
    try:
        cls(**{name: value})
    except (TypeError, ValueError) as error:
        problems.add(path, f"cannot be sent: {error}")


def checked_name(name: str, path: str, problems: Problems) -> str:
    """``name``, reported unless it is 1 to 256 printable characters."""
    if not name:
        problems.add(path, "a name is needed, got an empty text")
    elif len(name) > NAME_CHARACTERS:
        problems.add(path, f"a name has at most {NAME_CHARACTERS} characters, got {len(name)}")
    elif not name.isprintable():
        problems.add(path, f"a name has printable characters only, got {name!r}")
    return name
