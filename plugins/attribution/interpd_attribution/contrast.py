"""Foils: what might have come instead, which of its tokens stand for which attributed ones, and in which context.

    model.attribute("The nurse said that", " she", contrast=" he", target="contrast_prob_diff")
    Contrast(" he", alignments=[(6, 6)])            # positions of the whole sequences, as Inseq has them
    Contrast([" he", " they"])                      # several foils: the mean over them
    Contrast("The doctor said that she", whole=True)    # another context
    Contrast(" by train", as_wholes=True)           # span against span, of any lengths

An aligner is a function of the strings of two sequences' tokens; it gives pairs of positions. Packages offer theirs
through the entry-point group ``interpd_attribution.aligners``; ``alignments`` names it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib.metadata import entry_points
from typing import Any, Literal, TypeAlias

import numpy as np

from interpd.errors import CallerError

GROUP = "interpd_attribution.aligners"

UNKNOWN = re.compile(r"\W*(?:<unk>|\[UNK\]|<\|unk\|>)\W*", re.IGNORECASE)
"""What vocabularies call a token that stands for any text that they cannot spell."""

TextOrIds: TypeAlias = str | Sequence[int]
Pairs: TypeAlias = Sequence[tuple[int, int]]
Aligner: TypeAlias = Callable[[Sequence[str], Sequence[str]], Pairs]
"""From the strings of the target's and of the foil's tokens to pairs of positions (target, foil)."""


@dataclass(frozen=True)
class Spelling:
    """How a model spells texts; ids are passed on as they are."""

    continued: Callable[[TextOrIds], Sequence[int]]
    """A continuation, as a whole target sequence behind the attributed prompt (or the decoder's start)."""
    whole: Callable[[TextOrIds], Sequence[int]]
    """A whole target sequence: prompt and continuation, or what a decoder is given, start token first."""
    source: Callable[[TextOrIds], Sequence[int]]
    """A source of an encoder-decoder model."""
    strings: Callable[[Sequence[int]], Sequence[str]]
    """The string of each token."""


@dataclass(frozen=True)
class Foils:
    """Foils as ids, aligned to one sequence."""

    ids: tuple[tuple[int, ...], ...]
    """Whole target sequences."""
    positions: tuple[tuple[int, ...], ...]
    """For each foil the position that stands for each attributed token; empty where it is contrasted as a whole."""
    strings: tuple[tuple[str, ...], ...]
    """Of each foil's tokens."""
    constants: Mapping[str, Any]
    """Of a method: ``contrast_ids``, ``contrast_positions``, ..."""
    warnings: tuple[str, ...] = ()
    """What the numbers may not mean that the foils were given for."""

    def labels(self, tokens: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """The attributed tokens (text, id) as they are shown: ``foil → target`` with id -1 where they differ."""
        shown = []
        for number, (text, id_) in enumerate(tokens):
            others: list[str] = []
            for ids, strings, positions in zip(self.ids, self.strings, self.positions, strict=True):
                if positions and ids[positions[number]] != id_:
                    others.append(strings[positions[number]])
            shown.append((f"{' | '.join(dict.fromkeys(others))} → {text}", -1) if others else (text, id_))
        return shown


@dataclass(frozen=True)
class Contrast:
    """What the target is contrasted with.

    Raises ``CallerError`` for what cannot go together.
    """

    foils: TextOrIds | Sequence[TextOrIds] | None = None
    """One alternative to the continuation, or several; ``None``, with another source: the target itself."""
    whole: bool = False
    """The foils are whole sequences, with prompts of their own, as in Inseq."""
    source: TextOrIds | None = None
    """Another source for the foils (encoder-decoder models)."""
    alignments: Pairs | Sequence[Pairs] | str | Aligner | None = None
    """Pairs of positions (target, foil), of the whole sequences, for one foil or for each; ``"auto"``, the name of an
    installed aligner, or a function. Attributed tokens without a pair are counted from the ends of both. Left out, a
    foil that is longer than what is attributed and comes in the continuation's place is counted from its beginning."""
    force_inputs: bool | None = None
    """Score foils in contexts of their own in the target, not only in step scores. ``None``: only ``as_wholes``, which
    needs it."""
    shared: int | None = None
    """How many first tokens of the foils are the same features as the target's; ``None``: all that are equal."""
    as_wholes: bool = False
    """Contrast the foils as wholes, of any length, with all attributed tokens together (``span=True``)."""
    beyond: Literal["refuse", "last"] = "refuse"
    """Attributed tokens that have no partner because the foil is too short: an error, or its last token (Inseq)."""

    def __post_init__(self) -> None:
        if self.foils is None and self.source is None:
            raise CallerError("a contrast needs foils, or another source")
        if self.foils is None and (self.whole or self.alignments is not None or self.as_wholes):
            raise CallerError("the foil is the target itself behind another source: leave whole and alignments out")
        if self.as_wholes and (self.alignments is not None or self.force_inputs is False):
            raise CallerError(
                "as_wholes contrasts foils in contexts of their own: leave alignments and force_inputs out"
            )
        if self.beyond not in ("refuse", "last"):
            raise CallerError(f"beyond is {self.beyond!r}, expected 'refuse' or 'last'")

    def resolved(self, target: Sequence[int], start: int, stop: int, spelling: Spelling) -> Foils:
        """The foils of one sequence.

        Args:
            target: Ids of the attributed target sequence, whole.
            start: Its first attributed position.
            stop: The position behind the last one.
            spelling: Of the model.

        Raises:
            CallerError: Foils too short for what is attributed, alignments to positions that there are not.
        """
        target = tuple(target)
        spell = spelling.whole if self.whole else spelling.continued
        given = () if self.foils is None else several(self.foils)
        ids = tuple(tuple(int(id_) for id_ in spell(one)) for one in given)
        constants: dict[str, Any] = {}
        if self.source is not None:
            constants["contrast_source_ids"] = tuple(int(id_) for id_ in spelling.source(self.source))
        is_forced = self.as_wholes if self.force_inputs is None else self.force_inputs
        if is_forced:
            constants["contrast_force_inputs"] = True
        if not ids:
            return Foils((target,), (tuple(range(start, stop)),), (tuple(spelling.strings(target)),), constants)
        strings = tuple(tuple(spelling.strings(one)) for one in ids)
        warnings = tuple(self._doubts(target, given, ids, strings))
        constants["contrast_ids"] = tuple(id_ for one in ids for id_ in one)
        if len(ids) > 1:
            constants["contrast_lengths"] = tuple(map(len, ids))
        if is_forced and (shared := self._n_shared(target, ids)):
            constants["contrast_shared"] = shared
        if self.as_wholes:
            constants["contrast_start"] = self._start(target, ids, start)
            return Foils(ids, ((),) * len(ids), strings, constants, warnings)
        pairs = self._pairs(target, strings, spelling)
        if self._is_counted:
            # in the place of the continuation: its first token stands for the first one
            same = [(position, position) for position in range(start, stop)]
            pairs = [same if len(foil) > stop else () for foil in ids]
        positions = tuple(
            aligned(one, (start, stop), len(foil), beyond=self.beyond) for one, foil in zip(pairs, ids, strict=True)
        )
        if self._is_counted:
            _check_reach(target, start, ids, positions)
        if any(found != _from_the_ends(start, stop, len(foil)) for found, foil in zip(positions, ids, strict=True)):
            constants["contrast_positions"] = tuple(at for found in positions for at in found)
        return Foils(ids, positions, strings, constants, warnings)

    @property
    def _is_counted(self) -> bool:
        """Whether foils come in the place of the continuation, and nobody says what stands for what."""
        return not self.whole and self.alignments is None and self.beyond == "refuse"

    def _doubts(
        self,
        target: Sequence[int],
        given: Sequence[TextOrIds],
        ids: Sequence[Sequence[int]],
        strings: Sequence[Sequence[str]],
    ) -> Iterator[str]:
        """What may be wrong with foils that can be contrasted."""
        for what, foil, names in zip(given, ids, strings, strict=True):
            if foil == tuple(target) and self.source is None:
                yield f"contrast: the foil {what!r} is the target itself, so they differ in nothing"
            known = n_equal(target, foil)
            if isinstance(what, str) and any(map(UNKNOWN.fullmatch, names[known:])) and not UNKNOWN.search(what):
                yield f"contrast: the vocabulary cannot spell the foil {what!r}: its tokens are {list(names[known:])}"
            n_more = len(foil) - len(target)
            if n_more > 0 and self._is_counted and not self.as_wholes:
                yield (
                    f"contrast: the foil {what!r} is longer than the continuation: counted from the beginning of both, "
                    f"its last {n_more} tokens stand for nothing (alignments say what stands for what; a whole against "
                    "a whole: span=True, Contrast(..., as_wholes=True))"
                )

    def _n_shared(self, target: Sequence[int], ids: Sequence[Sequence[int]]) -> int:
        """How many first tokens all foils have in common with the target."""
        equal = min(n_equal(target, one) for one in ids)
        if self.shared is None:
            return equal
        if not 0 <= self.shared <= equal:
            raise CallerError(f"shared is {self.shared}, but the foils begin with {equal} tokens of the target")
        return self.shared

    def _start(self, target: Sequence[int], ids: Sequence[Sequence[int]], start: int) -> int:
        """Where the foils' alternatives begin: behind the attributed prompt, which all of them must have."""
        short = [one for one in ids if len(one) <= start or tuple(one[:start]) != tuple(target[:start])]
        if short and self.whole:
            raise CallerError(
                f"as_wholes: foils begin with the {start} tokens before the attributed ones, and go on behind them"
            )
        if short:
            raise CallerError("as_wholes: a foil has no tokens behind the prompt, or is spelled differently with it")
        return start

    def _pairs(self, target: Sequence[int], strings: Sequence[Sequence[str]], spelling: Spelling) -> Sequence[Pairs]:
        """The pairs of each foil."""
        if self.alignments is None:
            return [()] * len(strings)
        if isinstance(self.alignments, str) or callable(self.alignments):
            align = aligner(self.alignments) if isinstance(self.alignments, str) else self.alignments
            own = spelling.strings(target)
            return [_checked(align(own, other)) for other in strings]
        items = list(self.alignments)
        # a tuple is one pair, as Inseq tells one list of pairs from a list for each sequence
        lists = [items] if not items or _is_pair(items[0]) else items
        if len(lists) != len(strings):
            raise CallerError(f"alignments: {len(lists)} lists of pairs for {len(strings)} foils; give one for each")
        return [_checked(one) for one in lists]


def contrast_of(asked: Any) -> Contrast | None:
    """What was asked for: a ``Contrast``, or foils as text or ids; ``None`` is none."""
    return asked if asked is None or isinstance(asked, Contrast) else Contrast(asked)


def aligned(
    pairs: Pairs, attributed: tuple[int, int], n_foil: int, *, beyond: Literal["refuse", "last"] = "refuse"
) -> tuple[int, ...]:
    """The foil's position for each attributed position; Inseq's rule.

    Of several pairs of one token the first counts that leads to a token which no other has yet, else the first. Tokens
    without a pair are counted from the ends: the last attributed one stands for the foil's last one.

    Args:
        pairs: Positions (target, foil); those of tokens that are not attributed are left alone.
        attributed: Start and stop.
        n_foil: The length of the foil.
        beyond: What becomes of tokens that come before all of the foil's: an error, or its last token.

    Raises:
        CallerError: A pair with a position that the foil has not, a foil that is too short.
    """
    start, stop = attributed
    wrong = [pair for pair in pairs if start <= pair[0] < stop and not 1 <= pair[1] < n_foil]
    if wrong:
        raise CallerError(
            f"alignment {wrong[0]}: something predicts the foil's positions 1 to {n_foil - 1} only; positions are "
            "those of whole sequences, the prompt included"
        )
    ordered = sorted(set(pairs))
    found: dict[int, int] = {}
    for position in range(start, stop):
        partners = [other for own, other in ordered if own == position]
        if partners:
            found[position] = next((one for one in partners if one not in found.values()), partners[0])
    for position, other in zip(range(start, stop), _from_the_ends(start, stop, n_foil), strict=True):
        if position not in found and other < 1 and beyond == "refuse":
            raise CallerError(
                f"the foil has {n_foil} tokens, too few to count {stop - start} attributed ones from the end: give "
                "alignments for all of them, or alignments='auto'"
            )
        found.setdefault(position, other if other >= 1 else n_foil - 1)
    return tuple(found[position] for position in range(start, stop))


def aligner(name: str) -> Aligner:
    """The aligner of that name. Raises ``CallerError`` where there is none."""
    if name == "auto":
        return by_equal_tokens
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise CallerError(
            f"no aligner {name!r}; there are {', '.join(('auto', *sorted(found)))}, or give pairs or a function"
        )
    return found[name].load()


def by_equal_tokens(target: Sequence[str], foil: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs by the longest runs of equal tokens (difflib); what lies between two runs is paired in proportion.

    A token that the foil has nothing for is paired with the foil's token that comes in its place. Needs no model and
    knows no meaning: for reordered or translated text give pairs, or another aligner.
    """
    pairs: list[tuple[int, int]] = []
    blocks = SequenceMatcher(None, target, foil, autojunk=False).get_opcodes()
    for _, start, stop, other_start, other_stop in blocks:
        n = other_stop - other_start
        for number, position in enumerate(range(start, stop)):
            other = other_start + number * n // (stop - start)
            # the first position is predicted by nothing
            pairs.append((position, min(max(other, 1), len(foil) - 1)))
    return pairs


def several(given: Any) -> list[TextOrIds]:
    """One or several texts or lists of ids, as a list of them. Raises ``CallerError`` for none."""
    items: list[Any] = [given] if isinstance(given, str) else list(given)
    if not items:
        raise CallerError("there is no foil: give a text, token ids, or a list of them")
    is_one = all(isinstance(item, (int, np.integer)) for item in items)
    return [items] if is_one else items


def n_equal(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two sequences have in common."""
    pairs = zip(one, other, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _check_reach(
    target: Sequence[int], start: int, ids: Sequence[Sequence[int]], positions: Sequence[Sequence[int]]
) -> None:
    """Raises ``CallerError`` where counting from the ends pairs an attributed token with the beginning of both."""
    for foil, found in zip(ids, positions, strict=True):
        shared = n_equal(target, foil)
        if any(other < min(own, shared) for own, other in enumerate(found, start)):
            raise CallerError(
                f"contrast: the foil is too short for {len(found)} attributed tokens, some would stand against what is "
                "before both: give as many tokens, alignments, or a whole against a whole (span=True, as_wholes=True)"
            )


def _from_the_ends(start: int, stop: int, n_foil: int) -> tuple[int, ...]:
    return tuple(n_foil - (stop - position) for position in range(start, stop))


def _is_pair(item: Any) -> bool:
    return isinstance(item, Sequence) and len(item) == 2 and all(isinstance(one, (int, np.integer)) for one in item)


def _checked(pairs: Any) -> Pairs:
    wrong = [pair for pair in pairs if not _is_pair(pair)]
    if wrong:
        raise CallerError(f"alignment {wrong[0]!r} is no pair of positions (target, foil)")
    return [(int(own), int(other)) for own, other in pairs]
