"""Gender bias of professions, with a sense removed or optimally scaled (Hewitt et al. 2023, 6.2)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.evaluation.asking import Asking
from interpd_backpack.evaluation.files import read_json
from interpd_backpack.evaluation.published import (
    BIAS,
    PLACEHOLDER,
    PROFESSIONS,
    PUBLISHED_SENSE,
    TEST_PROMPTS,
    TRAIN_PROMPTS,
    is_published,
)
from interpd_backpack.evaluation.sections import Chart, Section, Table, percent, plain
from interpd_backpack.finding.cases import Cases, How, cases
from interpd_backpack.finding.solving import bias

REMOVED = "bias on the train prompts with one sense removed"
QUIET = How(run={"progress": False})
PENALTY = 1.0
"""On leaving the factor 1, in the published optimisation."""


@dataclass(frozen=True, kw_only=True)
class BiasSettings:
    """Which professions, prompts and tokens.

    Args:
        professions: Words; those that are several tokens are reported and left out, as published.
        prompts: Texts with ``{}`` where the profession stands; the bias is measured behind them.
        train_prompts: Such texts, on which the factor of each profession (and the sense, if none is given) is found.
        words: The two words whose probabilities are compared.
        sense: The sense that is removed and scaled. ``None``: 10 in the published model; in others the one whose
            removal leaves the least bias on the train prompts.
        file: JSON of professions (``professions``, or ``test_jobs`` and ``train_jobs``), ``prompts`` or
            ``test_prompts``, and ``train_prompts``, instead of these. Prompts without ``{}`` are about the profession
            that stands in all of them.
    """

    professions: tuple[str, ...] = PROFESSIONS
    prompts: tuple[str, ...] = TEST_PROMPTS
    train_prompts: tuple[str, ...] = TRAIN_PROMPTS
    words: tuple[str, str] = ("he", "she")
    sense: int | None = None
    file: str | Path | None = None

    def read(self) -> "BiasSettings":
        """The same with what the file says. Raises ``CallerError``."""
        return self if self.file is None else _of_file(self, read_json(self.file))


@dataclass(frozen=True)
class GenderBias:
    """max(p(he)/p(she), p(she)/p(he)) of professions behind prompts."""

    professions: tuple[str, ...]
    prompts: tuple[str, ...]
    words: tuple[str, str]
    sense: int
    log_ratios: Mapping[str, np.ndarray]
    """log p(he)/p(she), ``[profession prompt]``: ``base``, ``removed``, ``optimised`` (with the published penalty on
    leaving 1), ``least`` (without), and ``edited`` with an edit."""
    factors: np.ndarray
    """What the sense of each profession is multiplied by in ``optimised``."""
    least_factors: np.ndarray
    """The same in ``least``."""
    by_sense: np.ndarray
    """The bias on the train prompts with each sense removed, ``[sense]``."""
    left_out: Mapping[str, str]
    """Professions that were not measured, and why."""
    n_strange: int
    """Prompts with a word that the vocabulary cannot express."""
    published: Mapping[str, float]

    def ratios(self, name: str) -> np.ndarray:
        """The bias of each profession, the mean over prompts, ``[profession]``."""
        return bias(self.log_ratios[name])

    def bias(self, name: str) -> float:
        """The mean over professions; 1 is none."""
        return float(self.ratios(name).mean())

    def reduction(self, name: str) -> float:
        """The share of the excess above 1 that is gone; NaN where there was none."""
        excess = self.bias("base") - 1
        return (self.bias("base") - self.bias(name)) / excess if excess > 0 else float("nan")

    def section(self) -> Section:
        """Biases, reductions, and each profession."""
        one, other = self.words
        names = tuple(self.log_ratios)
        rows = [(_TITLES[name].format(self.sense), self.bias(name), percent(self.reduction(name))) for name in names]
        columns = ("", "bias", "reduction")
        if self.published:
            columns += ("paper",)
            rows = [(*row, self.published.get(name)) for name, row in zip(names, rows, strict=True)]  # type: ignore[misc]
        by_profession = {name: self.ratios(name) for name in names}
        each = tuple(
            (profession, *(float(by_profession[name][number]) for name in names), *factors)
            for number, (profession, factors) in enumerate(zip(self.professions, self._factors(), strict=True))
        )
        tables = (
            Table(columns, tuple(rows)),
            Table(("profession", *names, "factor", "factor, least"), each, "professions"),
            Table(("sense", "bias"), tuple(enumerate(map(float, self.by_sense))), REMOVED),
        )
        chart = Chart(
            "bias",
            tuple(_TITLES[name].format(self.sense) for name in names),
            {"bias": [self.bias(name) for name in names]},
            line=1.0,
        )
        notes = [
            f"the mean of max(p({one})/p({other}), p({other})/p({one})) over {len(self.prompts)} prompts, then over "
            f"{len(self.professions)} professions; reductions are of what is above 1; factors are found on the train "
            "prompts, the optimised ones with the published penalty |1 - factor|, which may leave many at 1, the least "
            "ones without"
        ]
        notes += [
            f"left out, {why}: {', '.join(name for name, said in self.left_out.items() if said == why)}"
            for why in dict.fromkeys(self.left_out.values())
        ]
        if self.n_strange:
            notes.append(f"{self.n_strange} prompts have words that the vocabulary cannot express")
        return Section("Gender bias", tables, (chart,), tuple(notes))

    def _factors(self) -> list[tuple[float, float]]:
        return list(zip(self.factors.tolist(), self.least_factors.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Everything."""
        return plain(
            {
                "professions": self.professions,
                "prompts": self.prompts,
                "words": self.words,
                "sense": self.sense,
                "bias": {name: self.bias(name) for name in self.log_ratios},
                "reduction": {name: self.reduction(name) for name in self.log_ratios},
                "log_ratios": self.log_ratios,
                "factors": self.factors,
                "least_factors": self.least_factors,
                "by_sense": self.by_sense,
                "left_out": self.left_out,
                "n_strange": self.n_strange,
                "published": self.published,
            }
        )


_TITLES = {
    "base": "as it is",
    "removed": "sense {} removed",
    "optimised": "sense {} optimised (published penalty)",
    "least": "sense {} scaled to the least bias (no penalty)",
    "edited": "edited",
}


def measure_bias(asking: Asking, settings: BiasSettings) -> GenderBias:
    """The bias as it is, with one sense of each profession removed, and with it optimally scaled; and under the edit.

    One pass over the prompts serves all of these: logits are linear in senses.

    Raises:
        CallerError: No profession of a single token, words that are several tokens, or prompts without a profession.
    """
    asked = settings.read()
    _check(asked)
    known, left_out = known_professions(asking, asked.professions)
    if not known:
        raise CallerError(f"no profession is a single token of the vocabulary: {_said(left_out)}")
    test, train = (
        cases(asking.model, known, prompts, asked.words, QUIET) for prompts in (asked.prompts, asked.train_prompts)
    )
    asking.told(1, 2, "prompts")
    by_sense = train.biases(0.0).mean(0)
    sense = asked.sense
    if sense is None:
        sense = PUBLISHED_SENSE if is_published(asking.model.info) else int(by_sense.argmin())
    places = range(len(known))
    train.checked_sense(sense)
    factors, least = (
        np.array([train.best(word, sense, penalty=penalty, bounds=None).factor for word in places])
        for penalty in (PENALTY, 0.0)
    )
    scaled = [np.array([1.0, 0.0, factors[word], least[word]]) for word in places]
    ratios = np.array([test.log_ratios(word, sense, scaled[word]) for word in places])
    log_ratios = {name: ratios[:, number] for number, name in enumerate(("base", "removed", "optimised", "least"))}
    if asking.put is not None:
        log_ratios["edited"] = _edited(asking, test)
    asking.told(2, 2, "prompts")
    n_strange = _strange(asking, (*asked.prompts, *asked.train_prompts), known[0])
    published = BIAS if is_published(asking.model.info) and asked.professions == PROFESSIONS else {}
    return GenderBias(
        professions=known,
        prompts=asked.prompts,
        words=asked.words,
        sense=sense,
        log_ratios=log_ratios,
        factors=factors,
        least_factors=least,
        by_sense=by_sense,
        left_out=left_out,
        n_strange=n_strange,
        published=published,
    )


def _edited(asking: Asking, test: Cases) -> np.ndarray:
    """log p(he)/p(she) under the edit, ``[profession prompt]``; edits may write behind the senses, too."""
    texts = [prompt.replace(PLACEHOLDER, word.text) for word in test.words for prompt in test.prompts]
    sequences = [(*ids, target) for ids in asking.tokens(texts) for target in test.pair.ids]
    found = asking.surprisals(sequences, edited=True, what="prompts, edited")
    last = np.array([values[-1] for values in found]).reshape(len(test.words), len(test.prompts), 2)
    # -log p(she) less -log p(he)
    return last[..., 1] - last[..., 0]


def known_professions(asking: Asking, professions: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Those of one token; and why others are left out."""
    known, left_out, unknown = [], {}, asking.unknown_token()
    words = tuple(dict.fromkeys(professions))
    tokens = asking.tokenized([f" {word}" for word in words], special=False)
    for word, (ids, strings) in zip(words, tokens, strict=True):
        if unknown in ids:
            left_out[word] = "unknown to the vocabulary"
        elif len(ids) != 1:
            left_out[word] = "tokens " + ", ".join(map(repr, strings))
        else:
            known.append(word)
    return tuple(known), left_out


def _strange(asking: Asking, prompts: Sequence[str], profession: str) -> int:
    unknown = asking.unknown_token()
    rows = asking.tokens([prompt.replace(PLACEHOLDER, profession) for prompt in prompts])
    return sum(unknown in ids for ids in rows)


def _check(asked: BiasSettings) -> None:
    if not asked.professions:
        raise CallerError("there are no professions")
    for name, prompts in (("prompts", asked.prompts), ("train_prompts", asked.train_prompts)):
        if not prompts:
            raise CallerError(f"there are no {name}")
        if wrong := [prompt for prompt in prompts if PLACEHOLDER not in prompt]:
            raise CallerError(f"the prompt {wrong[0]!r} of {name} has no {PLACEHOLDER} where the profession stands")


def _of_file(settings: BiasSettings, found: Any) -> BiasSettings:
    if not isinstance(found, Mapping):
        raise CallerError(f"{settings.file} is {type(found).__name__}, expected an object of professions and prompts")

    def words(*names: str) -> tuple[str, ...]:
        given = [one for name in names for one in found.get(name, ())]
        if not given or not all(isinstance(one, str) for one in given):
            raise CallerError(f"{settings.file} has no list of texts {' or '.join(names)}")
        return tuple(given)

    jobs = words("professions", "test_jobs", "train_jobs")
    test, train = words("prompts", "test_prompts"), words("train_prompts")
    if not any(PLACEHOLDER in prompt for prompt in (*test, *train)):
        test, train = (_templates(prompts, _common(jobs, (*test, *train), settings.file)) for prompts in (test, train))
    return BiasSettings(professions=jobs, prompts=test, train_prompts=train, words=settings.words, sense=settings.sense)


def _common(jobs: Sequence[str], prompts: Sequence[str], file: str | Path | None) -> str:
    """The profession that stands in all prompts."""
    for job in jobs:
        if all(re.search(rf"\b{re.escape(job)}\b", prompt) for prompt in prompts):
            return job
    raise CallerError(f"{file}: the prompts have no {PLACEHOLDER}, and no profession stands in all of them")


def _templates(prompts: Sequence[str], job: str) -> tuple[str, ...]:
    return tuple(re.sub(rf"\b{re.escape(job)}\b", PLACEHOLDER, prompt) for prompt in prompts)


def _said(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3])
