"""What the model generates, token by token, and where a context in it ends."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd.graph.run import TokenGenerated
from interpd_attribution.pecore.arguments import ContextArguments
from interpd_attribution.pecore.pieces import Piece
from interpd_client import Model

PUNCTUATION = r"[\s.?!,;:)\]}]+"


class Ask(Protocol):
    """Somebody who is asked where texts alone do not say: a person at a terminal, or a program."""

    def output_context(self, output: str, candidate: str | None) -> str:
        """The beginning of ``output`` that is its context; ``candidate`` is what was found, if anything was."""

    def next_token(self, before: str, token: str) -> str:
        """What comes after ``before`` without contexts, instead of ``token``; its first token is taken."""


@dataclass(frozen=True)
class Speech:
    """A text that was generated, and its tokens; special tokens at its end are gone."""

    text: str
    pieces: tuple[Piece, ...]
    """Their characters are counted in ``text``."""

    def without_end(self, suffix: str) -> "Speech":
        """The text without what the template has behind it."""
        if not suffix:
            return self
        if not self.text.endswith(suffix):
            raise CallerError(
                f"output_template ends with {suffix!r}, but the model generated {self.text!r}: change the template, or "
                "give output_current_text"
            )
        return replace(self, text=self.text[: -len(suffix)])


def generated(model: Model, prompt: Prompt, arguments: ContextArguments, run: Mapping[str, Any]) -> Speech:
    """What the model says after a prompt of ids.

    Raises ``CallerError`` without a bound of its length, and where it says nothing.
    """
    options: Mapping[str, Any] = arguments.generation_kwargs
    if "max_new_tokens" not in options:
        raise CallerError("the output is generated: say how much, generation_kwargs={'max_new_tokens': 40}, or give it")
    events: list[TokenGenerated] = []
    result = model.generate(prompt, **{"progress": False, **run, **options}, on_token=events.append).run()
    ids = result.token_ids
    texts = {event.step: event.text for event in events}
    speech = _spoken(ids, [texts.get(step, "") for step in range(len(ids))], _strings(model, prompt, ids), arguments)
    if not speech.text.strip():
        raise CallerError(
            f"the model generated nothing but {ids}; give output_current_text, or other generation_kwargs"
        )
    return speech


def _strings(model: Model, prompt: Prompt, ids: tuple[int, ...]) -> tuple[str, ...]:
    """Each token by itself."""
    if not model.info.has_encoder:
        return model.tokenize(Prompt(token_ids=ids)).strings
    target = model.tokenize(replace(prompt, target_ids=ids)).target
    assert target is not None
    return target.strings[1:]


def _spoken(ids: Sequence[int], texts: Sequence[str], strings: Sequence[str], arguments: ContextArguments) -> Speech:
    whole, pieces = "", []
    for id_, text, string in zip(ids, texts, strings, strict=True):
        # a special token has no text among others; nor has the first half of a character, which is none alone either
        is_special = not text and bool(string.strip()) and "\ufffd" not in string
        is_kept = is_special and string in arguments.special_tokens_to_keep
        added = string if is_kept else text
        pieces.append(
            Piece(id_, added or string, len(whole), len(whole) + len(added), is_hidden=is_special and not is_kept)
        )
        whole += added
    while pieces and pieces[-1].is_hidden:
        pieces.pop()
    return Speech(whole, tuple(pieces))


def context_in(speech: Speech, arguments: ContextArguments, ask: Ask | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where in a speech its context is, and where the current text.

    Raises ``CallerError`` where nothing says where the one ends, and where nothing is left of the other.
    """
    first = len(speech.text) - len(speech.text.lstrip())
    body = speech.text.strip()
    separator = arguments.output.behind("context")
    candidate = _candidate(body, separator)
    if arguments.handle_output_context_strategy == "manual" and ask is not None:
        candidate = _asked(body, candidate, ask)
    if candidate is None:
        raise CallerError(
            f"where does the context end in the output {body!r}? It is not two texts with {separator!r} between them: "
            "give output_context_text, or ask with handle_output_context_strategy='manual'"
        )
    rest = body[len(candidate) :]
    between = separator if rest.startswith(separator) else _punctuation(rest)
    start = len(candidate) + len(between)
    start += len(body[start:]) - len(body[start:].lstrip())
    if not body[start:]:
        raise CallerError(f"nothing is left behind the context {candidate!r} of the output {body!r}: generate more")
    return (first, first + len(candidate)), (first + start, first + len(body))


def _candidate(body: str, separator: str) -> str | None:
    halves = body.split(separator) if separator else []
    if len(halves) != 2 or not halves[0]:
        halves = [part for part in re.split(PUNCTUATION, body) if part]
    return halves[0] if len(halves) == 2 else None


def _punctuation(text: str) -> str:
    found = re.match(PUNCTUATION, text)
    return found[0] if found else ""


def _asked(body: str, candidate: str | None, ask: Ask) -> str:
    answer = ask.output_context(body, candidate)
    if not body.startswith(answer):
        raise CallerError(f"the output {body!r} does not begin with the context {answer!r}")
    return answer
