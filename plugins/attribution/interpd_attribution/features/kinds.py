"""What somebody asks for: a way to cut prompts into features, for one prompt or for many."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_attribution.features import splits
from interpd_attribution.features.covering import Part, covered, cut, is_special, offsets, without_special
from interpd_attribution.features.segments import Segments, renumbered

Skip: TypeAlias = Collection[str | int]
Messages: TypeAlias = Sequence[tuple[str, str]] | Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Features:
    """A way to cut a text into features."""

    parts: Callable[[str], Sequence[Part]]
    """From a text to its parts; characters outside of all parts are in no feature."""
    special: bool = True
    """Whether special tokens are features of their own; otherwise they are in none."""
    skip: Skip = ()
    """Tokens, by string or id, that are in none."""
    sees_special: bool = True
    """Whether ``parts`` sees special tokens that are written out in the text; otherwise it sees white space there."""

    def of(self, tokens: Tokens) -> Segments:
        """The features of a tokenised text. Raises ``CallerError`` where it cannot be cut so."""
        text = tokens.text if self.sees_special else without_special(tokens)
        return covered(tokens, self.parts(text), special=self.special, skip=self.skip)


@dataclass(frozen=True)
class Sides:
    """Features for the two sides of an encoder-decoder model."""

    source: "Asked" = "token"
    target: "Asked" = "token"
    """Of the target before the first attributed token."""


Asked: TypeAlias = str | Features | Segments | Sides
"""A name (``"token"``, ``"word"``, ``"sentence"``, ``"paragraph"``, ``"line"``, ``"turn"``), a way, or the features."""

_NAMED: Mapping[str, Callable[[str], Sequence[Part]]] = {
    "word": splits.words,
    "sentence": splits.sentences,
    "paragraph": splits.paragraphs,
    "line": splits.lines,
}

NAMES = ("token", *_NAMED, "turn")
"""What features can be called."""


def named(name: str, *, special: bool = True, skip: Skip = ()) -> Features:
    """Words, sentences, paragraphs or lines. Raises ``CallerError`` for another name."""
    if name not in _NAMED:
        raise CallerError(f"there are no features {name!r}; there are {', '.join(NAMES)}, and what features/ offers")
    return Features(_NAMED[name], special, skip, sees_special=False)


def regex(
    pattern: str, keep: Literal["matches", "between"] = "matches", *, special: bool = True, skip: Skip = ()
) -> Features:
    """The matches of a regular expression, or what lies between them (documents between their separators)."""
    if keep not in ("matches", "between"):
        raise CallerError(f"keep is {keep!r}, expected 'matches' or 'between'")
    return Features(lambda text: splits.matches(text, pattern, keep), special, skip)


def documents(texts: Sequence[str], labels: Sequence[str] | None = None, *, special: bool = False) -> Features:
    """Texts that stand in the prompt, in this order; what is around them is in no feature. Labels: the texts."""
    return _quoted(texts, labels, special)


def turns(messages: Messages, *, special: bool = False) -> Features:
    """The contents of chat messages; what the template puts around them is in no feature. Labels: ``role: content``."""
    pairs = [(one["role"], one["content"]) if isinstance(one, Mapping) else one for one in messages]
    return _quoted([content for _, content in pairs], [f"{role}: {content}" for role, content in pairs], special)


def examples(separator: str = r"\n\s*\n", *, special: bool = False) -> Features:
    """Few-shot examples: what lies between separators, called ``example 1``, ...; the last one is the ``query``.

    ``separator`` is a regular expression.
    """

    def parts(text: str) -> list[Part]:
        found = splits.matches(text, separator, "between")
        names = [*(f"example {number}" for number in range(1, len(found))), "query"]
        return [part._replace(label=name) for part, name in zip(found, names, strict=True)]

    return Features(parts, special)


def spans(
    characters: Sequence[tuple[int, int]], labels: Sequence[str] | None = None, *, special: bool = False
) -> Features:
    """Spans of characters, ``(start, stop)`` one behind the other."""
    names = _names(labels, len(characters))
    parts = [Part(start, stop, name) for (start, stop), name in zip(characters, names, strict=True)]
    return Features(lambda _: parts, special)


def positions(tokens: Tokens, ranges: Sequence[tuple[int, int]], labels: Sequence[str] | None = None) -> Segments:
    """Ranges of token positions, ``(start, stop)`` one behind the other; other positions are in no feature."""
    names = _names(labels, len(ranges))
    keys: list[int | None] = [None] * len(tokens.ids)
    for number, (start, stop) in enumerate(ranges):
        if not 0 <= start < stop <= len(keys) or any(key is not None for key in keys[start:stop]):
            raise CallerError(
                f"positions {start} to {stop} of {len(keys)}: expected none empty, outside or taken twice"
            )
        keys[start:stop] = [number] * (stop - start)
    texts = ["".join(tokens.strings[start:stop]).strip() for start, stop in ranges]
    return renumbered(keys, {number: names[number] or texts[number] for number in range(len(ranges))})


def each_token(tokens: Tokens, skip: Skip = ()) -> Segments:
    """Each position by itself."""
    is_left_out = [s in skip or id_ in skip for s, id_ in zip(tokens.strings, tokens.ids, strict=True)]
    keys = [None if left_out else position for position, left_out in enumerate(is_left_out)]
    return renumbered(keys, dict(enumerate(tokens.strings)))


def segments_of(
    asked: Asked, tokens: Tokens, *, start: int, prompt: Tokens | None = None, messages: Messages | None = None
) -> Segments:
    """The features of a whole run. Positions from the first attributed one on are features of their own.

    Args:
        asked: A name, a way, ``Sides``, or ``Segments`` of the prompt or of everything.
        tokens: Of the run; for an encoder-decoder model its source, with the target beside it.
        start: The first attributed position of the target.
        prompt: What was tokenised as text, where ``tokens`` are ids: its first positions have characters.
        messages: Of a chat, for ``"turn"``.

    Raises:
        CallerError: Another name, features that do not fit the positions, a text that cannot be cut so.
    """
    if isinstance(asked, Segments) and len(asked.of) == len(tokens.ids) + len(
        tokens.target.ids if tokens.target else ()
    ):
        return asked
    if isinstance(asked, Sides) and tokens.target is None:
        raise CallerError("the model has one side: give the features of its prompt, not Sides")
    if tokens.target is not None:
        sides = asked if isinstance(asked, Sides) else Sides(asked)
        source = _of_side(sides.source, _with_text(tokens, prompt), messages)
        target = _of_side(sides.target, _begun(tokens.target, start), None)
        return source.beside(target.followed_by(tokens.target.strings[start:]))
    return _continued(asked, _with_text(tokens, prompt), start, messages)


def _continued(asked: Asked, tokens: Tokens, start: int, messages: Messages | None) -> Segments:
    return _of_side(asked, cut(tokens, start), messages).followed_by(tokens.strings[start:])


def _of_side(asked: Asked, tokens: Tokens, messages: Messages | None) -> Segments:
    if isinstance(asked, Segments):
        if len(asked.of) != len(tokens.ids):
            raise CallerError(f"features: {len(asked.of)} positions, but the prompt has {len(tokens.ids)}")
        return asked
    if asked == "token":
        return each_token(tokens)
    if asked == "turn":
        if messages is None:
            raise CallerError("features 'turn' are those of chat messages: give the prompt as messages")
        return turns(messages).of(tokens)
    if isinstance(asked, str):
        return named(asked).of(tokens)
    if not isinstance(asked, Features):
        raise CallerError(f"{asked!r} are no features; give a name ({', '.join(NAMES)}), Features or Segments")
    return asked.of(tokens)


def _begun(target: Tokens, n: int) -> Tokens:
    """The first ``n`` positions of a target; a start that is no special token is not in its text."""
    if is_special(target.strings[0]):
        return cut(target, n)
    if n == 1:
        return replace(target, ids=target.ids[:1], strings=target.strings[:1], offsets=((0, 0),), text="")
    rest = replace(target, ids=target.ids[1:], strings=target.strings[1:], offsets=target.offsets[1:])
    return cut(replace(target, offsets=((0, 0), *offsets(rest))), n)


def _with_text(tokens: Tokens, prompt: Tokens | None) -> Tokens:
    """The tokens, their first ones with the characters that the prompt's have."""
    if prompt is None or prompt.ids != tokens.ids[: len(prompt.ids)]:
        return tokens
    end = len(prompt.text)
    rest, texts = [], []
    for string in tokens.strings[len(prompt.ids) :]:
        rest.append((end, end + len(string)))
        texts.append(string)
        end += len(string)
    text = prompt.text + "".join(texts)
    strings = prompt.strings + tokens.strings[len(prompt.ids) :]
    return Tokens(tokens.ids, strings, (*prompt.offsets, *rest), text, tokens.target)


def _quoted(texts: Sequence[str], labels: Sequence[str] | None, special: bool) -> Features:
    names = _names(labels, len(texts))
    return Features(lambda text: splits.quotations(text, texts, names), special)


def _names(labels: Sequence[str] | None, n: int) -> Sequence[str | None]:
    if labels is not None and len(labels) != n:
        raise CallerError(f"{len(labels)} labels for {n} features")
    return (None,) * n if labels is None else labels
