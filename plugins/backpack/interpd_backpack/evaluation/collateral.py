"""What else an edit does: how far predictions on control prompts move, and which tokens move most."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interpd.errors import CallerError, InvalidRequest
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.sections import Chart, Section, Table, percent, plain
from interpd_backpack.words import spelt

CONTROL_PROMPTS = (
    "The weather today is",
    "She opened the door and saw",
    "In 1998, the company announced that",
    "The capital of the country is",
    "He told his friends that they",
    "My favourite food is",
    "The results of the study show that",
    "Once upon a time, there was a",
)
"""Where nobody says what an edit should leave alone."""

LOGITS_AT_ONCE = 1 << 24
"""Logits of one request, of both forms of the model."""
MOST_MOVED = 10
LONGEST_FLIPS = 20
"""Flips with a row in the table."""


@dataclass(frozen=True, kw_only=True)
class CollateralSettings:
    """What predictions are looked at.

    Args:
        prompts: Control prompts: texts on which nothing should change. Every position is a prediction; of those that
            are longer than the model takes, as many as it takes.
        n_moved: How many tokens are told whose probability rose and fell most.
    """

    prompts: tuple[str, ...] = CONTROL_PROMPTS
    n_moved: int = MOST_MOVED


@dataclass(frozen=True)
class Flip:
    """A prediction whose most probable token became another one."""

    prompt: int
    position: int
    before: int
    after: int


@dataclass(frozen=True)
class Collateral:
    """How an edit changes predictions that it is not about."""

    prompts: tuple[str, ...]
    strings: tuple[tuple[str, ...], ...]
    """Of each prompt its tokens."""
    divergences: tuple[np.ndarray, ...]
    """KL(as it is || edited) behind each token of each prompt, in nats."""
    flips: tuple[Flip, ...]
    risen: tuple[tuple[int, float], ...]
    """Tokens and how much their probability rises on average over all positions, most first."""
    fallen: tuple[tuple[int, float], ...]
    spelling: dict[int, str]
    """The text of each token id that is named here."""
    n_cut: int = 0
    """Control prompts whose end was left out, for they are longer than the model takes."""

    @property
    def n_predictions(self) -> int:
        """Positions of all prompts."""
        return sum(map(len, self.divergences))

    @property
    def mean(self) -> float:
        """The mean divergence over all positions."""
        return float(np.concatenate(self.divergences).mean())

    @property
    def worst(self) -> float:
        """The largest divergence."""
        return float(np.concatenate(self.divergences).max())

    @property
    def flipped(self) -> float:
        """The share of predictions whose first token is another one."""
        return len(self.flips) / self.n_predictions

    def section(self) -> Section:
        """Divergences by prompt, flips, and the tokens that moved most."""
        by_prompt = [
            (prompt, len(values), float(values.mean()), float(values.max()))
            for prompt, values in zip(self.prompts, self.divergences, strict=True)
        ]
        by_prompt.append(("all", self.n_predictions, self.mean, self.worst))
        tables = [Table(("control prompt", "predictions", "mean KL", "largest KL"), tuple(by_prompt))]
        if moved := self._moved():
            tables.append(Table(("risen", "by", "fallen", "by "), tuple(moved), "tokens that moved most"))
        if self.flips:
            rows = tuple(map(self._flip_row, self.flips[:LONGEST_FLIPS]))
            tables.append(Table(("behind", "before", "after"), rows, "first places that changed"))
        notes = [
            f"{percent(self.flipped)} of {self.n_predictions} predictions have another first token; KL is of the model "
            "as it is from the edited one, in nats; tokens move by the mean change of their probability"
        ]
        if self.n_cut:
            longest = max(map(len, self.strings))
            notes.append(
                f"{self.n_cut} of {len(self.prompts)} control prompts are longer than the {longest} tokens that the "
                "model takes: what comes behind these is left out"
            )
        if len(self.flips) > LONGEST_FLIPS:
            notes.append(f"{len(self.flips) - LONGEST_FLIPS} more flips are in the JSON")
        chart = Chart("mean KL (nats)", self.prompts, {"KL": [row[2] for row in by_prompt[:-1]]})
        return Section("Collateral of the edit", tuple(tables), (chart,), tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Everything."""
        flips = [
            {"prompt": one.prompt, "position": one.position, "before": one.before, "after": one.after}
            for one in self.flips
        ]
        found = {"prompts": self.prompts, "tokens": self.strings, "kl": self.divergences, "kl_mean": self.mean}
        found |= {"flips": flips, "flipped": self.flipped, "risen": self.risen, "fallen": self.fallen}
        return plain(found | {"n_cut": self.n_cut, "strings": self.spelling})

    def _moved(self) -> list[tuple[Any, ...]]:
        n_rows = max(len(self.risen), len(self.fallen))
        rows = []
        for number in range(n_rows):
            sides = [side[number] if number < len(side) else None for side in (self.risen, self.fallen)]
            rows.append(tuple(cell for one in sides for cell in self._told(one)))
        return rows

    def _told(self, one: tuple[int, float] | None) -> tuple[str | None, float | None]:
        return (None, None) if one is None else (self.spelling[one[0]], one[1])

    def _flip_row(self, flip: Flip) -> tuple[str, ...]:
        said = "".join(self.strings[flip.prompt][: flip.position + 1])
        return said, self.spelling[flip.before], self.spelling[flip.after]


def measure_collateral(asking: Asking, settings: CollateralSettings) -> Collateral:
    """How the edit changes predictions on control prompts.

    Raises:
        CallerError: No edit, or no prompt.
    """
    if asking.put is None:
        raise CallerError("collateral is that of an edit: give one (edit=...)")
    if not settings.prompts:
        raise CallerError("there are no control prompts")
    tokens, n_cut = _tokens(asking, settings.prompts)
    found = _Found(np.zeros(0), [], [])
    for part in _parts([len(ids) for ids, _ in tokens], asking.model.info.sizes["d_vocab"]):
        found.take(_asked(asking, [ids for ids, _ in tokens[part]]), part.start)
        asking.told(part.stop, len(tokens), "control prompts")
    return replace(found.collateral(asking, settings, [strings for _, strings in tokens]), n_cut=n_cut)


def _tokens(asking: Asking, prompts: Sequence[str]) -> tuple[list[tuple[tuple[int, ...], tuple[str, ...]]], int]:
    """Ids and strings of as many tokens of each prompt as the model takes, and how many prompts are longer."""
    try:
        return asking.tokenized(prompts), 0
    except InvalidRequest:
        # one is too long; which, nobody says
        most = asking.model.info.max_positions
    found, n_cut = [], 0
    for prompt in prompts:
        ids = asking.text_tokens(prompt)
        n_cut += bool(most) and len(ids) > most
        kept = ids[: most or None]
        found.append((kept, spelt(asking.model, kept)))
    return found, n_cut


@dataclass
class _Found:
    moved: np.ndarray
    divergences: list[np.ndarray]
    flips: list[Flip]

    def take(self, result: dict[str, Any], first: int) -> None:
        """Adds what came of one request."""
        moved = np.sum(result["moved"], axis=0)
        self.moved = moved if not self.moved.size else self.moved + moved
        for number, divergence in enumerate(result["divergences"]):
            # rounding makes tiny ones negative
            self.divergences.append(np.maximum(divergence, 0.0))
            before, after = result["before"][number], result["after"][number]
            places = np.flatnonzero(before != after)
            self.flips += [Flip(first + number, int(at), int(before[at]), int(after[at])) for at in places]

    def collateral(self, asking: Asking, settings: CollateralSettings, strings: list[tuple[str, ...]]) -> Collateral:
        """The report."""
        n_tokens = asking.model.info.sizes["d_vocab"]
        # rows of the embedding behind the tokenizer's last token have no text
        mean = self.moved[:n_tokens] / sum(map(len, self.divergences))
        order = np.argsort(-mean, kind="stable")
        risen = tuple((int(one), float(mean[one])) for one in order[: settings.n_moved] if mean[one] > 0)
        fallen = tuple((int(one), float(mean[one])) for one in order[::-1][: settings.n_moved] if mean[one] < 0)
        named = sorted({*(one for one, _ in risen + fallen), *(id_ for one in self.flips for id_ in _ids(one))})
        known = [one for one in named if one < n_tokens]
        spelling = dict(zip(known, spelt(asking.model, known), strict=True)) if known else {}
        spelling |= {one: f"(padding {one})" for one in named if one >= n_tokens}
        return Collateral(
            settings.prompts, tuple(strings), tuple(self.divergences), tuple(self.flips), risen, fallen, spelling
        )


def _ids(flip: Flip) -> tuple[int, int]:
    return flip.before, flip.after


def _asked(asking: Asking, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    t = asking.model.trace(progress=False)
    assert asking.put is not None
    saved: dict[str, list[Any]] = {"divergences": [], "before": [], "after": [], "moved": []}
    for ids in prompts:
        plain_one, edited = t.prompt(list(ids)), t.prompt(list(ids))
        asking.put(edited)
        # in float64: small edits are what is looked for
        before, after = (one.logits[0].double().log_softmax(-1) for one in (plain_one, edited))
        saved["divergences"].append((before.exp() * (before - after)).sum(-1))
        saved["before"].append(before.argmax(-1))
        saved["after"].append(after.argmax(-1))
        saved["moved"].append((after.exp() - before.exp()).sum(0))
    t.save(**saved)
    result = t.run()
    return {name: result[name] for name in saved}


def _parts(lengths: Sequence[int], n_vocabulary: int) -> list[slice]:
    """Prompts in runs whose logits fit."""
    most = max(1, LOGITS_AT_ONCE // (2 * n_vocabulary))
    parts, start, total = [], 0, 0
    for number, length in enumerate(lengths):
        if number > start and (total + length > most or number - start == MOST_PROMPTS):
            parts.append(slice(start, number))
            start, total = number, 0
        total += length
    return [*parts, slice(start, len(lengths))]


MOST_PROMPTS = 64
"""Control prompts of one request; each is two prompts there."""
