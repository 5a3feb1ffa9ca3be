"""The two sequences of token ids that are compared, with the contexts and without, and where their parts are.

A text is tokenised once, whole, and its parts are found by the characters that each token stands for; what the model
generated stays the very tokens. The current output has the same tokens in both sequences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interpd.errors import CallerError
from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens
from interpd_attribution.pecore.arguments import ContextArguments
from interpd_attribution.pecore.pieces import Part, Piece, part_of, pieces_of, positions_in
from interpd_attribution.pecore.speech import Ask, Speech, context_in, generated
from interpd_attribution.pecore.templates import Filled, Template
from interpd_client import Model


@dataclass(frozen=True)
class Ids:
    """Token ids: of an encoder-decoder model both sides, of others the whole sequence as ``target``."""

    source: tuple[int, ...] | None
    target: tuple[int, ...]
    start: int
    """Where in the target the current output begins."""

    @property
    def prompt(self) -> Prompt:
        """What a trace is given."""
        if self.source is None:
            return Prompt(token_ids=self.target)
        return Prompt(token_ids=self.source, target_ids=self.target[1:])

    def up_to(self, stop: int) -> "Ids":
        """The target's first tokens only."""
        return Ids(self.source, self.target[:stop], self.start)

    def with_token(self, position: int, id_: int) -> "Ids":
        """Another token at a position of the target."""
        return Ids(self.source, (*self.target[:position], id_, *self.target[position + 1 :]), self.start)


@dataclass(frozen=True)
class Compared:
    """Both sequences. Positions are those of the contextual one's sides."""

    contextual: Ids
    contextless: Ids
    current: Part
    """In the target."""
    input_context: Part | None
    """In the source, or of a decoder-only model in the target."""
    output_context: Part | None
    """In the target."""
    text: str
    """Of the contextual target."""
    stops: tuple[int, ...]
    """For each position of the contextual target, how much of ``text`` there is behind it."""
    text_from: int
    """Where in it the current output begins."""
    contextless_text: str
    """What stands before the current output without contexts."""
    output_context_text: str | None
    output_current_text: str

    @property
    def places(self) -> tuple[int, ...]:
        """Which of the attributed tokens, counted from ``start``, those of ``current`` are."""
        return tuple(position - self.contextual.start for position in self.current.positions)


def compared(
    model: Model, arguments: ContextArguments, ask: Ask | None = None, run: Mapping[str, Any] | None = None
) -> Compared:
    """The two sequences of what was asked; what is not given is generated. Raises ``CallerError``."""
    forced = arguments.output_current_text
    needs_split = arguments.output.has("context") and arguments.output_context_text is None
    if forced is not None and not needs_split:
        return _of_texts(model, arguments, arguments.output_context_text, forced)
    if needs_split and ask is None and arguments.handle_output_context_strategy == "manual":
        raise CallerError(
            "output_template has {context}, and handle_output_context_strategy='manual' asks where it ends, but there "
            "is nobody to ask: give output_context_text or ask, or take 'auto'"
        )
    speech, before = _spoken(model, arguments, run or {}, needs_split=needs_split)
    speech = speech.without_end(arguments.output.behind("current"))
    spans = {"output context": (0, 0)}
    if needs_split:
        spans["output context"], spans["output current"] = context_in(speech, arguments, ask)
    else:
        inner = speech.text.strip()
        first = len(speech.text) - len(speech.text.lstrip())
        spans["output current"] = (first, first + len(inner))
    if forced is not None:
        start, stop = spans["output context"]
        return _of_texts(model, arguments, speech.text[start:stop], forced)
    return _of_speech(
        model, arguments, before, speech, spans if needs_split else {"output current": spans["output current"]}
    )


def _input(arguments: ContextArguments) -> Filled:
    texts = {"current": arguments.input_current_text}
    if arguments.input.has("context"):
        texts["context"] = str(arguments.input_context_text)
    return arguments.input.filled("input ", **texts)


def _contextless_input(arguments: ContextArguments) -> Filled:
    template = Template(arguments.contextless_input_current_text, "contextless_input_current_text")
    texts = {"current": arguments.input_current_text} if template.has("current") else {}
    return Filled(template.filled(**texts).text, {})


def _contextless_output(arguments: ContextArguments) -> Template:
    return Template(arguments.contextless_output_current_text, "contextless_output_current_text")


@dataclass(frozen=True)
class _Whole:
    """A tokenised input with what stands of its output."""

    tokens: Tokens
    given: Filled
    """The input; of a decoder-only model with the output behind it."""
    output: Filled
    """The output; of a decoder-only model the same as ``given``."""

    @property
    def target(self) -> Tokens:
        """The side that the current output is on."""
        return self.tokens.target or self.tokens

    @property
    def source_ids(self) -> tuple[int, ...] | None:
        """Of an encoder-decoder model."""
        return None if self.tokens.target is None else self.tokens.ids


def _tokenised(
    model: Model, arguments: ContextArguments, given: Filled, output: Filled, *, is_open: bool = False
) -> _Whole:
    """An input and an output. ``is_open``: more will follow, so that blanks at the end belong to what comes."""
    prompt = lambda text: Prompt(text=text, add_special_tokens=arguments.add_special_tokens)  # noqa: E731
    if model.info.has_encoder:
        text = output.text.rstrip(" ") if is_open else output.text
        target = text if text else None
        return _Whole(model.tokenize(prompt(given.text), target=target), given, Filled(text, output.parts))
    whole = given.joined(output, arguments.decoder_input_output_separator)
    whole = Filled(whole.text.rstrip(" "), whole.parts) if is_open else whole
    return _Whole(model.tokenize(prompt(whole.text)), whole, whole)


def _of_texts(model: Model, arguments: ContextArguments, context: str | None, current: str) -> Compared:
    texts = {"current": current, **({"context": context or ""} if arguments.output.has("context") else {})}
    if not current.strip():
        raise CallerError("output_current_text is empty: there is no token to look at")
    whole = _tokenised(model, arguments, _input(arguments), arguments.output.filled("output ", **texts))
    bare = _contextless_output(arguments).filled("output ", current=current)
    without = _tokenised(model, arguments, _contextless_input(arguments), bare)
    pieces = pieces_of(whole.target)
    here = _first(pieces, whole.output)
    other_pieces = pieces_of(without.target)
    there = _first(other_pieces, without.output)
    _check_border((pieces[here], whole.output), (other_pieces[there], without.output))
    part = part_of(pieces, whole.output.text, whole.output.parts["output current"])
    # what the template has behind the current output changes nothing before it
    ids = whole.target.ids[: part.positions[-1] + 1]
    return Compared(
        contextual=Ids(whole.source_ids, ids, here),
        contextless=Ids(without.source_ids, without.target.ids[:there] + ids[here:], there),
        current=part,
        input_context=_input_context(whole),
        output_context=_part(pieces, whole.output, "output context"),
        text=whole.output.text,
        stops=tuple(piece.stop for piece in pieces[: len(ids)]),
        text_from=whole.output.parts["output current"][0],
        contextless_text=without.output.text[: without.output.parts["output current"][0]],
        output_context_text=context,
        output_current_text=current,
    )


def _spoken(
    model: Model, arguments: ContextArguments, run: Mapping[str, Any], *, needs_split: bool
) -> tuple[Speech, _Whole]:
    """What the model generates, and what it was given."""
    part, texts = "current", {}
    if needs_split:
        part, texts = "context", {"current": ""}
    elif arguments.output.has("context"):
        texts = {"context": str(arguments.output_context_text)}
    begun = arguments.output.before(part, "output ", **texts)
    before = _tokenised(model, arguments, _input(arguments), begun, is_open=True)
    return generated(model, Ids(before.source_ids, before.target.ids, 0).prompt, arguments, run), before


def _of_speech(
    model: Model, arguments: ContextArguments, before: _Whole, speech: Speech, spans: dict[str, tuple[int, int]]
) -> Compared:
    n_before, shift = len(before.target.ids), len(before.output.text)
    text = before.output.text + speech.text
    moved = [Piece(one.id, one.text, one.start + shift, one.stop + shift, one.is_hidden) for one in speech.pieces]
    pieces = (*pieces_of(before.target), *moved)
    parts = {**before.output.parts, **{name: (start + shift, stop + shift) for name, (start, stop) in spans.items()}}
    output = Filled(text, parts)
    part = part_of(pieces, text, parts["output current"])
    begun = text[pieces[part.positions[0]].start : parts["output current"][0]]
    if begun.strip():
        raise CallerError(
            f"the context of the output ends inside of a token, behind {begun!r}: end it one token earlier"
        )
    is_split = "output context" in spans
    here = part.positions[0] if is_split else n_before
    ids = tuple(piece.id for piece in pieces[: part.positions[-1] + 1])
    bare = _contextless_output(arguments).before("current", "output ")
    without = _tokenised(model, arguments, _contextless_input(arguments), bare, is_open=True)
    context = output.parts.get("output context")
    start, stop = output.parts["output current"]
    return Compared(
        contextual=Ids(before.source_ids, ids, here),
        contextless=Ids(without.source_ids, without.target.ids + ids[here:], len(without.target.ids)),
        current=part,
        input_context=_input_context(before),
        output_context=_part(pieces, output, "output context"),
        text=text,
        stops=tuple(piece.stop for piece in pieces[: len(ids)]),
        text_from=start if is_split else shift,
        contextless_text=without.output.text + (arguments.decoder_input_output_separator if is_split else ""),
        output_context_text=None if context is None else text[slice(*context)],
        output_current_text=text[start:stop],
    )


def _input_context(whole: _Whole) -> Part | None:
    return _part(pieces_of(whole.tokens), whole.given, "input context")


def _part(pieces: Sequence[Piece], filled: Filled, name: str) -> Part | None:
    return part_of(pieces, filled.text, filled.parts[name]) if name in filled.parts else None


def _first(pieces: Sequence[Piece], filled: Filled) -> int:
    """Where the current output begins. Raises ``CallerError`` where no token predicts it."""
    places = positions_in(pieces, filled.text, *filled.parts["output current"])
    if not places:
        raise CallerError(f"the current output is no token of {filled.text!r}")
    if places[0] == 0:
        raise CallerError(
            "the current output begins with the very first token, which nothing predicts: the tokenizer puts no token "
            "before a text, so give an input"
        )
    return places[0]


def _check_border(*ends: tuple[Piece, Filled]) -> None:
    """Raises ``CallerError`` where the current output's first token holds letters of what stands before it, and others
    with the contexts than without."""
    begun = [filled.text[piece.start : filled.parts["output current"][0]].strip() for piece, filled in ends]
    if any(begun) and len({piece.id for piece, _ in ends}) > 1:
        raise CallerError(
            f"the current output begins inside of a token ({ends[0][0].text!r} with contexts, {ends[1][0].text!r} "
            "without): put a blank or another separator before it"
        )
