"""Every field, value and method of the protocol as text. ``python tests/golden/proto_descriptor.py`` writes the golden.

Only additions are compatible: a line that changes or goes breaks every client in use.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

GOLDEN = Path(__file__).with_suffix(".txt")
STUBS = Path(__file__).resolve().parents[2] / "interpd" / "wire" / "v1"


def files() -> list[FileDescriptor]:
    """The descriptors of all protos, by name."""
    names = sorted(path.stem for path in STUBS.glob("*_pb2.py"))
    return [importlib.import_module(f"interpd.wire.v1.{name}").DESCRIPTOR for name in names]


def describe() -> str:
    """One line per field, enum value and method."""
    return "\n".join([line for file in files() for line in _file(file)]) + "\n"


def _file(file: FileDescriptor) -> Iterator[str]:
    for enum in file.enum_types_by_name.values():
        for value in enum.values:
            yield f"{enum.full_name}.{value.name} = {value.number}"
    for message in file.message_types_by_name.values():
        yield from _message(message)
    for service in file.services_by_name.values():
        for method in service.methods:
            asked = f"{'stream ' * method.client_streaming}{method.input_type.full_name}"
            answer = f"{'stream ' * method.server_streaming}{method.output_type.full_name}"
            yield f"{method.full_name}({asked}) -> {answer}"


def _message(message: Descriptor) -> Iterator[str]:
    if not message.fields:
        yield f"{message.full_name} (empty)"
    for field in message.fields:
        yield f"{message.full_name}.{field.name} = {field.number}: {_kind(field)}"


def _kind(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    oneof = field.containing_oneof
    words = [
        "repeated" if field.is_repeated else "",
        "optional" if oneof and oneof.name.startswith("_") else f"oneof {oneof.name}" if oneof else "",
        named.full_name if named else _SCALARS[field.type],
    ]
    return " ".join(filter(None, words))


_SCALARS = {
    number: name.removeprefix("TYPE_").lower() for name, number in vars(FieldDescriptor).items() if name[:5] == "TYPE_"
}

if __name__ == "__main__":
    GOLDEN.write_text(describe())
