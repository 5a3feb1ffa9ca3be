"""``@op``: a pure function on tensors becomes an operation of graphs, and stays a plain function."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from interpd.graph.schema import ArtifactSchema, OpSchema, PortSchema
from interpd.plugin import annotations
from interpd.plugin.declaration import NAME, DeclarationError, argument_docs, place, refuse, signature_text, summary

Fn = TypeVar("Fn", bound=Callable[..., Any])


class Declared(Protocol):
    """What ``@op`` and ``@method`` leave: the function itself, with its schema."""

    schema: OpSchema

    def __call__(self, *ports: Any, **params: Any) -> Any:
        """The function."""


@dataclasses.dataclass(frozen=True, slots=True)
class RegisteredOp:
    """An operation as the engine runs it."""

    schema: OpSchema
    fn: Callable[..., Any] | None
    """One value, or a tuple of them for several outputs; ``None``: the engine itself carries the operation out."""


def op(
    name: str, *, version: int = 1, paper: str | None = None, rows_mix: bool = False, differentiable: bool = True
) -> Callable[[Fn], Fn]:
    """A decorator that declares a function on tensors as the operation ``name``.

    Positional parameters are ports: ``resid: Float[Tensor, "batch pos d_model"]``; the annotation is the schema, and
    an axis word binds one size in all ports, outputs and artifacts, and an ``int`` constant of its name binds it too
    (``k: int`` and ``Float[Tensor, "pos k"]``). Keyword-only parameters are constants (``int``,
    ``float``, ``bool``, ``str``, ``Literal``, ``tuple[int, ...]``) or artifacts (a class marked ``@artifact``). The
    return annotation gives the outputs: one tensor, a tuple of tensors, or a frozen dataclass of tensors. An output
    declared ``Float`` has the dtype of the first floating input; one declared ``Int`` is int64.

    Args:
        name: ``family.verb``, for instance ``sae.encode``.
        version: Raised whenever the meaning changes; graphs name the version that they were written for.
        paper: Where the operation comes from: ``arXiv:1703.01365``, ``doi:10...`` or an ``https`` address.
        rows_mix: Whether a row of the output may depend on other rows of the input.
        differentiable: Whether gradients can be taken through it; ``False`` makes the checker refuse to.

    Raises:
        DeclarationError: The function cannot be an operation; the message lists all reasons.
    """
    refuse_bare("op", name)

    def declare(fn: Fn) -> Fn:
        facts, problems = ports_and_params("op", fn, skip=0)
        facts |= {"version": version, "paper": paper or "", "rows_mix": rows_mix, "differentiable": differentiable}
        fn.schema = build_schema("op", name, fn, problems, **facts)  # type: ignore[attr-defined]
        return fn

    return declare


def refuse_bare(kind: str, name: object) -> None:
    """Raises ``DeclarationError`` for a decorator that was written without its name."""
    if callable(name):
        words = getattr(name, "__name__", "verb")
        text = f"@{kind} without a name in {signature_text(name)} ({place(name)})"
        raise DeclarationError(f'{text}; write @{kind}("family.{words}", version=1)')


def build_schema(kind: str, name: str, fn: Callable[..., Any], problems: list[str], **facts: Any) -> OpSchema:
    """The schema of a declaration. Raises ``DeclarationError`` with all of its problems."""
    if NAME.fullmatch(name) is None:
        problems.insert(0, f"the name is not family.verb in lower case; write for instance @{kind}('sae.encode')")
    if type(facts["version"]) is not int or facts["version"] < 1:
        problems.append(f"version {facts['version']!r} is not a whole number from 1")
    if problems:
        raise refuse(kind, name, fn, problems)
    return OpSchema(name=name, summary=summary(fn), doc=inspect.getdoc(fn) or "", is_method=kind == "method", **facts)


def ports_and_params(kind: str, fn: Callable[..., Any], skip: int) -> tuple[dict[str, Any], list[str]]:
    """The schema's ``inputs``, ``params`` and ``outputs``, and what is wrong with them; ``skip`` leading parameters."""
    problems: list[str] = []
    signature = _evaluated_signature(fn, problems)
    docs = argument_docs(fn)
    inputs, params = [], []
    for parameter in list(signature.parameters.values())[skip:]:
        try:
            if parameter.kind is parameter.KEYWORD_ONLY:
                params.append(_param(parameter, docs.get(parameter.name, "")))
            else:
                inputs.append(_port(kind, parameter))
        except annotations.BadAnnotation as error:
            problems.append(f"parameter {parameter.name!r} {error}")
    outputs = _outputs(signature, problems)
    if kind == "op" and not inputs and not problems:
        problems.append(f"has no port; an operation takes at least one tensor: x: {annotations.EXAMPLE}")
    return {"inputs": tuple(inputs), "params": tuple(params), "outputs": outputs}, problems


def _evaluated_signature(fn: Callable[..., Any], problems: list[str]) -> inspect.Signature:
    try:
        return inspect.signature(fn, eval_str=True)
    except Exception as error:  # annotations that are strings are code of the plugin: anything may come out of them
        problems.append(f"its annotations cannot be evaluated ({error}); drop 'from __future__ import annotations'")
        return inspect.Signature(return_annotation=inspect.Signature.empty)


def _port(kind: str, parameter: inspect.Parameter) -> PortSchema:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise annotations.BadAnnotation("collects arguments; name each port, or take one tuple[Float[...], ...]")
    if parameter.annotation is parameter.empty:
        raise annotations.BadAnnotation(f"has no annotation; write {parameter.name}: {annotations.EXAMPLE}")
    if parameter.annotation in (int, float, bool, str):
        raise annotations.BadAnnotation(
            f"is a constant before the '*'; constants are keyword-only: move it behind a '*' ({parameter})"
        )
    if isinstance(getattr(parameter.annotation, "schema", None), ArtifactSchema):
        raise annotations.BadAnnotation(
            f"is an artifact before the '*'; artifacts are named by constants: move it behind a '*' ({parameter})"
        )
    if getattr(parameter.annotation, "__name__", "") == "MethodContext":
        raise annotations.BadAnnotation("is a method's context, which an operation does not get; use @method")
    port = annotations.port(parameter.name, parameter.annotation, parameter.default)
    if port.recomputed and kind != "method":
        raise annotations.BadAnnotation("is Recomputed, but an operation runs no passes; use @method, or drop the word")
    return port


def _param(parameter: inspect.Parameter, doc: str) -> Any:
    if parameter.annotation is parameter.empty:
        raise annotations.BadAnnotation(f"has no annotation; write for instance {parameter.name}: int")
    return annotations.param(parameter.name, parameter.annotation, parameter.default, doc)


def _outputs(signature: inspect.Signature, problems: list[str]) -> tuple[PortSchema, ...]:
    if signature.return_annotation is signature.empty:
        if not problems or signature.parameters:
            problems.append(f"has no return annotation; write -> {annotations.EXAMPLE}")
        return ()
    try:
        return annotations.outputs(signature.return_annotation)
    except annotations.BadAnnotation as error:
        problems.append(str(error))
        return ()


def flattened(fn: Callable[..., Any], schema: OpSchema) -> Callable[..., Any]:
    """``fn`` with a dataclass of results turned into the tuple that the engine indexes."""
    names = [output.name for output in schema.outputs]

    @functools.wraps(fn)
    def flat(*args: Any, **params: Any) -> Any:
        value = fn(*args, **params)
        if dataclasses.is_dataclass(value) and all(hasattr(value, name) for name in names):
            return tuple(getattr(value, name) for name in names)
        return value

    return flat
