"""Calls in torch's manner turned into nodes of the one normal form: ports in ``inputs``, constants in ``params``.

bind(BUILTIN_OPS["torch.softmax"], (ref, -1), {}) == Node("torch.softmax", (ref,), {"dim": -1})
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from interpd.graph.builtin import BUILTIN_OPS, POSITIONAL
from interpd.graph.ir import Arg, Node, Steps
from interpd.graph.schema import OpSchema, ParamSchema, PortSchema


def bind(
    schema: OpSchema,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    invoke: int = 0,
    steps: Steps | None = None,
    label: str = "",
) -> Node:
    """The node of one call. Lists become tuples; trailing absent ports and params that are ``None`` are left out.

    Arguments are references and constants (``Arg``). Raises ``TypeError``, as Python does, for a call that does not
    fit the signature; kinds and ranges are the checker's business.
    """
    given = _placed(
        schema, _adapted(schema.name, [_frozen(arg) for arg in _with_list_index(schema.name, args)], kwargs)
    )
    for name, value in kwargs.items():
        if name in given:
            raise TypeError(f"{schema.name}() got {name!r} twice")
        given[name] = _frozen(value)
    _refuse_unknown(schema, given)
    inputs = [given.get(port.name) for port in schema.inputs]
    while inputs and inputs[-1] is None and schema.inputs[len(inputs) - 1].optional:
        inputs.pop()
    params = {p.name: given[p.name] for p in schema.params if given.get(p.name) is not None}
    return Node(schema.name, tuple(inputs), params, schema.version, invoke, steps, label)


def _with_list_index(name: str, args: Sequence[Any]) -> Sequence[Any]:
    """``x[[0, 2]]`` picks two places of one dimension, ``x[0, 2]`` one place of two."""
    if name in ("tensor.getitem", "tensor.setitem") and len(args) > 1 and isinstance(args[1], list):
        return [args[0], (args[1],), *args[2:]]
    return args


def _frozen(value: Any) -> Arg:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _adapted(name: str, args: list[Arg], kwargs: Mapping[str, Any]) -> list[Arg]:
    """The few calls whose positional arguments torch reads in more than one way."""
    if name == "torch.einsum" and len(args) > 1 and not (len(args) == 2 and isinstance(args[1], tuple)):
        return [args[0], tuple(args[1:])]
    if name == "torch.arange" and len(args) == 1:
        return [0, *args]
    is_sized = name in ("torch.zeros", "torch.ones") or (name in ("torch.rand", "torch.randn") and "seed" in kwargs)
    if is_sized and len(args) > 1 and all(type(size) is int for size in args):
        return [tuple(args)]
    return args


def _placed(schema: OpSchema, args: list[Arg]) -> dict[str, Arg]:
    """Positional arguments by name."""
    builtin = BUILTIN_OPS.get(schema.name) == schema
    names = POSITIONAL[schema.name] if builtin else tuple(port.name for port in schema.inputs)
    if len(args) > len(names):
        args = _with_sizes_gathered(schema, args, names)
    return dict(zip(names, args, strict=False))


def _with_sizes_gathered(schema: OpSchema, args: list[Arg], names: tuple[str, ...]) -> list[Arg]:
    """``reshape(x, 2, 3)`` as ``reshape(x, (2, 3))``."""
    last = next((param for param in schema.params if names and param.name == names[-1]), None)
    rest = tuple(args[len(names) - 1 :])
    if last is None or last.kind != "ints" or not all(type(item) is int for item in rest):
        raise TypeError(f"{signature_text(schema)} takes {len(names)} positional arguments, got {len(args)}")
    return [*args[: len(names) - 1], rest]


def _refuse_unknown(schema: OpSchema, given: Mapping[str, Arg]) -> None:
    known: dict[str, PortSchema | ParamSchema] = {item.name: item for item in (*schema.inputs, *schema.params)}
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{signature_text(schema)} has no argument {name!r}{hint}")
    for name, item in known.items():
        needed = item.required if isinstance(item, ParamSchema) else not item.optional
        if needed and name not in given:
            raise TypeError(f"{signature_text(schema)} needs {name!r}")


def signature_text(schema: OpSchema) -> str:
    """``torch.softmax(input, dim: int, dtype: dtype = None)``, for messages and listings."""
    ports = {port.name: port.name + ("?" if port.optional else "") for port in schema.inputs}
    params = {
        param.name: f"{param.name}: {param.kind}" + ("" if param.required else f" = {param.default!r}")
        for param in schema.params
    }
    if BUILTIN_OPS.get(schema.name) == schema:
        parts = [(ports | params)[name] for name in POSITIONAL[schema.name]]
    else:
        parts = [*ports.values(), *(("*", *params.values()) if params else ())]
    return f"{schema.name}({', '.join(parts)})"
