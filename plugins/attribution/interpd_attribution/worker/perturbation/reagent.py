"""ReAGent: which tokens a prediction needs, found by replacing others at random until the needed ones are enough."""

import dataclasses
import math
from collections.abc import Mapping

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.declaration import Scores
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.perturbation.declaration import perturbation
from interpd_attribution.worker.perturbation.game import check_samples
from interpd_attribution.worker.perturbation.replacements import Replacing, draw_of
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Request
from interpd_attribution.worker.scoring.contrast import Context
from interpd_attribution.worker.scoring.step import logits_of, probabilities_of

_SURE = 1e-7
"""How far from 0 and 1 what is put into a logarithm of odds is at least."""


@dataclasses.dataclass(frozen=True)
class ProbedScores(Scores):
    """Importance that adds up to one in each column; NaN where the feature comes behind all of the column's tokens."""

    standard_errors: Float32[Tensor, "feature step"]
    """Over the probes that count; NaN where it is one."""
    stopped: Float32[Tensor, " step"]
    """The part of the probes that met the stopping condition, which are those that count; where none did, all do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probing:
    """How tokens are probed.

    Args:
        keep_top_n: A probe ends when its so many most important features are enough; 0: as ``keep_ratio`` says.
        keep_ratio: The part of the features before the column that are kept, rounded up, with ``keep_top_n=0``.
        invert_keep: Replace these features and keep the others instead.
        stopping_condition_top_k: Enough is when each of the column's tokens is among so many likeliest ones.
        replacing_ratio: How likely each feature is replaced in a step.
        max_probe_steps: Steps after which a probe ends in any case.
        num_probes: Probes, each with draws of its own.
    """

    keep_top_n: int = 5
    keep_ratio: float | None = None
    invert_keep: bool = False
    stopping_condition_top_k: int = 3
    replacing_ratio: float = 0.3
    max_probe_steps: int = 3000
    num_probes: int = 16


@perturbation("reagent", returns=ProbedScores, of_values=False, paper="arXiv:2402.00794")
def reagent(problem: Problem, *, probing: Probing, replacing: Replacing) -> Mapping[str, Tensor]:
    """How much a token's probability falls when a feature is among those replaced by other tokens.

    Each step of a probe replaces features at random. A loss of probability speaks for those that were replaced and
    against those that were not: the log-odds of ``(1 + loss) / 2`` are added to the logarithms of their importance. The
    probe ends when its most important features alone bring the token back. Of a column of several tokens the
    probability is the mean over them. A step's rows serve all columns; how often a token has to be tried is up to the
    model (``max_probe_steps``).

    Source: Zhao and Shan 2024; the parameters are Inseq's. A decoder's start token stays.
    """
    _check(problem, probing)
    probes = _Probes(problem, probing, replacing)
    problem.expect(problem.columns.n * probing.num_probes, "probes")
    problem.worked(int((~probes.running).sum()))
    told = 2
    for step in range(1, probing.max_probe_steps + 1):
        if not probes.running.any():
            break
        probes.weigh()
        problem.worked(probes.stop())
        if step == told:
            told *= 2
            problem.ctx.partial("scores", probes.scores()["scores"].float())
    problem.worked(int(probes.running.sum()))
    return probes.scores()


class _Probes:
    """All probes of all columns. Tensors are on the CPU, passes are where the model is."""

    def __init__(self, problem: Problem, probing: Probing, replacing: Replacing) -> None:
        self._problem, self._probing = problem, probing
        self._draw = draw_of(problem, replacing)
        self._generator = torch.Generator().manual_seed(replacing.seed)
        self._ids = torch.cat([side.ids for side in problem.sequence.sides]).cpu()
        self._find_players()
        n_columns, n_players = self._sees.shape[1], len(self._players)
        self._importance = torch.rand(
            n_columns, probing.num_probes, n_players, generator=self._generator, dtype=torch.float64
        )
        self._importance.masked_fill_(~self._sees.T[:, None], -torch.inf)
        counts = self._sees.sum(0)
        top = torch.full((n_columns,), probing.keep_top_n)
        if probing.keep_ratio is not None:
            top = torch.tensor([math.ceil(probing.keep_ratio * count) for count in counts.tolist()])
        self._top = top
        self.running = (counts > 0)[:, None].expand(-1, probing.num_probes).clone()
        """Which probes have not met the stopping condition, ``[column probe]``."""
        whole = self._ids.expand(n_columns, -1)
        self._likely = self._probabilities(whole[:1])[0]
        self._enough = self._hits(whole, torch.arange(n_columns))

    def weigh(self) -> None:
        """One step: replaces features at random, and adds what the losses of probability say of each."""
        active = self.running.any(0).nonzero()[:, 0]
        replaced = self._rand(len(active), len(self._players)) < self._probing.replacing_ratio
        losses = self._likely - self._probabilities(self._replaced(replaced))
        evidence = torch.logit(losses / 2 + 0.5, eps=_SURE)
        signs = replaced.double() * 2 - 1
        adds = evidence.T[:, :, None] * signs * self.running[:, active, None]
        self._importance[:, active] += adds

    def stop(self) -> int:
        """Ends the probes whose most important features are enough. Gives their number."""
        columns, probes = self.running.nonzero(as_tuple=True)
        ranks = self._importance[columns, probes].argsort(-1, descending=True).argsort(-1)
        chosen = ranks < self._top[columns, None]
        replaced = (chosen == self._probing.invert_keep) & self._sees.T[columns]
        ends = self._enough[columns]
        rows = self._replaced(replaced)
        # where nothing is replaced, what the model says is known
        changed = replaced.any(1)
        ends[changed] = self._hits(rows[changed], columns[changed])
        self.running[columns[ends], probes[ends]] = False
        return int(ends.sum())

    def scores(self) -> dict[str, Tensor]:
        """What is reported of the probes as they are."""
        importance = self._importance.softmax(-1).nan_to_num()
        stopped = ~self.running & self._sees.any(0)[:, None]
        counts = stopped | ~stopped.any(1, keepdim=True)
        n = counts.sum(1)[:, None]
        mean = (importance * counts[..., None]).sum(1) / n
        spread = (((importance - mean[:, None]) ** 2) * counts[..., None]).sum(1)
        errors = torch.where(n > 1, (spread / (n - 1).clamp(min=1) / n).sqrt(), torch.nan)
        found = {"scores": self._table(mean.T), "standard_errors": self._table(errors.T)}
        return {**found, "stopped": stopped.double().mean(1)}

    def _find_players(self) -> None:
        """The features that may be replaced, ``[player]``, who sees them, and the player of each position."""
        problem = self._problem
        free = torch.zeros(problem.sequence.n_positions, dtype=torch.bool)
        free[problem.positions] = True
        if problem.sequence.source is not None:
            free[problem.sequence.target.first] = False
        of = torch.where(free, problem.features.of, -1)
        plays = torch.zeros(problem.features.n, dtype=torch.bool)
        plays[of[of >= 0]] = True
        sees = problem.sees()
        self._players = (plays & sees.any(1)).nonzero()[:, 0]
        if not len(self._players):
            raise CallerError("there is nothing to replace before an attributed token: give other features or inputs")
        self._sees = sees[self._players]
        number = torch.full((problem.features.n + 1,), len(self._players))
        number[self._players] = torch.arange(len(self._players))
        self._player_of = number[of]

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self._generator, dtype=torch.float64)

    def _replaced(self, replaced: Tensor) -> Tensor:
        """Token ids with the players' tokens replaced, ``[row position]``, for ``[row player]``."""
        drawn = self._draw(self._rand(len(replaced), len(self._ids)))
        none = torch.zeros(len(replaced), 1, dtype=torch.bool)
        return torch.where(torch.cat([replaced, none], 1)[:, self._player_of], drawn, self._ids)

    def _probabilities(self, rows: Tensor) -> Tensor:
        """The mean probability of each column's tokens, ``[row column]``."""
        columns, ids = self._problem.columns, self._problem.sequence.ids
        n_tokens = columns.members().sum(1)
        found = []
        for part in chunks(len(rows), self._problem.rows_per_pass(grad=False)):
            logits = self._logits(rows[part], torch.arange(len(columns.of)))
            found.append((columns.summed(probabilities_of(logits, ids, False), 1)).cpu() / n_tokens)
        return torch.cat(found)

    def _hits(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Whether all tokens of each row's column are likely enough there, ``[row]``."""
        found = torch.zeros(len(rows), dtype=torch.bool)
        of, ids = self._problem.columns.of, self._problem.sequence.ids
        for part in chunks(len(rows), self._problem.rows_per_pass(grad=False)):
            steps = torch.isin(of, columns[part]).nonzero()[:, 0]
            logits = self._logits(rows[part], steps)
            own = logits_of(logits, ids[steps.to(ids.device)])
            likely = ((logits > own[..., None]).sum(-1) < self._probing.stopping_condition_top_k).cpu()
            found[part] = (likely | (of[steps] != columns[part, None])).all(1)
        return found

    def _logits(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The logits of some of the attributed tokens, ``[row step d_vocab]``, given rows of token ids."""
        problem, rows = self._problem, rows.to(self._problem.session.device)
        source, target = problem.sequence.source, problem.sequence.target
        predicting = tuple(problem.sequence.predicting[step] for step in steps.tolist())
        sources = None if source is None else rows[:, source.positions]
        return problem.model.see(Context(sources, rows[:, target.positions], predicting), len(rows), {}).logits

    def _table(self, scores: Tensor) -> Tensor:
        """Scores of players, ``[player column]``, as those of features."""
        table = scores.new_zeros(self._problem.features.n, scores.shape[1])
        table[self._players] = scores
        return table.masked_fill(~self._problem.sees(), torch.nan)


def _check(problem: Problem, probing: Probing) -> None:
    if problem.request.target != Request.target:
        raise CallerError("reagent goes by the tokens' probability: leave 'target' out")
    for name in ("max_probe_steps", "num_probes", "stopping_condition_top_k"):
        check_samples(name, getattr(probing, name))
    if probing.keep_top_n < 0 or (probing.keep_top_n == 0) != (probing.keep_ratio is not None):
        raise CallerError(
            f"keep_top_n is {probing.keep_top_n} and keep_ratio {probing.keep_ratio}: expected a number of features "
            "and no ratio, or keep_top_n=0 and a ratio"
        )
    for name in ("keep_ratio", "replacing_ratio"):
        ratio = getattr(probing, name)
        if ratio is not None and not 0 < ratio < 1:
            raise CallerError(f"{name} is {ratio}, expected a number between 0 and 1")
