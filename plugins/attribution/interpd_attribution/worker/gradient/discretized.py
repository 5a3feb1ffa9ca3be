"""Integrated gradients along words: every point of the path is near a token's embedding (Sanyal and Ren 2021).

From each token a path of neighbouring words leads to the baseline's. A point of the path is the next word's vector,
moved where it leaves the box between the last point and the baseline, so that each dimension is monotonic.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.baselines import baseline_ids, vocabulary
from interpd_attribution.worker.declaration import Found, attribution
from interpd_attribution.worker.gradient.path import with_delta
from interpd_attribution.worker.gradient.quadrature import MOST_STEPS
from interpd_attribution.worker.gradient.vjp import weighted
from interpd_attribution.worker.problem import Problem, points
from interpd_attribution.worker.request import Baseline
from interpd_attribution.worker.sequence import Side

Strategy = Literal["greedy", "maxcount"]


@attribution("discretized_integrated_gradients", paper="arXiv:2108.13654")
def discretized_integrated_gradients(
    problem: Problem,
    columns: slice,
    *,
    n_steps: int = 50,
    strategy: Strategy = "greedy",
    n_neighbors: int = 50,
    multiply_by_inputs: bool = False,
    convergence_delta: bool = False,
    baseline: Baseline,
) -> Tensor | Found:
    """The sum of gradients along a path of words from the baseline to the input, times its steps.

    The path is made of the vocabulary's own vectors; what the graph writes at the embedding is not on it. Special
    tokens stay until the last step. The neighbours are searched for the words of the paths only, not for all words.

    Args:
        n_steps: Points of the path, both ends included.
        strategy: The next word is the neighbour that must be moved least (greedy), or in the fewest dimensions.
        n_neighbors: How many nearest words are looked at.
        multiply_by_inputs: Times the difference once more, as Inseq can.
        convergence_delta: Tell by how much the sum misses the target's change.
    """
    if not 2 <= n_steps <= MOST_STEPS:
        raise CallerError(f"n_steps is {n_steps}, expected 2 to {MOST_STEPS}")
    if convergence_delta and multiply_by_inputs:
        raise CallerError("convergence_delta is about scores that add up, and with multiply_by_inputs they do not")
    rows = baseline_ids(problem, baseline)
    if len(rows) > 1:
        raise CallerError("discretized_integrated_gradients takes one baseline")
    search = Search(strategy, n_neighbors, n_steps)
    path = torch.cat([_path(problem, side, rows[0, side.positions], search) for side in problem.sides], 1)
    steps = torch.cat([path.diff(dim=0), torch.zeros_like(path[:1])])
    problem.expect(n_steps * problem.columns.n)
    found = weighted(problem, points(path), columns, lambda chosen: steps[chosen])
    if multiply_by_inputs:
        found = found * (path[-1] - path[0])
    return with_delta(problem, columns, path[:1], found) if convergence_delta else found


@dataclass(frozen=True)
class Search:
    """How paths are searched."""

    strategy: Strategy
    n_neighbors: int
    n_steps: int


def _path(problem: Problem, side: Side, ends: Tensor, search: Search) -> Tensor:
    """The points of each position's path, the baseline first: ``[step pos d_model]``."""
    vectors = vocabulary(problem, side)
    if not 1 <= search.n_neighbors < len(vectors):
        raise CallerError(f"n_neighbors is {search.n_neighbors}, expected 1 to {len(vectors) - 1}")
    special = problem.session.special_ids(target=side is problem.sequence.target).values()
    words = path_words(vectors, side.ids, ends, search, special=torch.tensor(list(special), device=ends.device))
    baseline, found = vectors[ends], [vectors[words[0]]]
    for word in words[1:]:
        found.append(monotonic(vectors[word], baseline, found[-1], search.n_steps))
        problem.ctx.raise_if_cancelled()
    return torch.stack([baseline, *reversed(found)])


def path_words(vectors: Tensor, ids: Tensor, ends: Tensor, search: Search, special: Tensor) -> Tensor:
    """The words of each position's path, from its own on, the baseline left out: ``[n_steps - 1, pos]``."""
    known: dict[int, Tensor] = {}
    stays = torch.isin(ids, special)
    words = [ids]
    for _ in range(search.n_steps - 2):
        nearest = _neighbours(vectors, words[-1], search.n_neighbors, known)
        passed = torch.stack([*words, ends])
        is_new = (nearest[:, :, None] != passed.T[:, None, :]).all(-1)
        cost = _cost(vectors, nearest, words[-1], ends, search).masked_fill(~is_new, float("inf"))
        best = nearest.gather(1, cost.argmin(1, keepdim=True))[:, 0]
        best = torch.where(is_new.any(1) & (words[-1] != ends), best, ends)
        words.append(torch.where(stays, ids, best))
    return torch.stack(words)


def _neighbours(vectors: Tensor, words: Tensor, n: int, known: dict[int, Tensor]) -> Tensor:
    """The nearest words of each word, itself left out, nearest first: ``[pos neighbour]``."""
    for word in set(words.tolist()) - set(known):
        distance = (vectors - vectors[word]).norm(dim=-1)
        distance[word] = float("inf")
        known[word] = distance.topk(n, largest=False).indices
    return torch.stack([known[word] for word in words.tolist()])


def _cost(vectors: Tensor, nearest: Tensor, words: Tensor, ends: Tensor, search: Search) -> Tensor:
    """How far each neighbour is from lying between a word and the baseline: ``[pos neighbour]``."""
    anchors, word, end = vectors[nearest], vectors[words][:, None], vectors[ends][:, None]
    if search.strategy == "maxcount":
        return -is_between(anchors, end, word).sum(-1).float()
    return (anchors - monotonic(anchors, end, word, search.n_steps)).norm(dim=-1)


def is_between(anchor: Tensor, end: Tensor, word: Tensor) -> Tensor:
    """In which dimensions ``anchor`` lies between ``word`` and ``end``."""
    return (torch.minimum(end, word) <= anchor) & (anchor <= torch.maximum(end, word))


def monotonic(anchor: Tensor, end: Tensor, last: Tensor, n_steps: int) -> Tensor:
    """``anchor``, moved to one ``n_steps``-th of the way from ``last`` where it is not between that and ``end``."""
    return torch.where(is_between(anchor, end, last), anchor, last - (last - end) / n_steps)
