"""Methods that take features away, one or a few neighbours at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.perturbation.declaration import perturbation
from interpd_attribution.worker.perturbation.game import Game
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Baseline


@perturbation("feature_ablation")
def feature_ablation(problem: Problem, *, baseline: Baseline) -> Tensor:
    """What the target loses when a feature's baseline takes its place, with its sign.

    Positive: the feature was for it. The others stay as they are.
    """
    game = Game(problem, baseline)
    kept = torch.cat([torch.ones(1, game.n, dtype=torch.bool), ~torch.eye(game.n, dtype=torch.bool)])
    problem.expect(len(kept), "rows")
    return game.table(_losses(game.worth(kept, lambda worth: game.table(_losses(worth)))))


@perturbation("occlusion", paper="arXiv:1311.2901")
def occlusion(
    problem: Problem, *, window: int = 1, stride: int = 1, absolute: bool = False, baseline: Baseline
) -> Tensor:
    """What the target loses when neighbouring features are covered: the mean over a feature's windows.

    Args:
        window: Features that are covered at once; windows do not reach from an encoder's source into the target.
        stride: From one window to the next, at most ``window``. The last one of a column is the first to reach its
            last feature.
        absolute: Without signs, as Inseq has it.

    Source: Zeiler and Fergus 2014; windows as in Captum.
    """
    if not 1 <= stride <= window:
        raise CallerError(f"window is {window} and stride {stride}: expected a stride from 1 to the window")
    game, windows = Game(problem, baseline), _windows(problem, window, stride)
    kept = ~torch.cat([torch.zeros(1, problem.features.n, dtype=torch.bool), windows.members])[:, game.players]
    problem.expect(len(kept), "rows")

    def scores(worth: Tensor) -> Tensor:
        found = windows.means(_losses(worth))
        return found.abs() if absolute else found

    return scores(game.worth(kept, scores))


def _losses(worth: Tensor) -> Tensor:
    """By how much each row is worth less than the first, ``[row - 1, column]``."""
    return worth[:1] - worth[1:]


@dataclass(frozen=True)
class Windows:
    """Windows over features, and for which columns they count."""

    members: Tensor
    """``[window feature]``."""
    counted: Tensor
    """``[window column]``."""

    def means(self, losses: Tensor) -> Tensor:
        """The mean loss over each feature's windows, of those that are known: ``[feature column]``."""
        known = (self.counted & ~losses.isnan()).double()
        members = self.members.double().T
        return (members @ (losses.nan_to_num() * known)) / (members @ known)


def _windows(problem: Problem, window: int, stride: int) -> Windows:
    """The windows of all sides."""
    members, counted = [], []
    sees = problem.sees()
    for order in _orders(problem):
        # how far each column sees: a feature behind it may still stand before one that it sees
        ranks = torch.arange(1, len(order) + 1)[:, None]
        reach = (sees[order] * ranks).amax(0)
        last = -(-(reach - window).clamp(min=0) // stride)
        for number in range(int(last.max()) + 1):
            covered = torch.zeros(problem.features.n, dtype=torch.bool)
            covered[order[number * stride : number * stride + window]] = True
            members.append(covered)
            counted.append((number <= last) & (reach > 0))
    return Windows(torch.stack(members), torch.stack(counted))


def _orders(problem: Problem) -> list[Tensor]:
    """The features of each attributed side in the order of their first positions."""
    members = problem.features.members()
    attributed = torch.zeros(problem.sequence.n_positions)
    attributed[problem.positions] = 1.0
    members = members * attributed
    first = torch.where(members.any(1), members.argmax(1), -1)
    orders = []
    for side in problem.sides:
        inside = (first >= side.positions.start) & (first < side.positions.stop)
        found = inside.nonzero()[:, 0]
        if len(found):
            orders.append(found[first[found].argsort()])
    return orders
