"""What a sense finetuning made."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from interpd_backpack.asking import Said, plain
from interpd_backpack.edits import AddDelta, Edit, Fingerprint, Token
from interpd_backpack.evaluation.examples import Criterion
from interpd_backpack.finding.curves import curves_html
from interpd_backpack.finding.settings import BACKGROUND, EVALUATION, HARD_NEGATIVES, HELD_OUT, TRAIN, Settings
from interpd_backpack.finding.solving import Numbers
from interpd_backpack.finding.tables import rows_html, rows_table
from interpd_backpack.views import Shown

RADII = (1e-3, 1e-4, 1e-5)
"""Balls that the paper reports."""
SHOWN = 20
"""Trained senses that are shown."""


@dataclass(frozen=True, eq=False)
class TrainedSense:
    """One sense of one token, and what is added to it."""

    token: int
    text: str
    sense: int
    score: float
    """What the selector gave it: the greatest over examples."""
    vector: Numbers
    """``[d_model]``."""


@dataclass(frozen=True)
class Rate:
    """How many examples succeed, before and after, and their mean losses."""

    n_examples: int
    before: float
    after: float
    loss_before: float
    loss_after: float


@dataclass(frozen=True, eq=False)
class Metrics:
    """Losses of all items before and after, as the follow-up paper measures them.

    Log probabilities are summed over the tokens of a suffix; in training they are averaged.
    """

    criterion: Criterion
    items: np.ndarray
    """``[item 4]``: use, tokens of the prefix, of the first suffix, of the second."""
    log_before: Numbers
    """log p of both suffixes of each item, ``[item 2]``."""
    log_after: Numbers

    @property
    def train(self) -> Rate:
        """Of the examples that were learned."""
        return self._rate(TRAIN)

    @property
    def evaluation(self) -> Rate | None:
        """Of the others; ``None``: there were none."""
        return self._rate(EVALUATION) if (self.items[:, 0] == EVALUATION).any() else None

    @property
    def hard_negatives(self) -> tuple[float, float] | None:
        """Mean -log p of the hard negatives, before and after; ``None``: there were none."""
        rows = self.items[:, 0] == HARD_NEGATIVES
        return (
            None
            if not rows.any()
            else (-float(self.log_before[rows, 0].mean()), -float(self.log_after[rows, 0].mean()))
        )

    @property
    def ratio(self) -> float:
        """NLL of the held-out texts (of the background where there are none) over what it was."""
        use = HELD_OUT if (self.items[:, 0] == HELD_OUT).any() else BACKGROUND
        rows = self.items[:, 0] == use
        return float(self.log_after[rows, 0].sum() / self.log_before[rows, 0].sum())

    def losses(self, use: int, *, after: bool) -> Numbers:
        """Of each item of one use."""
        logs = (self.log_after if after else self.log_before)[self.items[:, 0] == use]
        if self.criterion.quantity == "say":
            return -logs[:, 0]
        if self.criterion.quantity == "avoid":
            return logs[:, 0]
        differences = logs[:, 1] - logs[:, 0]
        return np.abs(differences) if self.criterion.quantity == "balance" else differences

    def _rate(self, use: int) -> Rate:
        before, after = (self.losses(use, after=is_after) for is_after in (False, True))
        below = self.criterion.below
        rates = (float((losses < below).mean()) for losses in (before, after))
        return Rate(len(before), *rates, float(before.mean()), float(after.mean()))


@dataclass(frozen=True, eq=False)
class History:
    """How training goes: each ``[epoch]``, the beginning included."""

    losses: Numbers
    """Mean loss of the examples, averaged over tokens."""
    kls: Numbers
    """Mean KL of the epoch's steps."""
    ratios: Numbers
    """NLL of the held-out texts over what it was."""
    learning_rates: Numbers

    def __len__(self) -> int:
        return len(self.losses)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SenseFinetuning(Shown):
    """Vectors added to senses, what they do, and how training went."""

    name: str
    settings: Settings
    senses: tuple[TrainedSense, ...]
    """Those that were selected, the best first."""
    history: Numbers
    """``[epoch 4]``, the beginning included: mean loss of the examples (averaged over tokens), mean KL of the epoch's
    steps, ratio of the held-out NLL, learning rate."""
    epoch: int
    """Which epoch's vectors were taken; 0: none was inside the ball, and nothing is added."""
    share: float
    """How much of them."""
    ratio: float
    """NLL of the held-out texts over what it was: at most 1 + ``settings.radius``."""
    metrics: Metrics
    base: Fingerprint
    info: Said

    @property
    def edit(self) -> Edit:
        """The additions as an edit, saved and applied like any other. Raises ``CallerError`` if nothing is added."""
        operations = tuple(
            AddDelta(Token(one.token, one.text), one.sense, one.vector) for one in self.senses if one.vector.any()
        )
        return Edit(operations, self.name, self.base)

    def inside(self, radius: float) -> bool:
        """Whether the outcome lies in another ball, too."""
        return self.ratio <= 1 + radius

    def to_dict(self) -> dict[str, Any]:
        """All of it but the vectors, which are in the edit."""
        metrics = self.metrics
        return {
            "name": self.name,
            "info": dict(self.info),
            "settings": asdict(self.settings),
            "success_below": metrics.criterion.below,
            "senses": [
                {name: getattr(one, name) for name in ("token", "text", "sense", "score")}
                | {"norm": float(np.linalg.norm(one.vector))}
                for one in self.senses
            ],
            "history": plain(self.history),
            "epoch": self.epoch,
            "share": self.share,
            "ratio": self.ratio,
            "train": asdict(metrics.train),
            "evaluation": None if metrics.evaluation is None else asdict(metrics.evaluation),
            "hard_negatives": metrics.hard_negatives,
        }

    def _heading(self) -> str:
        part = self.metrics.evaluation or self.metrics.train
        of = "evaluation" if self.metrics.evaluation else "training"
        return (
            f"{self.name}: {part.before:.1%} → {part.after:.1%} of the {of} examples succeed, "
            f"held-out NLL {self.ratio - 1:+.2g}"
        )

    def _outcome(self) -> list[tuple[str, ...]]:
        rows = []
        for name, rate in (("training", self.metrics.train), ("evaluation", self.metrics.evaluation)):
            if rate is not None:
                rows.append((f"{name}, success", f"{rate.before:.1%}", f"{rate.after:.1%}"))
                rows.append((f"{name}, mean loss", f"{rate.loss_before:.4g}", f"{rate.loss_after:.4g}"))
        if (hard := self.metrics.hard_negatives) is not None:
            rows.append(("hard negatives, nats", *(f"{one:.4g}" for one in hard)))
        balls = ", ".join(f"{radius:g}" for radius in RADII if self.inside(radius))
        rows.append(("held-out NLL, ratio", "1", f"{self.ratio:.7g} (inside {balls or 'no ball'})"))
        return rows

    def _trained(self) -> Sequence[tuple[str, ...]]:
        return [
            (one.text, str(one.sense), f"{one.score:.4g}", f"{np.linalg.norm(one.vector):.3g}")
            for one in self.senses[:SHOWN]
        ]

    def _taken(self) -> str:
        if not self.epoch:
            return "no epoch was inside the ball: nothing is added"
        share = "" if self.share == 1 else f"{self.share:.4g} of "
        return f"{share}the vectors of epoch {self.epoch} of {len(self.history) - 1}; {len(self.senses)} senses"

    def _body(self) -> str:
        epochs = np.arange(len(self.history), dtype=np.float64)
        return (
            f'<p class="note">{self._taken()}</p>{rows_html(_OUTCOME, self._outcome())}'
            f"<h4>loss of the examples by epoch</h4>{curves_html(epochs, [('loss', self.history[:, 0])])}"
            f"<h4>senses</h4>{rows_html(_TRAINED, self._trained())}"
        )

    def _rendered(self, width: int) -> RenderableType:
        return Group(
            Text(self._heading(), "bold"),
            Text(self._taken(), "dim"),
            rows_table(_OUTCOME, self._outcome()),
            rows_table(_TRAINED, self._trained()),
        )


_OUTCOME = ("", "before", "after")
_TRAINED = ("token", "sense", "score", "norm")
