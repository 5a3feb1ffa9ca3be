"""The target as a game: what it is worth when some features are as they are and baselines stand in for the others.

All columns are read from one teacher-forced pass over rows of changed inputs, and equal rows are passed once. With
several baselines a coalition's worth is the mean over them.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.baselines import baselines
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline

MOST_KNOWN = 1 << 22
"""How many values of rows are remembered at most."""

PARTS = 10
"""How often at most the rows of a call are reported as a partial result."""

MOST_SAMPLES = 100_000
"""Of anything that is drawn, in one request."""


class Game:
    """Coalitions of players, and what they are worth to each column.

    Players are the features that can matter: some column comes behind them, and a baseline differs there. The scores
    of the others are zero.
    """

    def __init__(self, problem: Problem, asked: Baseline) -> None:
        """Raises ``CallerError`` where the baseline is the input itself."""
        self.problem = problem
        self._starts = baselines(problem, asked)
        """``[baseline position d_model]``."""
        changes = (self._starts != problem.inputs).any(-1).any(0).cpu()
        of = problem.features.of[problem.positions]
        matters = torch.zeros(problem.features.n, dtype=torch.bool)
        matters[of[changes & (of >= 0)]] = True
        all_sees = problem.sees()
        self.players = (matters & all_sees.any(1)).nonzero()[:, 0]
        """The features that play, ``[player]``."""
        if not len(self.players):
            raise CallerError(
                "there is nothing to change: at every feature before an attributed token the baseline is the input "
                "itself (end tokens and a decoder's start stay as they are); give another baseline, or other features"
            )
        self.sees = all_sees[self.players]
        """Which columns a player may explain, ``[player column]``."""
        self.seed = asked.seed
        number = torch.full((problem.features.n + 1,), len(self.players))
        number[self.players] = torch.arange(len(self.players))
        self._player_of = number[of].to(problem.inputs.device)
        """The player that each attributed position belongs to; their number: none."""
        self._known: dict[bytes, Tensor] = {}

    @property
    def n(self) -> int:
        """How many players there are."""
        return len(self.players)

    @property
    def n_columns(self) -> int:
        """How many columns there are."""
        return self.problem.columns.n

    def ends(self) -> Tensor:
        """The coalitions of nobody and of all, ``[2 player]``."""
        return torch.tensor([False, True])[:, None].expand(2, self.n)

    def worth(self, kept: Tensor, told: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What coalitions are worth, ``[row column]`` in float64 on the CPU.

        Args:
            kept: Whether each player is as it is, ``[row player]``.
            told: Makes scores, ``[feature column]``, of what is known so far (NaN: not yet), to be sent on the way.
        """
        masks, of, counts = kept.unique(dim=0, return_inverse=True, return_counts=True)
        keys = [row.tobytes() for row in np.packbits(masks.numpy(), axis=1)]
        found = torch.full((len(keys), self.n_columns), torch.nan, dtype=torch.float64)
        for row, key in enumerate(keys):
            if key in self._known:
                found[row] = self._known[key]
        new = [row for row, key in enumerate(keys) if key not in self._known]
        self.problem.worked(len(kept) - int(counts[new].sum()))
        reported = 0
        for part in self._passes(masks[new]):
            rows = new[part]
            found[rows] = self._passed(masks[rows])
            self.problem.worked(int(counts[rows].sum()))
            if told and part.stop < len(new) and part.stop * PARTS // len(new) > reported:
                reported = part.stop * PARTS // len(new)
                self.problem.ctx.partial("scores", self.problem_scores(told(found[of])))
        self._remember(keys, new, found)
        return found[of]

    def drawn_worth(self, kept: Tensor, told: Callable[[Tensor], Tensor]) -> Tensor:
        """What drawn coalitions are worth, ``[row column]``, in blocks that grow: a part of the draws tells something.

        Args:
            kept: As of ``worth``.
            told: Makes scores, ``[feature column]``, of what the first rows are worth, to be sent on the way. Where
                they are too few for it (``CallerError``), nothing is sent.
        """
        found = self.worth(kept[:0])
        for start, stop in blocks_of(len(kept), max(1, self.problem.rows_per_pass(grad=False) // len(self._starts))):
            found = torch.cat([found, self.worth(kept[start:stop])])
            if self.n < stop < len(kept):
                with suppress(CallerError):
                    self.problem.ctx.partial("scores", self.problem_scores(told(found)))
        return found

    def table(self, scores: Tensor) -> Tensor:
        """Scores of players, ``[player column]``, as those of features."""
        table = scores.new_zeros(self.problem.features.n, self.n_columns)
        table[self.players] = scores
        return table

    def partial(self, scores: Tensor) -> None:
        """Sends scores of players, ``[player column]``, as what is known so far."""
        self.problem.ctx.partial("scores", self.problem_scores(self.table(scores)))

    def problem_scores(self, table: Tensor) -> Tensor:
        """A table of features as it is sent: float32, NaN where a feature comes behind the column."""
        return table.float().masked_fill(~self.problem.sees(), torch.nan)

    def views(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Columns that the same players may explain: ``(players, columns)``, those with no player left out."""
        kinds, of = self.sees.T.unique(dim=0, return_inverse=True)
        for number, kind in enumerate(kinds):
            if kind.any():
                yield kind.nonzero()[:, 0], (of == number).nonzero()[:, 0]
            self.problem.ctx.raise_if_cancelled()

    def _passes(self, masks: Tensor) -> Iterator[slice]:
        size = max(1, self.problem.rows_per_pass(grad=False) // len(self._starts))
        return chunks(len(masks), size)

    def _passed(self, masks: Tensor) -> Tensor:
        """The worth of coalitions, each with every baseline, in as many passes as the baselines need."""
        device, n_starts = self._starts.device, len(self._starts)
        masks = masks.to(device)
        stays = torch.cat([masks, masks.new_ones(len(masks), 1)], 1)[:, self._player_of]
        found = []
        for part in chunks(len(masks) * n_starts, self.problem.rows_per_pass(grad=False)):
            rows = torch.arange(part.start, part.stop, device=device)
            starts = self._starts if n_starts == 1 else self._starts[rows % n_starts]
            vectors = torch.where(stays[rows // n_starts][..., None], self.problem.inputs, starts)
            found.append(self.problem.scored(vectors).columns.double().cpu())
        return torch.cat(found).unflatten(0, (len(masks), n_starts)).mean(1)

    def _remember(self, keys: list[bytes], new: list[int], found: Tensor) -> None:
        room = MOST_KNOWN // max(1, self.n_columns) - len(self._known)
        for row in new[: max(0, room)]:
            self._known[keys[row]] = found[row].clone()


def check_samples(name: str, n: int, least: int = 1) -> None:
    """Raises ``CallerError`` for a number of samples out of bounds."""
    if not least <= n <= MOST_SAMPLES:
        raise CallerError(f"{name} is {n}, expected {least} to {MOST_SAMPLES}")


def blocks_of(n: int, size: int) -> Iterator[tuple[int, int]]:
    """``range(n)`` as (start, stop) of blocks that grow from ``size``, so that the first results come early."""
    stops = [0]
    while stops[-1] < n:
        stops.append(min(n, stops[-1] + size))
        size *= 2
    return pairwise(stops)
