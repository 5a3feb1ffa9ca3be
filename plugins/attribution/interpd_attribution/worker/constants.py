"""Constants of methods in groups: what several methods take is written once, as a dataclass, and stands in each."""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from interpd.plugin.declaration import argument_docs
from interpd.sdk import MethodContext, method

Parameters = Sequence[inspect.Parameter]


def grouped_method(name: str, *, version: int = 1, paper: str | None = None) -> Callable[[Callable[..., Any]], Any]:
    """``@method``, for a function whose keyword-only parameters may be groups of constants.

    A parameter whose type is a dataclass (``request: Request``) stands for all of its fields; the function gets an
    instance. What the fields mean is taken from the ``Args`` of the dataclass.

    Args:
        name: As for ``@method``.
        version: Raised whenever the meaning changes.
        paper: Where it comes from.
    """

    def declare(fn: Callable[..., Any]) -> Any:
        signature = inspect.signature(fn, eval_str=True)
        parameters = list(signature.parameters.values())
        return declared(fn, parameters, signature.return_annotation, name=name, version=version, paper=paper)

    return declare


def declared(
    fn: Callable[..., Any], parameters: Parameters, returns: Any, *, name: str, version: int, paper: str | None
) -> Any:
    """The method of graphs that calls ``fn``.

    Args:
        fn: Called with the context, the ports, and an argument for each of ``parameters`` that is keyword-only.
        parameters: As in a signature, the context first; groups are flattened.
        returns: The return annotation.
        name: As for ``@method``.
        version: As for ``@method``.
        paper: As for ``@method``.
    """
    groups = {one.name: one.annotation for one in parameters if _is_group(one)}
    flat = [inner for one in parameters for inner in (_fields(groups[one.name]) if one.name in groups else [one])]

    def run(ctx: MethodContext, *ports: Any, **constants: Any) -> Any:
        made = {}
        for parameter, group in groups.items():
            own = {
                field.name: constants.pop(field.name) for field in dataclasses.fields(group) if field.name in constants
            }
            made[parameter] = group(**own)
        return fn(ctx, *ports, **constants, **made)

    run.__signature__ = inspect.Signature(flat, return_annotation=returns)  # type: ignore[attr-defined]
    run.__doc__ = _doc(fn, groups.values())
    # messages about the declaration name the author's function and line
    run.__name__, run.__qualname__, run.__module__ = fn.__name__, fn.__qualname__, fn.__module__
    run.__wrapped__ = fn  # type: ignore[attr-defined]
    return method(name, version=version, paper=paper)(run)


def _is_group(parameter: inspect.Parameter) -> bool:
    is_constant = parameter.kind is parameter.KEYWORD_ONLY
    # a class marked @artifact is a dataclass too
    return (
        is_constant and dataclasses.is_dataclass(parameter.annotation) and not hasattr(parameter.annotation, "schema")
    )


def _fields(group: Any) -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(group)
    for field in dataclasses.fields(group):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )


def _doc(fn: Callable[..., Any], groups: Any) -> str:
    """The function's docstring, with what its groups say of their fields among its arguments."""
    doc = inspect.getdoc(fn) or ""
    docs: Mapping[str, str] = {
        name: text for group in groups for base in reversed(group.__mro__) for name, text in argument_docs(base).items()
    }
    lines = [f"    {name}: {text}" for name, text in docs.items()]
    if "\nArgs:\n" not in doc:
        return "\n".join([doc, "", "Args:", *lines])
    head, _, tail = doc.partition("\nArgs:\n")
    own, gap, rest = tail.partition("\n\n")
    return f"{head}\nArgs:\n{own}\n" + "\n".join(lines) + gap + rest
