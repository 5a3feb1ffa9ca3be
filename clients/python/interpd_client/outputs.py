"""Saved values with structure (named tuples, lists, dicts) as flat outputs of a graph, and back."""

from collections.abc import Iterator, Mapping
from typing import Any

from interpd_client.value import Value


def flatten(name: str, value: object) -> Iterator[tuple[str, Value]]:
    """(output name, value) of everything inside ``value``: ``top.values``, ``resid.0``, ``probs.france``.

    Raises ``TypeError`` for anything that is not a symbolic value or a list, tuple or dict of them.
    """
    if isinstance(value, Value):
        yield name, value
        return
    items = list(_items(value))
    if not items:
        raise TypeError(
            f"save({name}=...) wants a symbolic value, or a list, tuple or dict of them, got {type(value).__name__}; "
            "a constant of your own need not travel"
        )
    for key, item in items:
        yield from flatten(f"{name}.{key}", item)


def restore(name: str, template: object, arrays: Mapping[str, Any]) -> Any:
    """``template`` with each symbolic value replaced by the array that came back for it; ``None`` where none did."""
    if isinstance(template, Value):
        return arrays.get(name)
    items = [restore(f"{name}.{key}", item, arrays) for key, item in _items(template)]
    if isinstance(template, Mapping):
        return dict(zip(template, items, strict=True))
    if hasattr(template, "_fields"):
        return type(template)(*items)  # pyright: ignore[reportCallIssue]
    return type(template)(items)  # pyright: ignore[reportCallIssue]


def _items(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)  # pyright: ignore[reportAttributeAccessIssue]
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
