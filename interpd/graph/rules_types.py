"""Rules about types: what flows along each reference, in the prompt's pass and in the steps after it."""

from collections.abc import Hashable, Iterator
from math import prod
from typing import Any

from interpd.errors import Violation
from interpd.graph.dims import Call, Refusal, Scope
from interpd.graph.ir import Arg, Blob, Dots, Node, Ref, Slice
from interpd.graph.schema import OpSchema
from interpd.graph.shapes import output_types
from interpd.graph.subject import Subject, Types
from interpd.graph.types import Dim, TensorData, TensorType

MOST_DIMS = 32
"""Dimensions of a value: numpy, in which clients receive it, has no more."""

MOST_ELEMENTS = (1 << 63) - 1
"""Elements of a value: what torch can count."""

_PLAIN = frozenset((int, float, bool, str, type(None), Slice, Dots))
"""Constants that say by their value all that there is to say."""

ONE_POSITION = (
    "; from step 1 on there is one position, that of the new token: let this act at step 0 only, in Python "
    "by putting it under `with g.at(0):`"
)
"""What to do about a position of the prompt that is named at every step."""


def mismatches(subject: Subject) -> Iterator[Violation]:
    """Values that do not fit where they are used. Fills ``types`` and, for generations, ``decode_types``."""
    yield from _typed(subject, Scope(subject.manifest, subject.lengths), subject.types)
    if subject.n_steps > 1:
        yield from _typed(subject, Scope(subject.manifest, subject.lengths, decoding=True), subject.decode_types)


def _typed(subject: Subject, scope: Scope, types: list[Types]) -> Iterator[Violation]:
    defaults: dict[str, dict[str, Any]] = {}
    known: dict[Hashable, Types] = {}
    # equal types are one object, so that calls with equal types are found to be known
    one: dict[TensorType, TensorType] = {}
    refs = subject.refs
    for index, node in enumerate(subject.graph.nodes):
        if index in subject.bad or None in [types[ref.node] for ref in refs[index]]:
            types.append(None)
            continue
        schema = subject.manifest.ops[node.op]
        key = _key(node, schema, types)
        if key is not None and key in known:
            types.append(known[key])
            continue
        params = defaults.get(node.op)
        if params is None:
            params = defaults[node.op] = {param.name: param.default for param in schema.params}
        call = Call(
            [_value(arg, types) for arg in node.inputs],
            {**params, **node.params} if node.params else params,
            node,
            scope,
        )
        try:
            out = output_types(schema, call, subject.manifest)
            _refuse_huge(out, subject.manifest.limits.live_bytes)
            out = tuple([one.setdefault(kind, kind) for kind in out])
            types.append(out)
            known[key] = out
        except Refusal as refusal:
            types.append(None)
            sentence = _sentence(subject, index, schema, refusal)
            if scope.decoding and refusal.code == "POSITION_OUT_OF_RANGE":
                sentence += ONE_POSITION
            yield subject.fault(refusal.code, index, refusal.where, sentence)


def _refuse_huge(out: tuple[TensorType, ...], most_bytes: int) -> None:
    """Raises ``Refusal`` at the first value that no device could hold, before its sizes are multiplied on and on."""
    for kind in out:
        if len(kind.dims) > MOST_DIMS:
            raise Refusal(f"gives more than {MOST_DIMS} dimensions", code="LIMIT")
        # an empty dimension beside them would let the others grow for ever
        n_elements = prod([dim.size or 1 for dim in kind.dims])
        if n_elements > MOST_ELEMENTS or (kind.n_bytes or 0) > most_bytes:
            raise Refusal(f"gives {kind}, at most {most_bytes} bytes of values may be alive at once", code="LIMIT")


def _key(node: Node, schema: OpSchema, types: list[Types]) -> Hashable | None:
    """What the types of a node depend on, so that a call that was seen before need not be looked at again.

    ``None`` where that is not worth knowing: plugins' operations, and constants other than plain ones. Types are told
    apart by identity; they live as long as the list.
    """
    if not schema.shape_rule:
        return None
    key: list[object] = [node.op, node.invoke, node.steps]
    for arg in node.inputs:
        kind = type(arg)
        if kind is Ref:
            key.append(id(types[arg.node][arg.output]))  # type: ignore[index]  # nodes that use an untyped one are skipped
        elif kind in _PLAIN:
            key += (kind, arg)
        elif kind is tuple and _PLAIN.issuperset(map(type, arg)):
            key += (*map(type, arg), arg)
        else:
            return None
    for name, value in node.params.items():
        kind = type(value)
        if kind not in _PLAIN:
            return None
        key += (name, kind, value)
    return tuple(key)


def _value(arg: Arg, types: list[Types]) -> Any:
    """What a rule sees of an argument."""
    if isinstance(arg, Ref):
        out = types[arg.node]
        assert out is not None, "nodes that use an untyped one are skipped"
        return out[arg.output]
    if isinstance(arg, TensorData):
        return arg.type
    if isinstance(arg, Blob):
        return TensorType(arg.dtype, tuple(Dim("", size) for size in arg.shape))
    if isinstance(arg, tuple):
        return tuple(_value(item, types) for item in arg)
    return arg


def _sentence(subject: Subject, index: int, schema: OpSchema, refusal: Refusal) -> str:
    """``node 'feat' (sae.encode@1): port 'resid' wants ..., got ... from node 'acts'``."""
    kind, _, rest = refusal.where.replace("[", ".").partition(".")
    name, source = "", ""
    if kind == "inputs":
        place, *deeper = (int(part.rstrip("]")) for part in refusal.where.split("[")[1:])
        name = f"port {schema.inputs[place].name!r} "
        inputs = subject.graph.nodes[index].inputs
        arg = inputs[place] if place < len(inputs) else None
        if deeper and isinstance(arg, tuple):
            # the parts of an index are counted after "..." was written out, so they cannot be looked up
            arg = arg[deeper[0]] if schema.inputs[place].variadic else None
        if isinstance(arg, Ref):
            source = f" from {subject.name(arg.node)}"
    elif kind == "params":
        name = f"param {rest!r} "
    return f"{subject.name(index)} ({schema.name}@{schema.version}): {name}{_joined(refusal.message, source)}"


def _joined(message: str, source: str) -> str:
    """The message with the source of the value put before its advice."""
    head, colon, advice = message.partition(": ")
    return f"{head}{source}{colon}{advice}"
