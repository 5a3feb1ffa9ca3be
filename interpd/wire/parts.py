"""Whether a message has too many parts, told from its bytes: megabytes of empty messages take a gigabyte once read.

The bytes are walked by the rules of the wire format only as far as it takes to know that there are too many. Short
messages are not looked into, but counted by their length.
"""

from collections.abc import Mapping
from functools import cache

from google.protobuf.descriptor import Descriptor

LOOKED_AT_BYTES = 256 << 10
"""Messages up to this length are read whatever they hold."""

MOST_PARTS = 200_000
"""Fields of a message and of all messages in it. A graph of the largest size has half as many."""

SHORT_BYTES = 64
"""A message in a message up to this length counts by its length."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def crowded_field(kind: Descriptor, data: bytes, most: int = MOST_PARTS) -> str:
    """The field at which ``data`` has more than ``most`` parts (``Graph.nodes``); empty: it has not.

    ``data`` may or may not be a message of this kind.
    """
    try:
        return _walk(kind, data, most)
    except IndexError:
        return ""  # it ends in the middle of a field; whoever reads it says so


def _walk(kind: Descriptor, data: bytes, most: int) -> str:
    n = 0
    todo = [(0, len(data), kind)]
    while todo:
        at, end, kind = todo.pop()
        messages = _messages(kind)
        while at < end:
            tag, at = (data[at], at + 1) if data[at] < 128 else _varint(data, at)
            n += 1
            if n > most:
                return f"{kind.name}.{_field_name(kind, tag >> 3)}"
            form = tag & 7
            if form == _VARINT:
                while data[at] > 127:
                    at += 1
                at += 1
            elif form == _BYTES:
                size, at = (data[at], at + 1) if data[at] < 128 else _varint(data, at)
                inner = messages.get(tag >> 3)
                if inner is not None and size > SHORT_BYTES:
                    todo.append((at, min(at + size, end), inner))
                elif inner is not None:
                    n += size // 8
                at += size
            elif form in (_FIXED64, _FIXED32):
                at += 8 if form == _FIXED64 else 4
    return ""


def _field_name(kind: Descriptor, number: int) -> str:
    field = kind.fields_by_number.get(number)
    return str(number) if field is None else field.name


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends)."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7


@cache
def _messages(kind: Descriptor) -> Mapping[int, Descriptor]:
    """The fields that hold messages, by number."""
    return {field.number: field.message_type for field in kind.fields if field.message_type is not None}
