"""What people write as a prompt, as the ``Prompt`` of a request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from interpd.graph.ir import Prompt

PromptLike: TypeAlias = (
    str | Prompt | Sequence[int] | Sequence[tuple[str, str]] | Sequence[Mapping[str, str]] | np.ndarray
)
"""Text; token ids; chat messages as (role, content) pairs or ``{"role": ..., "content": ...}``; or a ``Prompt``."""


def as_prompt(value: PromptLike, *, add_special_tokens: bool = True) -> Prompt:
    """``value`` as one prompt. Raises ``TypeError`` for what is none, several texts included.

    ``add_special_tokens``: whether the tokenizer adds its own beginning to a text.
    """
    if isinstance(value, Prompt):
        return value
    if isinstance(value, str):
        return Prompt(text=value, add_special_tokens=add_special_tokens)
    if not isinstance(value, Iterable) or isinstance(value, (bytes, Mapping)):
        raise _no_prompt(value)
    items: list[object] = value.tolist() if isinstance(value, np.ndarray) else list(value)
    if items and all(isinstance(item, (int, np.integer)) for item in items):
        return Prompt(token_ids=tuple(int(item) for item in items))  # pyright: ignore[reportArgumentType]
    if items and all(isinstance(item, (Mapping, tuple)) for item in items):
        return Prompt(messages=tuple(_message(item) for item in items))
    if items and all(isinstance(item, str) for item in items):
        raise TypeError(
            "got a list of texts as one prompt; for several prompts write "
            "`with model.trace() as t: a = t.prompt('...'); b = t.prompt('...')`"
        )
    raise _no_prompt(value)


def _no_prompt(value: object) -> TypeError:
    return TypeError(f"a prompt is a text, a list of token ids or a list of chat messages, got {value!r}")


def _message(item: object) -> tuple[str, str]:
    if isinstance(item, Mapping) and set(item) == {"role", "content"}:
        return (str(item["role"]), str(item["content"]))
    if isinstance(item, tuple) and len(item) == 2:
        return (str(item[0]), str(item[1]))
    raise TypeError(f"a chat message is {{'role': ..., 'content': ...}} or a (role, content) pair, got {item!r}")
