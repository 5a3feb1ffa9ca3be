"""Inputs and continuations as exact token ids, once and for all: nothing is tokenised again behind this."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens
from interpd_attribution.asked import Asked, items_of
from interpd_client import Model, PromptTrace
from interpd_client.prompts import as_prompt


@dataclass(frozen=True)
class Exact:
    """The token ids of one sequence, and where its attributed part begins."""

    given: Prompt
    """As the caller wrote it."""
    source: Tokens
    """What the model was given: the prompt, or the source of an encoder-decoder model."""
    target_ids: tuple[int, ...]
    """Prompt and continuation; of an encoder-decoder model what its decoder is given, start token first."""
    first: int
    """The first position of the target that is no prompt."""
    has_encoder: bool
    is_forced: bool
    """Whether the caller said what comes, and no model."""
    is_prefixed: bool = False
    """Whether the model went on behind what the caller said."""

    @property
    def n_positions(self) -> int:
        """Of both sides."""
        return len(self.target_ids) + (len(self.source.ids) if self.has_encoder else 0)

    @property
    def prompt(self) -> Prompt:
        """What a trace is given."""
        if self.has_encoder:
            return Prompt(token_ids=self.source.ids, target_ids=self.target_ids[1:])
        return Prompt(token_ids=self.target_ids)


def is_batch(inputs: object) -> bool:
    """Whether ``inputs`` are several, and not one text, one chat or the token ids of one."""
    if isinstance(inputs, (str, Prompt)):
        return False
    if isinstance(inputs, np.ndarray):
        return inputs.ndim > 1
    if not isinstance(inputs, Sequence):
        raise CallerError(f"inputs is {inputs!r}, expected a text, token ids, chat messages, or a list of them")
    return not all(map(_is_id, inputs)) and not all(map(_is_message, inputs))


def listed(inputs: Any, generated: Any) -> list[tuple[Any, Any]]:
    """(input, continuation) of each sequence. Raises ``CallerError`` for other counts of them."""
    if not is_batch(inputs):
        if not isinstance(inputs, Prompt) and len(inputs) == 0:
            raise CallerError("inputs is empty: give a text, token ids, chat messages, or a list of them")
        return [(inputs, generated)]
    inputs = list(inputs)
    empty = [number for number, one in enumerate(inputs) if isinstance(one, Sized) and not len(one)]
    if empty:
        raise CallerError(f"input {empty[0]} is empty: give a text, token ids or chat messages")
    if generated is None:
        return [(one, None) for one in inputs]
    if isinstance(generated, str) or all(map(_is_id, generated)):
        raise CallerError(f"generated is one continuation for {len(inputs)} inputs; give a list with one for each")
    return list(zip(inputs, items_of(generated, len(inputs), "generated"), strict=True))


def forced(model: Model, one: Any, continuation: Any, asked: Asked) -> Exact:
    """The sequence of an input and a continuation that the caller gave.

    Raises:
        CallerError: The continuation begins with the prompt, or the prompt's tokens change when it stands behind them.
    """
    prompt = as_prompt(one, _tokenizing(asked))
    if model.info.has_encoder:
        tokens = model.tokenize(prompt, target=_target(continuation))
        assert tokens.target is not None
        return Exact(prompt, tokens, tokens.target.ids, 1, True, is_forced=True)
    tokens = model.tokenize(prompt)
    if not isinstance(continuation, str):
        ids = _ids(continuation)
        if ids[: len(tokens.ids)] == tokens.ids:
            raise _doubled("the ids of generated")
    else:
        ids = behind(model, prompt, tokens, continuation)
    return Exact(prompt, tokens, tokens.ids + ids, len(tokens.ids), False, is_forced=True)


def begun(model: Model, one: Any, beginning: Any, asked: Asked) -> Exact:
    """The sequence that a generation continues: the prompt, and what the caller says it begins with."""
    return replace(forced(model, one, () if beginning is None else beginning, asked), is_prefixed=beginning is not None)


def recorded_in(model: Model, t: PromptTrace) -> Exact:
    """The sequence that is the prompt of a trace: everything behind its first token may be attributed."""
    if model.info.has_encoder:
        prompt = Prompt(token_ids=t.tokens.source.ids, target_ids=t.tokens.target.ids[1:])
    else:
        prompt = Prompt(token_ids=t.tokens.ids)
    tokens = model.tokenize(prompt)
    target = (tokens.target or tokens).ids
    return Exact(prompt, tokens, target, 1, model.info.has_encoder, is_forced=True)


def continued(given: Exact, token_ids: Sequence[int]) -> Exact:
    """The sequence with what a model made of it: the very ids, end tokens included."""
    return replace(given, target_ids=given.target_ids + tuple(token_ids), is_forced=False)


def behind(model: Model, prompt: Prompt, tokens: Tokens, continuation: str) -> tuple[int, ...]:
    """The ids of a text behind a prompt.

    Raises ``CallerError`` where it begins with the prompt, and where the prompt's tokens change with it.
    """
    if not continuation:
        return ()
    if prompt.token_ids is not None:
        return model.tokenize(Prompt(text=continuation, add_special_tokens=False)).ids
    if tokens.text and continuation.startswith(tokens.text):
        raise _doubled("generated")
    is_chat = prompt.messages is not None
    adds = prompt.add_special_tokens and not is_chat
    whole = model.tokenize(Prompt(text=tokens.text + continuation, add_special_tokens=adds)).ids
    n_prompt = len(tokens.ids)
    if whole[:n_prompt] != tokens.ids or len(whole) == n_prompt:
        raise CallerError(
            f"the prompt ends in {tokens.strings[-1]!r}, which is no token of its own any more with "
            f"{continuation[:20]!r} behind it: put the border between two tokens (spaces mostly begin one), or give "
            "generated as token ids"
        )
    return whole[n_prompt:]


def _doubled(what: str) -> CallerError:
    return CallerError(
        f"{what} begin{'' if what.startswith('the ids') else 's'} with the whole prompt: give the continuation alone. "
        "If the prompt is repeated there indeed, give both as inputs, generated='' and attr_pos_start"
    )


def _target(continuation: Any) -> Any:
    return continuation if isinstance(continuation, str) else _ids(continuation)


def _ids(values: Any) -> tuple[int, ...]:
    items = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if not all(map(_is_id, items)):
        raise CallerError(f"generated is {values!r}, expected a text or token ids")
    return tuple(int(item) for item in items)


def _is_id(item: object) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _is_message(item: object) -> bool:
    return isinstance(item, Mapping) or (isinstance(item, tuple) and all(isinstance(part, str) for part in item))


def _tokenizing(asked: Asked) -> Any:
    names = ("add_special_tokens", "add_generation_prompt", "continue_final_message")
    return {name: asked.run[name] for name in names if name in asked.run}


def running(asked: Asked) -> dict[str, Any]:
    """The options of requests that say nothing about tokens."""
    return {name: value for name, value in asked.run.items() if name not in _tokenizing(asked)}
