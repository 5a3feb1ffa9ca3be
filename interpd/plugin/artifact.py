"""``@artifact``: a frozen dataclass of tensors becomes a kind of named resource, kept as safetensors.

Keys of the file are names of fields; fields of type ``str``, ``int``, ``float`` or ``bool`` go into the file's
metadata. A file that a stranger uploaded is compared with the declaration by its header alone, before one tensor of
it is read.
"""

import dataclasses
import inspect
import json
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from interpd.errors import InvalidRequest
from interpd.graph.schema import ArtifactSchema
from interpd.graph.types import TensorType
from interpd.plugin import annotations
from interpd.plugin.agreement import AxisSizes
from interpd.plugin.declaration import DeclarationError, refuse, summary

Cls = TypeVar("Cls", bound=type)

_METADATA_TYPES = (str, int, float, bool)
_OR_METADATA = ", or a str, int, float or bool, which go into the file's metadata"
_FILE_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclasses.dataclass(frozen=True, slots=True)
class RegisteredArtifact:
    """A kind of artifact as the engine keeps it."""

    schema: ArtifactSchema
    cls: type

    def load(self, path: str | Path, *, device: Any = "cpu", dtype: Any = None) -> Any:
        """An instance from the file at ``path``: see ``load_artifact``."""
        return load_artifact(self.cls, path, device=device, dtype=dtype)

    def save(self, instance: object, path: str | Path) -> None:
        """Writes ``instance`` to ``path``."""
        save_artifact(instance, path)

    def dims(self, path: str | Path, *, where: str = "") -> dict[str, int]:
        """The axis sizes that the file's tensors bind (``d_sae``: 24576), from its header.

        ``where``: what messages call the file. Raises ``InvalidRequest`` as ``load_artifact`` does.
        """
        return _read_header(self.cls, Path(path), where).sizes


def artifact(kind: str) -> Callable[[Cls], Cls]:
    """A decorator that declares a frozen dataclass of jaxtyping-annotated tensors as the artifact kind ``kind``.

    Operations take it as a keyword-only parameter annotated with the class; graphs name an artifact of that kind by
    a string. Fields annotated ``Float[Tensor, "..."] | None = None`` may be absent from the file.

    Raises:
        DeclarationError: The class cannot be an artifact; the message lists all reasons.
    """
    if isinstance(kind, type):
        raise DeclarationError(
            f'@artifact without a kind on class {kind.__name__}; write @artifact("{kind.__name__.lower()}")'
        )

    def declare(cls: Cls) -> Cls:
        problems = [] if kind.isidentifier() and kind == kind.lower() else ["the kind is not a lower-case word"]
        fields = _declared_fields(cls, problems)
        if problems:
            raise refuse("artifact", kind, cls, problems)
        cls.schema = ArtifactSchema(kind, "interpd", tuple(fields.items()), summary(cls))  # type: ignore[attr-defined]
        return cls

    return declare


def _declared_fields(cls: type, problems: list[str]) -> dict[str, TensorType]:
    if not annotations.is_frozen_dataclass(cls):
        problems.append("is not a frozen dataclass; put @dataclass(frozen=True) under @artifact")
        return {}
    hints = typing.get_type_hints(cls)
    fields: dict[str, TensorType] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        default = None if field.default is None else inspect.Parameter.empty
        if field.name == "schema":
            problems.append("field 'schema' hides the declaration; give it another name")
        elif hint in _METADATA_TYPES:
            continue
        else:
            try:
                fields[field.name] = annotations.port(field.name, hint, default).type  # type: ignore[assignment]
            except annotations.BadAnnotation as error:
                other = "" if any(map(annotations.is_tensor, (hint, *typing.get_args(hint)))) else _OR_METADATA
                problems.append(f"field {field.name!r}: {error}{other}")
    if not fields and not problems:
        problems.append('has no tensor; write for instance w_enc: Float[Tensor, "d_model d_sae"]')
    return fields


def load_artifact(cls: type, path: str | Path, *, device: Any = "cpu", dtype: Any = None) -> Any:
    """An instance of ``cls`` from the safetensors file at ``path``.

    Args:
        cls: A class marked ``@artifact``.
        path: The file.
        device: Where its tensors go (a ``torch.device`` or its name).
        dtype: A ``torch.dtype`` that tensors of fields declared ``Float`` are cast to; ``None``: as they are in the
            file. Those of fields with a dtype of their own (``Float32``, ``Float64``) keep it.

    Raises:
        InvalidRequest: Not a safetensors file, or its keys, dtypes or shapes are not those of ``cls``.
    """
    header = _read_header(cls, Path(path))
    from safetensors import safe_open

    values: dict[str, Any] = dict(header.metadata)
    cast = {name for name, declared in _schema(cls).fields if declared.dtype == "float"} if dtype is not None else ()
    with safe_open(str(path), framework="pt", device=str(device)) as file:
        for name in header.keys:
            tensor = file.get_tensor(name)
            values[name] = tensor.to(dtype) if name in cast else tensor
    return cls(**values)


def save_artifact(instance: object, path: str | Path) -> None:
    """Writes an instance of a class marked ``@artifact`` to a safetensors file at ``path``.

    Raises:
        InvalidRequest: Its tensors do not have the declared shapes or dtypes.
    """
    from safetensors.torch import save_file

    cls = type(instance)
    fields = dict(_schema(cls).fields)
    present = {name: value for name in fields if (value := getattr(instance, name)) is not None}
    described = {name: (str(value.dtype).removeprefix("torch."), tuple(value.shape)) for name, value in present.items()}
    metadata = {name: getattr(instance, name) for name in _metadata_fields(cls)}
    _compared(cls, f"a {cls.__name__}", described)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in present.items()},
        str(path),
        metadata={"interpd_kind": _schema(cls).kind, **{key: json.dumps(value) for key, value in metadata.items()}},
    )


class _Header(NamedTuple):
    keys: tuple[str, ...]
    metadata: dict[str, object]
    sizes: dict[str, int]


def _schema(cls: type) -> ArtifactSchema:
    return cls.schema  # type: ignore[attr-defined]


def _metadata_fields(cls: type) -> Iterator[str]:
    tensors = dict(_schema(cls).fields)
    return (field.name for field in dataclasses.fields(cls) if field.name not in tensors)


def _read_header(cls: type, path: Path, where: str = "") -> _Header:
    from safetensors import SafetensorError, safe_open

    where = where or f"file {path.name!r}"
    try:
        with safe_open(str(path), framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118, the file is no mapping
            described = {
                key: (_FILE_DTYPES.get(piece.get_dtype(), piece.get_dtype()), tuple(piece.get_shape()))
                for key, piece in slices.items()
            }
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InvalidRequest(f"{where} is not a readable safetensors file: {error}") from error
    sizes = _compared(cls, where, described)
    return _Header(tuple(described), _parsed_metadata(cls, where, metadata), sizes)


def _compared(cls: type, where: str, described: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, int]:
    """The axis sizes that the tensors bind. Raises ``InvalidRequest`` with everything that disagrees."""
    schema = _schema(cls)
    declared = dict(schema.fields)
    optional = {field.name for field in dataclasses.fields(cls) if field.default is None}
    problems = [f"missing {name!r} ({declared[name]})" for name in declared if name not in {*described, *optional}]
    problems += [f"{name!r} is not a field; fields are {', '.join(declared)}" for name in described.keys() - declared]
    axes = AxisSizes()
    for name, (dtype, shape) in described.items():
        if name in declared and (problem := axes.bind(repr(name), declared[name], dtype, shape)):
            problems.append(problem)
    if problems:
        raise InvalidRequest(f"{where} is no artifact of kind {schema.kind!r}: " + "; ".join(sorted(problems)))
    return axes.sizes


def _parsed_metadata(cls: type, where: str, metadata: dict[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    hints = typing.get_type_hints(cls)
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    for name in _metadata_fields(cls):
        if name not in metadata and defaults[name] is not dataclasses.MISSING:
            continue
        try:
            value = json.loads(metadata[name])
        except (KeyError, json.JSONDecodeError):
            value = metadata.get(name)  # files written by other tools hold plain strings
        if type(value) is not hints[name]:
            kind = _schema(cls).kind
            expected = f"metadata {name!r} as {hints[name].__name__}"
            raise InvalidRequest(f"{where} is no artifact of kind {kind!r}: wants {expected}, got {value!r}")
        values[name] = value
    return values
