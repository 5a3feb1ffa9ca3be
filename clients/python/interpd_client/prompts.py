"""What people write as a prompt, as the ``Prompt`` of a request."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from interpd.graph.ir import Prompt
from interpd_client.options import RunOptions

PromptLike: TypeAlias = (
    str | Prompt | Sequence[int] | Sequence[tuple[str, str]] | Sequence[Mapping[str, str]] | np.ndarray
)
"""Text; token ids; chat messages as (role, content) pairs or ``{"role": ..., "content": ...}``; or a ``Prompt``."""


TargetLike: TypeAlias = str | Sequence[int] | np.ndarray
"""What the decoder of an encoder-decoder model is given: text or token ids, without its start token."""


NO_OPTIONS: RunOptions = {}


def as_prompt(value: PromptLike, options: RunOptions = NO_OPTIONS, *, target: TargetLike | None = None) -> Prompt:
    """``value`` as one prompt. Raises ``TypeError`` for what is none, several texts included.

    Args:
        value: What somebody wrote.
        options: Whose ``add_special_tokens`` is for texts, whose ``add_generation_prompt`` and
            ``continue_final_message`` are for chats.
        target: What the decoder of an encoder-decoder model is given.
    """
    prompt = _as_source(value, options)
    if target is None:
        return prompt
    if prompt.target_text is not None or prompt.target_ids is not None:
        raise TypeError("the prompt has a target already; give one")
    if isinstance(target, str):
        return replace(prompt, target_text=target)
    items: list[object] = target.tolist() if isinstance(target, np.ndarray) else list(target)
    if not all(isinstance(item, (int, np.integer)) and not isinstance(item, bool) for item in items):
        raise TypeError(f"a target is a text or a list of token ids, got {target!r}")
    return replace(prompt, target_ids=tuple(int(item) for item in items))  # pyright: ignore[reportArgumentType]


def with_target(value: PromptLike | None, target: TargetLike | None, options: RunOptions) -> PromptLike | None:
    """``value`` with its target, where there is one. Raises ``TypeError`` for a target without a prompt."""
    if target is None:
        return value
    if value is None:
        raise TypeError("a target belongs to a prompt: give both to `t.prompt(source, target=...)`")
    return as_prompt(value, options, target=target)


def _as_source(value: PromptLike, options: RunOptions) -> Prompt:
    if isinstance(value, Prompt):
        return value
    ends = {name: options[name] for name in ("add_generation_prompt", "continue_final_message") if name in options}
    prompt = _without_ends(value, options)
    if ends and prompt.messages is None:
        raise TypeError(f"{' and '.join(ends)} say how a chat ends, but the prompt is no list of messages: {value!r}")
    return replace(prompt, **ends) if ends else prompt  # pyright: ignore[reportArgumentType]


def _without_ends(value: PromptLike, options: RunOptions) -> Prompt:
    if isinstance(value, str):
        return Prompt(text=value, add_special_tokens=options.get("add_special_tokens", True))
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
    pair: object = item
    if isinstance(item, Mapping):
        if more := sorted(set(map(str, item)) - {"role", "content"}):
            raise TypeError(f"a chat message has a role and a content, {', '.join(more)} cannot be taken: {item!r}")
        pair = (item.get("role"), item.get("content"))
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError(f"a chat message is {{'role': ..., 'content': ...}} or a (role, content) pair, got {item!r}")
    role, content = pair
    if not isinstance(role, str) or not isinstance(content, str):
        raise TypeError(f"role and content of a chat message are texts (no images, audio or tool calls), got {item!r}")
    return role, content
