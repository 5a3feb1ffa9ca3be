"""Values made from a schema: seeded tensors for ports, and artifacts with random weights."""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from interpd.graph.schema import OpSchema, PortSchema
from interpd.graph.types import Dim, TensorType
from interpd.plugin.agreement import AxisSizes, dtype_of, is_open
from interpd.plugin.artifact import RegisteredArtifact
from interpd.plugin.op import RegisteredOp

ROW_AXIS = "batch"
POSITION_AXES = ("pos", "query_pos", "key_pos", "src_pos")

_KNOWN_SIZES = {"batch": 3, "pos": 5, "query_pos": 5, "key_pos": 5, "src_pos": 5, "d_model": 8}
_OTHER_SIZES = (7, 6, 4, 9, 11, 10, 13, 12)


class Sizes:
    """One size per axis word: all different, unless they are given.

    Args:
        given: Sizes to keep to.
        spread: The dimensions that an open end (``*batch``) stands for; one of rows when absent.
    """

    def __init__(self, given: Mapping[str, int], spread: tuple[int, ...] | None = None) -> None:
        self.bound = dict(given)
        self._spread = spread

    def of(self, dim: Dim) -> tuple[int, ...]:
        """The sizes that one declared dimension stands for: one, or those of an open end."""
        if dim.size is not None:
            return (dim.size,)
        if is_open(dim):
            rows = self.bound.get(ROW_AXIS, _KNOWN_SIZES[ROW_AXIS])
            return (rows,) if self._spread is None else self._spread
        taken = set(self.bound.values())
        free = next((size for size in _OTHER_SIZES if size not in taken), 14)
        return (self.bound.setdefault(dim.name, _KNOWN_SIZES.get(dim.name, free)),)

    def shape(self, declared: TensorType) -> tuple[int, ...]:
        """The shape of a value of the declared type."""
        return tuple(size for dim in declared.dims for size in self.of(dim))


@dataclasses.dataclass(frozen=True)
class Sample:
    """One call of an operation."""

    inputs: tuple[Any, ...]
    """One per port: a tensor, or a tuple of tensors."""
    params: Mapping[str, Any]
    sizes: Mapping[str, int]
    """Axis sizes that artifacts, and integer constants named like an axis, bind."""
    ports: tuple[str, ...] = ()
    """Their names, in the same order."""

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of everything that the operation must not change."""
        for name, value in zip(self.ports, self.inputs, strict=True):
            for part, tensor in enumerate(value if isinstance(value, tuple) else (value,)):
                if isinstance(tensor, Tensor):
                    yield f"port {name!r}[{part}]" if isinstance(value, tuple) else f"port {name!r}", tensor
        for name, value in self.params.items():
            if dataclasses.is_dataclass(value):
                for field in dataclasses.fields(value):
                    if isinstance(tensor := getattr(value, field.name), Tensor):
                        yield f"artifact {name!r}, field {field.name!r}", tensor

    def with_inputs(self, change: Callable[[Tensor], Tensor]) -> "Sample":
        """The sample with ``change`` applied to every tensor of a port."""

        def changed(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(changed, value))
            return change(value) if isinstance(value, Tensor) else value

        return dataclasses.replace(self, inputs=tuple(map(changed, self.inputs)))


class Sampler:
    """Makes samples of one operation."""

    def __init__(
        self, op: RegisteredOp, example: Mapping[str, Any], artifacts: Mapping[str, Any], kinds: Mapping[str, Any]
    ) -> None:
        self.schema: OpSchema = op.schema
        self._example = example
        self._artifacts = artifacts
        self._kinds: Mapping[str, RegisteredArtifact] = kinds

    def sample(
        self,
        seed: int = 0,
        *,
        dtype: torch.dtype = torch.float32,
        one: bool = False,
        sizes: Mapping[str, int] | None = None,
        spread: tuple[int, ...] | None = None,
    ) -> Sample:
        """Random inputs of the declared types.

        Args:
            seed: Equal seeds give equal samples.
            dtype: What ports and artifacts declared ``Float`` get.
            one: One row and one position.
            sizes: Axis sizes to keep to, those of a model for instance.
            spread: The dimensions that an open end stands for; one of rows when absent.
        """
        generator = torch.Generator().manual_seed(seed)
        chosen = Sizes(sizes or (dict.fromkeys((ROW_AXIS, *POSITION_AXES), 1) if one else {}), spread)
        chosen.bound.update(self._given_sizes())
        constants = self._constants()
        bound = {name: value for name, value in constants.items() if type(value) is int and name in self._axes()}
        chosen.bound.update(bound)
        artifacts = {param: self._artifact(kind, chosen, generator, dtype) for param, kind in self._artifact_params()}
        bound |= {name: size for value in artifacts.values() for name, size in artifact_sizes(value).items()}
        chosen.bound.update(bound)
        inputs = tuple(self._input(port, chosen, generator, dtype) for port in self.schema.inputs)
        return Sample(inputs, {**artifacts, **constants}, bound, tuple(port.name for port in self.schema.inputs))

    def _constants(self) -> dict[str, Any]:
        defaults = {param.name: param.default for param in self.schema.params if not param.required}
        return defaults | {key: value for key, value in self._example.items() if key not in self._port_names()}

    def _axes(self) -> set[str]:
        ports = (*self.schema.inputs, *self.schema.outputs)
        return {dim.name for port in ports if port.type is not None for dim in port.type.dims}

    def missing(self) -> list[str]:
        """Constants without a default that no example gives."""
        return [
            param.name
            for param in self.schema.params
            if param.required and not param.kind.startswith("artifact:") and param.name not in self._example
        ]

    def kinds(self) -> list[str]:
        """The kinds of artifacts that it takes and no example gives."""
        return [kind for _, kind in self._artifact_params() if kind in self._kinds]

    def artifact_axes(self) -> set[str]:
        """The axis words of the artifacts that it takes."""
        kinds = (param.kind.removeprefix("artifact:") for param in self.schema.params if ":" in param.kind)
        fields = (declared for kind in kinds if kind in self._kinds for _, declared in self._kinds[kind].schema.fields)
        return {dim.name for declared in fields for dim in declared.dims}

    def gives_an_open_end(self) -> bool:
        """Whether an example gives a tensor for a port with an open end."""
        return any(port.name in self._example and open_end(port) is not None for port in self.schema.inputs)

    def _port_names(self) -> set[str]:
        return {port.name for port in self.schema.inputs}

    def _given_sizes(self) -> dict[str, int]:
        """The axis sizes that the example's own tensors bind."""
        axes = AxisSizes()
        for port in self.schema.inputs:
            value = self._example.get(port.name)
            if isinstance(value, Tensor) and port.type is not None:
                axes.bind(port.name, port.type, dtype_of(value), value.shape)
        return axes.sizes

    def _artifact_params(self) -> Iterator[tuple[str, str]]:
        for param in self.schema.params:
            kind = param.kind.removeprefix("artifact:")
            if kind != param.kind and param.required and param.name not in self._example:
                yield param.name, kind

    def _artifact(self, kind: str, sizes: Sizes, generator: torch.Generator, dtype: torch.dtype) -> Any:
        if kind in self._artifacts:
            return cast_artifact(self._artifacts[kind], dtype)
        return random_artifact(self._kinds[kind], sizes, generator, dtype)

    def _input(self, port: PortSchema, sizes: Sizes, generator: torch.Generator, dtype: torch.dtype) -> Any:
        declared = typing.cast(TensorType, port.type)
        if port.name in self._example:
            value = self._example[port.name]
            is_cast = isinstance(value, Tensor) and value.is_floating_point() and declared.dtype in ("float", "any")
            return value.to(dtype) if is_cast else value
        made = [random_tensor(declared, sizes, generator, dtype) for _ in range(2 if port.variadic else 1)]
        return tuple(made) if port.variadic else made[0]


def random_tensor(declared: TensorType, sizes: Sizes, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """A tensor of the declared type; integers are valid indices into every axis."""
    shape = sizes.shape(declared)
    if declared.dtype in ("float", "any"):
        return torch.randn(shape, generator=generator).to(dtype)
    if declared.dtype.startswith(("float", "bfloat")):
        return torch.randn(shape, generator=generator).to(getattr(torch, declared.dtype))
    if declared.dtype == "bool":
        return torch.rand(shape, generator=generator) < 0.5
    high = max(1, min(sizes.bound.values(), default=2))
    kind = torch.int64 if declared.dtype == "int" else getattr(torch, declared.dtype)
    return torch.randint(0, high, shape, generator=generator).to(kind)


def open_end(port: PortSchema) -> int | None:
    """Which dimension of a port stands for any number of them (``*batch``)."""
    return next((index for index, dim in enumerate(port.type.dims if port.type else ()) if is_open(dim)), None)


def without_default(kind: RegisteredArtifact) -> list[str]:
    """The metadata of an artifact kind that only an author can choose."""
    tensors = dict(kind.schema.fields)
    return [
        field.name
        for field in dataclasses.fields(kind.cls)
        if field.name not in tensors
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]


def random_artifact(kind: RegisteredArtifact, sizes: Sizes, generator: torch.Generator, dtype: torch.dtype) -> Any:
    """An instance of an artifact class with random weights and the defaults of its metadata."""
    tensors = {name: random_tensor(declared, sizes, generator, dtype) for name, declared in kind.schema.fields}
    return kind.cls(**tensors)


def cast_artifact(instance: Any, dtype: torch.dtype) -> Any:
    """The artifact as the engine places it beside a model of that dtype: what is declared ``Float`` in ``dtype``."""
    floating = [name for name, declared in type(instance).schema.fields if declared.dtype == "float"]
    tensors = {name: value for name in floating if (value := getattr(instance, name)) is not None}
    return dataclasses.replace(instance, **{name: value.to(dtype) for name, value in tensors.items()})


def artifact_sizes(instance: Any) -> dict[str, int]:
    """The axis sizes that an artifact's tensors bind."""
    axes = AxisSizes()
    for name, declared in type(instance).schema.fields:
        if (value := getattr(instance, name)) is not None:
            axes.bind(name, declared, dtype_of(value), value.shape)
    return axes.sizes
