"""Operation schemas from one line of text, so that a hundred built-in operations read as a table.

    torch.layer_norm(input, normalized_shape: ints, weight?, bias?, eps: float = 1e-05) -> out

A name without a kind is a port: ``x`` takes a value, ``x#`` also a number, ``x?`` may be absent, ``x*`` takes a tuple
of values, ``x@`` an index. A name with a kind is a constant: a kind of ``CONST_KINDS``, or ``literal['a', 'b']``.
The order is torch's, so that ``bind`` can accept arguments in the positions in which torch accepts them.
"""

import ast
import re
from dataclasses import dataclass

from interpd.graph.schema import OpSchema, ParamSchema, PortSchema

_SIGNATURE = re.compile(r"(?P<name>[\w.]+)\((?P<args>.*)\)(?: -> (?P<outputs>[\w, ]+))?$")
_ARGUMENT = re.compile(
    r"(?P<name>\w+)(?:(?P<mark>[#?*@]*)|: (?P<kind>\w+)(?P<choices>\[[^\]]*\])?(?: = (?P<default>.+))?)$"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """A parsed line."""

    schema: OpSchema
    positional: tuple[str, ...]
    """Names of ports and params in the order in which positional arguments fill them."""


def parse_signature(
    text: str, *, rule: str, summary: str, rows_mix: bool = False, differentiable: bool = True
) -> Signature:
    """The schema of a built-in operation. A malformed line is a bug: it raises ``ValueError`` at import."""
    match = _SIGNATURE.match(text)
    if match is None:
        raise ValueError(f"not a signature: {text!r}")
    ports: list[PortSchema] = []
    params: list[ParamSchema] = []
    for part in _split(match["args"]):
        item = _argument(part)
        (ports if isinstance(item, PortSchema) else params).append(item)  # type: ignore[arg-type]
    outputs = match["outputs"] or "out"
    schema = OpSchema(
        name=match["name"],
        version=1,
        summary=summary,
        inputs=tuple(ports),
        params=tuple(params),
        outputs=() if outputs == "none" else tuple(PortSchema(name) for name in outputs.split(", ")),
        rows_mix=rows_mix,
        differentiable=differentiable,
        shape_rule=rule,
    )
    names = tuple(re.match(r"\w+", part).group() for part in _split(match["args"]))  # type: ignore[union-attr]
    return Signature(schema, names)


def _split(arguments: str) -> list[str]:
    """Arguments at commas outside brackets."""
    return [part.strip() for part in re.split(r",(?![^\[(]*[\])])", arguments) if part.strip()]


def _argument(text: str) -> PortSchema | ParamSchema:
    match = _ARGUMENT.match(text)
    if match is None:
        raise ValueError(f"not an argument: {text!r}")
    if match["kind"] is None:
        mark = match["mark"]
        return PortSchema(
            match["name"], variadic="*" in mark, optional="?" in mark, allows_const="#" in mark or "@" in mark
        )
    required = match["default"] is None
    return ParamSchema(
        match["name"],
        match["kind"],
        required=required,
        default=None if required else ast.literal_eval(match["default"]),
        choices=tuple(ast.literal_eval(match["choices"])) if match["choices"] else (),
    )
