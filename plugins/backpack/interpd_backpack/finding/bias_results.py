"""What the search for biased senses found."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from interpd.errors import CallerError
from interpd_backpack.asking import plain
from interpd_backpack.edits import Edit, Fingerprint, Scale, Token
from interpd_backpack.finding.cases import Cases
from interpd_backpack.finding.curves import curves_html
from interpd_backpack.finding.solving import Numbers
from interpd_backpack.finding.tables import rows_html, rows_table
from interpd_backpack.views import Shown

SHOWN = 20
"""Rows of a ranking that are shown."""
POINTS = 81
"""Factors of a drawn curve."""


def reduction(base: Numbers | float, after: Numbers | float) -> Numbers:
    """How much of the excess above 1, which is no bias, has gone; NaN where there was none."""
    base, after = np.asarray(base, np.float64), np.asarray(after, np.float64)
    excess = base - 1
    nothing = np.full(np.broadcast(base, after).shape, np.nan)
    return np.divide(base - after, excess, out=nothing, where=(excess > 0) & np.isfinite(base) & np.isfinite(after))


@dataclass(frozen=True)
class Ranked:
    """One sense of one word, scaled."""

    word: str
    sense: int
    base: float
    """The bias as it is."""
    after: float
    """The bias with the sense scaled."""
    reduction: float
    """Share of the excess above 1 that has gone."""


@dataclass(frozen=True, eq=False, repr=False)
class BiasRanking(Shown):
    """How much bias each sense of each word carries, from one forward pass."""

    cases: Cases
    """The numbers behind it; any factor can be asked of them."""
    factor: float
    """What each sense was scaled by."""

    @property
    def base(self) -> Numbers:
        """The bias of each word as it is, ``[word]``."""
        return self.cases.base

    @property
    def after(self) -> Numbers:
        """The bias of each word with each sense scaled, ``[word sense]``."""
        return self.cases.biases(self.factor)

    @property
    def ranking(self) -> tuple[Ranked, ...]:
        """Every sense of every word, that with the greatest reduction first."""
        base, after = self.base, self.after
        shares = reduction(base[:, None], after)
        rows = [
            Ranked(one.text, sense, float(base[row]), float(after[row, sense]), float(shares[row, sense]))
            for row, one in enumerate(self.cases.words)
            for sense in range(self.cases.n_senses)
        ]
        return tuple(sorted(rows, key=lambda one: (np.isnan(one.reduction), -np.nan_to_num(one.reduction))))

    @property
    def by_sense(self) -> Numbers:
        """Reduction of the mean bias over words when that sense of all words is scaled, ``[sense]``."""
        return reduction(self.base.mean(), self.after.mean(0))

    @property
    def best_sense(self) -> int:
        """The sense with the greatest reduction of the mean bias."""
        return int(self.after.mean(0).argmin())

    def curve(self, word: str, sense: int, factors: Sequence[float]) -> Numbers:
        """The bias of a word with a sense scaled by each factor; nothing is asked of the model."""
        return self.cases.bias(self.cases.index_of(word), self.cases.checked_sense(sense), np.asarray(factors))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            **_about(self.cases),
            "factor": self.factor,
            "base": plain(self.base),
            "after": plain(self.after),
            "reduction_by_sense": plain(self.by_sense),
        }

    def _heading(self) -> str:
        return f"bias {self.cases.pair} with senses scaled by {self.factor:g}: mean {self.base.mean():.4g} as it is"

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (one.word, str(one.sense), f"{one.base:.4g}", f"{one.after:.4g}", _percent(one.reduction))
            for one in self.ranking[:SHOWN]
        ]

    def _senses(self) -> list[tuple[str, ...]]:
        means, shares = self.after.mean(0), self.by_sense
        order = np.argsort(means, kind="stable")
        return [(str(sense), f"{means[sense]:.4g}", _percent(shares[sense])) for sense in order]

    def _body(self) -> str:
        factors = np.linspace(-1, 2, POINTS)
        sense = self.best_sense
        lines = [(one.text, self.cases.bias(row, sense, factors)) for row, one in enumerate(self.cases.words)]
        return (
            f"<h4>all words <small>one sense scaled</small></h4>{rows_html(_SENSE_HEAD, self._senses())}"
            f"<h4>sense and word</h4>{rows_html(_HEAD, self._rows())}"
            f"<h4>bias against factor <small>sense {sense}</small></h4>{curves_html(factors, lines)}"
        )

    def _rendered(self, width: int) -> RenderableType:
        return Group(
            Text(self._heading(), "bold"),
            rows_table(_SENSE_HEAD, self._senses()[:SHOWN]),
            rows_table(_HEAD, self._rows()),
        )


@dataclass(frozen=True, eq=False, repr=False)
class OptimalScale(Shown):
    """The factor of a sense with the least bias for each word."""

    train: Cases
    """What the factors were chosen on."""
    test: Cases | None
    sense: int
    factors: Numbers
    """``[word]``."""
    penalty: float
    is_exact: bool
    """Whether the factors are proved to be the best; for sides of several tokens they are the best of a grid."""
    base: Fingerprint
    """The model's."""

    @property
    def changes(self) -> bool:
        """Whether a factor is not 1."""
        return bool((self.factors != 1).any())

    @property
    def edit(self) -> Edit:
        """What puts the factors in force; words whose factor is 1 are not in it. Raises ``CallerError``: all are 1."""
        operations = [
            Scale(tuple(Token(number, one.text) for number in one.ids), self.sense, float(factor))
            for one, factor in zip(self.train.words, self.factors, strict=True)
            if factor != 1
        ]
        if not operations:
            raise CallerError(f"there is no edit: {self._hint()}")
        return Edit(tuple(operations), f"least bias {self.train.pair} in sense {self.sense}", self.base)

    @property
    def measured(self) -> Cases:
        """What the outcome is measured on: the test prompts, where there are any."""
        return self.test or self.train

    @property
    def before(self) -> Numbers:
        """The bias of each word as it is, ``[word]``."""
        return self.measured.base

    @property
    def removed(self) -> Numbers:
        """The bias of each word without the sense, ``[word]``."""
        return self.measured.biases(0.0)[:, self.sense]

    @property
    def after(self) -> Numbers:
        """The bias of each word with the sense scaled by the word's factor, ``[word]``."""
        return np.array(
            [
                self.measured.bias(row, self.sense, np.array([factor]))[0]
                for row, factor in enumerate(self.factors.tolist())
            ]
        )

    @property
    def reduction(self) -> float:
        """Share of the excess of the mean bias above 1 that has gone."""
        return float(reduction(self.before.mean(), self.after.mean()))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            **_about(self.measured),
            "chosen_on": list(self.train.prompts),
            "sense": self.sense,
            "penalty": self.penalty,
            "is_exact": self.is_exact,
            "factors": self.factors.tolist(),
            **{name: plain(getattr(self, name)) for name in ("before", "removed", "after")},
            "reduction": plain(np.array(self.reduction)),
        }

    def _heading(self) -> str:
        means = " → ".join(f"{part.mean():.4g}" for part in (self.before, self.removed, self.after))
        where = "test prompts" if self.test else "the prompts that factors were chosen on"
        penalty = f"penalty {self.penalty:g} |1 - factor|" if self.penalty else "no penalty on the factor"
        return f"bias {self.train.pair}, sense {self.sense}: {means} (as it is, removed, scaled) on {where}; {penalty}"

    def _hint(self) -> str:
        """What has to be known of factors that are 1; empty where there is none."""
        same = [one.text for one, factor in zip(self.train.words, self.factors, strict=True) if factor == 1]
        if not same:
            return ""
        if len(same) < len(self.factors):
            return f"factor 1, so not in the edit: {', '.join(same)}"
        if not self.penalty:
            return "every factor is 1: no other gives less bias"
        return (
            f"every factor is 1: with a penalty of {self.penalty:g} any other costs more than it gains; a penalty of 0 "
            "(penalty=0) gives the least bias"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        columns = (self.factors, self.before, self.removed, self.after, reduction(self.before, self.after))
        return [
            (one.text, *(f"{value:.4g}" for value in row[:-1]), _percent(row[-1]))
            for one, row in zip(self.train.words, np.stack(columns, 1), strict=True)
        ]

    def _body(self) -> str:
        low, high = min(0.0, float(self.factors.min())), max(1.0, float(self.factors.max()))
        factors = np.linspace(low, high, POINTS)
        lines = [(one.text, self.measured.bias(row, self.sense, factors)) for row, one in enumerate(self.train.words)]
        hint = self._hint()
        return (
            rows_html(_SCALE_HEAD, self._rows())
            + (f'<p class="note">{escape(hint)}</p>' if hint else "")
            + "<h4>bias against factor</h4>"
            + curves_html(factors, lines, self.factors.tolist())
        )

    def _rendered(self, width: int) -> RenderableType:
        hint = self._hint()
        notes = (Text(hint, "dim"),) if hint else ()
        return Group(Text(self._heading(), "bold"), rows_table(_SCALE_HEAD, self._rows()), *notes)


_HEAD = ("word", "sense", "bias", "scaled", "reduction")
_SENSE_HEAD = ("sense", "mean bias", "reduction")
_SCALE_HEAD = ("word", "factor", "bias", "removed", "scaled", "reduction")


def _about(cases: Cases) -> dict[str, Any]:
    return {
        "info": dict(cases.info),
        "pair": [
            [{"text": one.text, "ids": list(one.ids)} for one in side] for side in (cases.pair.first, cases.pair.second)
        ],
        "words": [{"text": one.text, "ids": list(one.ids), "pieces": one.pieces} for one in cases.words],
        "prompts": list(cases.prompts),
    }


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.1%}"
