"""Operations that name words, made into operations that name tokens."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from interpd.errors import CallerError
from interpd_backpack.edits.operations import NAMES_TOKENS, Operation
from interpd_backpack.edits.places import ALL, Token

SEVERAL = frozenset({"tokens", "bag"})
"""The fields that may name several tokens."""


def words_in(operation: Operation) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The fields of an operation that name words, with these."""
    for name, value in operation.values().items():
        parts = value if isinstance(value, tuple) else (value,)
        words = tuple(one for one in parts if isinstance(one, str))
        if name in NAMES_TOKENS and words and value != ALL:
            yield name, words


def resolved(operation: Operation, find: Callable[[str], tuple[Token, ...]]) -> Operation:
    """The operation with tokens for words. Raises ``CallerError`` where one token is wanted and a word has several."""

    def one_token(value: Any, name: str) -> Any:
        if not isinstance(value, str):
            return value
        found = find(value)
        if len(found) != 1:
            raise CallerError(
                f"{operation.kind}: {name} is one token, but {value!r} has {len(found)}: "
                f"{', '.join(map(str, found))}; take pieces='first' or 'last', or one of them"
            )
        return found[0]

    changes: dict[str, Any] = {}
    for name, _ in words_in(operation):
        value = getattr(operation, name)
        if name in SEVERAL:
            changes[name] = tuple(token for one in value for token in (find(one) if isinstance(one, str) else (one,)))
        elif isinstance(value, tuple):
            changes[name] = tuple(one_token(one, name) for one in value)
        else:
            changes[name] = one_token(value, name)
    return replace(operation, **changes) if changes else operation  # type: ignore[type-var]
