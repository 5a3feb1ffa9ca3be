"""Types of plugin operations and methods: the axis words of their ports are bound and unified.

``float[*batch d_model] -> float[*batch d_sae]``: a word that occurs twice means one size, and the artifact named by
a param binds the words of its own tensors. ``*word`` covers any number of leading dimensions, ``...`` too.
"""

from dataclasses import dataclass, field

from interpd.graph.dims import Call, Refusal, Value, same_size
from interpd.graph.promotion import FLOATS, INTS
from interpd.graph.schema import Manifest, OpSchema, PortSchema
from interpd.graph.types import Dim, TensorType

SOURCE = "src_pos"
_POSITIONS = ("pos", "query_pos", "key_pos")
_FAMILIES = {"float": FLOATS, "int": INTS}


@dataclass(slots=True)
class _Words:
    """Axis words bound so far."""

    sizes: dict[str, int | None] = field(default_factory=dict)
    groups: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    of_source: set[str] = field(default_factory=set)
    """Words of positions that were bound to those of an encoder: outputs say so."""
    floating: str | None = None
    first: str | None = None
    family: tuple[str, str] | None = None
    """(dtype, whose it is) that every port declared ``Float`` has to have."""


def bind_words(schema: OpSchema, call: Call, manifest: Manifest) -> tuple[TensorType, ...]:
    """The types of the outputs, once all ports agree."""
    words = _Words(_given_sizes(schema, call, manifest), family=_artifact_dtype(schema, call, manifest))
    for index, port in enumerate(schema.inputs):
        value = call.inputs[index] if index < len(call.inputs) else None
        for number, item in enumerate(value if port.variadic and isinstance(value, tuple) else (value,)):
            where = f"inputs[{index}][{number}]" if port.variadic else f"inputs[{index}]"
            if item is not None:
                _bind_port(words, port, item, where)
    return tuple(_output(words, port, manifest) for port in schema.outputs)


def _given_sizes(schema: OpSchema, call: Call, manifest: Manifest) -> dict[str, int | None]:
    """Words bound before any port: by artifacts, and by integer params of the same name."""
    sizes: dict[str, int | None] = {}
    for param in schema.params:
        value = call.params[param.name]
        if param.kind.startswith("artifact:") and value is not None:
            sizes.update(manifest.artifacts[value].dims)
        elif param.kind == "int" and value is not None:
            sizes[param.name] = value
    return sizes


def _artifact_dtype(schema: OpSchema, call: Call, manifest: Manifest) -> tuple[str, str] | None:
    """Artifacts are loaded in the model's dtype."""
    names = (p.name for p in schema.params if p.kind.startswith("artifact:") and call.params[p.name] is not None)
    return next(((manifest.model.dtype, f"artifact {name!r}") for name in names), None)


def _bind_port(words: _Words, port: PortSchema, value: Value, where: str) -> None:
    if not isinstance(value, TensorType):
        if port.allows_const:
            return
        raise Refusal(f"wants {_wanted(port, words.sizes)}, got {value!r}", where)
    if port.type is None:
        return
    wanted = _wanted(port, words.sizes)
    if not _dtype_fits(value.dtype, port.type.dtype) or not _bind_dims(words, port.type.dims, value.dims):
        raise Refusal(f"wants {wanted}, got {value}", where)
    if port.type.dtype == "float" and value.dtype in FLOATS:
        dtype, whose = words.family = words.family or (value.dtype, f"port {port.name!r}")
        if value.dtype != dtype:
            # torch would promote one function and refuse the next; nobody's numbers are rounded unasked
            raise Refusal(f"is {value}, but {whose} is {dtype}: cast one, for instance .to({dtype!r})", where)
    words.first = words.first or value.dtype
    if value.dtype in FLOATS:
        words.floating = words.floating or value.dtype


def _wanted(port: PortSchema, sizes: dict[str, int | None]) -> str:
    if port.type is None:
        return "a value"
    dims = []
    for dim in port.type.dims:
        size = dim.size if dim.size is not None else sizes.get(dim.name)
        dims.append((dim.name or "_") if size is None else f"{dim.name}={size}" if dim.name else str(size))
    return f"{port.type.dtype}[{' '.join(dims)}]"


def _dtype_fits(given: str, wanted: str) -> bool:
    return (
        "any" in (given, wanted)
        or given == wanted
        or given in _FAMILIES.get(wanted, ())
        or wanted in _FAMILIES.get(given, ())
    )


def _is_group(dim: Dim) -> bool:
    return dim.name.startswith("*") or dim.name == "..."


def _bind_dims(words: _Words, wanted: tuple[Dim, ...], given: tuple[Dim, ...]) -> bool:
    group = next((i for i, dim in enumerate(wanted) if _is_group(dim)), None)
    if group is None:
        pairs = zip(wanted, given, strict=False)
        return len(wanted) == len(given) and all(_bind_dim(words, a, b) for a, b in pairs)
    n_covered = len(given) - len(wanted) + 1
    if n_covered < 0:
        return False
    covered = given[group : group + n_covered]
    known = words.groups.setdefault(wanted[group].name, covered)
    if wanted[group].name != "..." and (
        len(known) != len(covered) or not all(same_size(a.size, b.size) for a, b in zip(known, covered, strict=True))
    ):
        return False
    single = (*wanted[:group], *wanted[group + 1 :])
    rest = (*given[:group], *given[group + n_covered :])
    return all(_bind_dim(words, a, b) for a, b in zip(single, rest, strict=True))


def _bind_dim(words: _Words, wanted: Dim, given: Dim) -> bool:
    if wanted.size is not None and not same_size(wanted.size, given.size):
        return False
    if wanted.name in ("", "_"):
        return True
    bound = words.sizes.get(wanted.name)
    if not same_size(bound, given.size):
        return False
    words.sizes[wanted.name] = given.size if bound is None else bound
    if given.name == SOURCE and wanted.name in _POSITIONS:
        words.of_source.add(wanted.name)
    return True


def _output(words: _Words, port: PortSchema, manifest: Manifest) -> TensorType:
    if port.type is None:
        return TensorType("any")
    dims: list[Dim] = []
    for dim in port.type.dims:
        if _is_group(dim):
            dims.extend(words.groups.get(dim.name, ()))
        elif dim.size is not None:
            dims.append(dim)
        else:
            name = "" if dim.name == "_" else dim.name
            size = words.sizes.get(name)
            name = SOURCE if name in words.of_source else name
            dims.append(Dim(name, manifest.model.sizes.get(name) if size is None else size))
    return TensorType(_output_dtype(words, port.type.dtype, manifest), tuple(dims))


def _output_dtype(words: _Words, dtype: str, manifest: Manifest) -> str:
    if dtype == "float":
        return words.floating or manifest.model.dtype
    if dtype == "int":
        return "int64"
    return words.first or "any" if dtype == "any" else dtype
