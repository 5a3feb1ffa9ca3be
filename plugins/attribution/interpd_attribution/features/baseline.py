"""Baselines as data: what inputs are compared with, in words or ids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from interpd.errors import CallerError
from interpd.graph.run import Tokens
from interpd_attribution.features.segments import Segments

TextOrIds: TypeAlias = str | Sequence[int]
Spell: TypeAlias = Callable[[TextOrIds], Sequence[int]]
"""From a text to its token ids, as the prompt was tokenised (ids are what they are)."""

Kind: TypeAlias = Literal["unk", "pad", "mask", "mean", "zeros", "noise"]
KINDS = ("unk", "pad", "mask", "mean", "zeros", "noise")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What inputs are compared with.

    A kind, or one of: ``instead``, other prompts of as many tokens; ``replaced``, other texts for some features;
    ``drawn``, a function that draws prompts. Several are a distribution, over which methods average. What was generated
    is kept as it is; of an encoder-decoder model these are sources.

    Raises ``CallerError`` for several of them at once, and for what is none.
    """

    kind: Kind = "unk"
    """A token, the mean of all embeddings, zeros, or random vectors as long as the inputs."""
    instead: TextOrIds | Sequence[TextOrIds] | None = None
    """A counterfactual prompt (text or ids), or several."""
    replaced: Mapping[str, TextOrIds | Sequence[TextOrIds]] | None = None
    """For labels of features another text each, or several; all other features stay."""
    drawn: Callable[[np.random.Generator, tuple[int, ...]], Sequence[int]] | None = None
    """From a generator and the prompt's ids to other ids, called ``n`` times."""
    n: int = 1
    """How many are drawn (``drawn`` and ``kind="noise"``)."""
    fill: TextOrIds | None = None
    """One token that is put behind texts that are too short; ``None``: they are refused."""
    seed: int = 0
    include_eos: bool = False
    """Replace end tokens too (kinds only; otherwise they stay)."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CallerError(f"baseline {self.kind!r}: expected one of {', '.join(KINDS)}, or a Baseline with texts")
        given = [name for name in ("instead", "replaced", "drawn") if getattr(self, name) is not None]
        if len(given) > 1 or (given and (self.kind != "unk" or self.include_eos)):
            also = given[1] if len(given) > 1 else "kind or include_eos"
            raise CallerError(f"a baseline is one thing: {given[0]} and {also} do not go together")
        if self.n < 1 or (self.n > 1 and self.drawn is None and self.kind != "noise"):
            raise CallerError(f"n is {self.n}: only drawn baselines and noise have more than one, or less")

    def constants(
        self, tokens: Tokens, spell: Spell, *, start: int, segments: Segments | None = None
    ) -> Mapping[str, Any]:
        """The constants of a method: ``baseline``, ``baseline_ids``, ...; those that have their defaults are left out.

        Args:
            tokens: Of the run.
            spell: Tokenises texts, without special tokens for those of features (``replaced``).
            start: The first attributed position of the target; a prompt of a decoder-only model ends before it.
            segments: The features, for ``replaced``.

        Raises:
            CallerError: Another number of tokens than the prompt has.
        """
        if self.instead is None and self.replaced is None and self.drawn is None:
            said = {"baseline": self.kind, "n_baselines": self.n, "include_eos_baseline": self.include_eos}
            usual = {"baseline": "unk", "n_baselines": 1, "include_eos_baseline": False, "seed": 0}
            return {name: value for name, value in {**said, "seed": self.seed}.items() if value != usual[name]}
        prompt = tokens.ids if tokens.target is not None else tokens.ids[:start]
        rest = tokens.target.ids if tokens.target is not None else tokens.ids[start:]
        rows = list(self._rows(prompt, spell, segments))
        found = tuple(id_ for row in rows for id_ in (*row, *rest[: len(prompt) + len(rest) - len(row)]))
        return {"baseline": "ids", "baseline_ids": found, **({"seed": self.seed} if self.seed else {})}

    def _rows(self, prompt: tuple[int, ...], spell: Spell, segments: Segments | None) -> list[tuple[int, ...]]:
        if self.drawn is not None:
            generator = np.random.default_rng(self.seed)
            return [
                self._fitted(self.drawn(generator, prompt), len(prompt), spell, "a drawn one") for _ in range(self.n)
            ]
        if self.replaced is not None:
            return self._replacing(prompt, spell, segments)
        return [self._fitted(spell(one), len(prompt), spell, repr(one)) for one in _several(self.instead)]

    def _replacing(self, prompt: tuple[int, ...], spell: Spell, segments: Segments | None) -> list[tuple[int, ...]]:
        if segments is None:
            raise CallerError("replaced= names features by their labels: give features, too")
        unknown = [label for label in self.replaced or {} if label not in segments.labels]
        if unknown:
            raise CallerError(f"replaced: no feature {unknown[0]!r}; there are {', '.join(map(repr, segments.labels))}")
        choices = {label: _several(given) for label, given in (self.replaced or {}).items()}
        n = max(map(len, choices.values()), default=0)
        uneven = [label for label, texts in choices.items() if len(texts) not in (1, n)]
        if uneven or not n:
            raise CallerError(
                f"replaced: features have one text each, or all the same number; {uneven or 'none'} has not"
            )
        rows = []
        for number in range(n):
            row = list(prompt)
            for label, texts in choices.items():
                places = segments.positions(segments.labels.index(label))
                text = texts[number % len(texts)]
                for place, id_ in zip(places, self._fitted(spell(text), len(places), spell, repr(text)), strict=True):
                    row[place] = id_
            rows.append(tuple(row))
        return rows

    def _fitted(self, ids: Sequence[int], n: int, spell: Spell, what: str) -> tuple[int, ...]:
        """The ids, as many as ``n``."""
        found = tuple(int(id_) for id_ in ids)
        if len(found) < n and self.fill is not None:
            filler = tuple(spell(self.fill))
            if len(filler) != 1:
                raise CallerError(f"fill is {self.fill!r}, which is {len(filler)} tokens; expected one")
            found += filler * (n - len(found))
        if len(found) != n:
            way = "give fill=, a token to put behind it" if len(found) < n else "shorten it"
            raise CallerError(
                f"baseline {what} has {len(found)} tokens, expected {n}, one for each that it replaces: {way}, or name "
                "a kind ('unk', 'mean', ...)"
            )
        return found


def _several(given: Any) -> list[TextOrIds]:
    """One or several texts or lists of ids, as a list of them."""
    if isinstance(given, str):
        return [given]
    items = list(given)
    return [items] if all(isinstance(item, (int, np.integer)) for item in items) else items
