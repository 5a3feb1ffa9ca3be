"""``@attribution``: a function that explains columns becomes a method of graphs, ``attribution.<id>``.

    @attribution("saliency", paper="arXiv:1312.6034")
    def saliency(problem: Problem, columns: slice, *, absolute: bool = True) -> Tensor:
        '''The gradient of the target by each input vector.'''

The function gets a block of columns and gives a vector for each of them and each attributed position,
``[column position d_model]``. What all methods have in common is added around it: the constants of ``Request``, scores
of steps, reduction to numbers, features, blocks that fit into memory, progress, partial results. Each method is offered
twice: ``attribution.<id>`` gives numbers, ``attribution.<id>_vectors`` the vectors themselves.

A keyword-only parameter whose type is a dataclass of constants (``baseline: Baseline``) stands for all of its fields.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import MethodContext
from interpd_attribution.worker.constants import declared
from interpd_attribution.worker.memory import available, chunks
from interpd_attribution.worker.problem import Problem, Value
from interpd_attribution.worker.reduction import Reduction, reduced
from interpd_attribution.worker.request import Request

BLOCK_SHARE = 64
"""The vectors of a block of columns may take this part of the memory that is there."""

Explain = TypeVar("Explain", bound=Callable[..., Any])
Finish = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Scores:
    """A number for each feature and column; NaN where the feature comes behind all of the column's tokens."""

    scores: Float32[Tensor, "feature step"]
    step_scores: Float32[Tensor, "score token"]
    deltas: Float32[Tensor, "_ step"]
    """Where a method was asked: how far a column's scores are from adding up to the target's change, and that change.

    Two rows; one of a method that does not know the change, none where nothing was asked.
    """


@dataclasses.dataclass(frozen=True)
class VectorScores:
    """A vector for each feature and column; NaN where the feature comes behind all of the column's tokens."""

    scores: Float32[Tensor, "feature step d_model"]
    step_scores: Float32[Tensor, "score token"]
    deltas: Float32[Tensor, "_ step"]
    """As in ``Scores``."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a method found for a block of columns, with more to tell than vectors."""

    vectors: Tensor
    """``[column position d_model]``."""
    deltas: Tensor
    """``[column]``: by how much the vectors' sum misses what it should be."""
    changes: Tensor | None = None
    """``[column]``: what it should be."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reducing:
    """How vectors become numbers.

    Args:
        reduce: The vector's length; the sum, mean or product of its dimensions; the largest, the smallest, or the one
            farthest from zero, with its sign; or the sum without signs. The numbers of a feature's positions add up.
    """

    reduce: Reduction = "vnorm"


def attribution(id: str, *, version: int = 1, paper: str | None = None) -> Callable[[Explain], Explain]:
    """A decorator that declares a function of a ``Problem`` and a block of columns as an attribution method.

    The methods of graphs are its ``methods``.

    Args:
        id: Of the method: ``saliency``.
        version: Raised whenever its numbers change.
        paper: Where it comes from.
    """

    def declare(explain: Explain) -> Explain:
        def scores(
            ctx: MethodContext, value: Value | None = None, *, request: Request, reducing: Reducing, **own: Any
        ) -> Scores:
            finish: Finish = lambda vectors: reduced(vectors, reducing.reduce)  # noqa: E731
            return Scores(*_explained(explain, Problem(ctx, request, value), own, finish))

        def vectors(ctx: MethodContext, value: Value | None = None, *, request: Request, **own: Any) -> VectorScores:
            return VectorScores(*_explained(explain, Problem(ctx, request, value), own, lambda vectors: vectors))

        own = [
            one for one in inspect.signature(explain, eval_str=True).parameters.values() if one.kind is one.KEYWORD_ONLY
        ]
        explain.methods = tuple(  # type: ignore[attr-defined]
            declared(as_if(fn, explain), with_own(fn, own), returns, name=name, version=version, paper=paper)
            for fn, returns, name in (
                (scores, Scores, f"attribution.{id}"),
                (vectors, VectorScores, f"attribution.{id}_vectors"),
            )
        )
        return explain

    return declare


def as_if(fn: Callable[..., Any], explain: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` under the name and with the words of the function that it runs."""
    fn.__doc__, fn.__name__, fn.__module__ = explain.__doc__, explain.__name__, explain.__module__
    fn.__qualname__ = explain.__qualname__
    return fn


def with_own(fn: Callable[..., Any], own: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters of ``fn``, with a method's own constants in place of its ``**own``."""
    context, value, *groups, _ = inspect.signature(fn, eval_str=True).parameters.values()
    return [context, value, *own, *groups]


def _explained(
    explain: Callable[..., Any], problem: Problem, own: Mapping[str, Any], finish: Finish
) -> tuple[Tensor, Tensor, Tensor]:
    """(scores, step scores, deltas): block by block of columns, each reduced as soon as it is there."""
    size = problem.inputs.numel() * 4
    n_columns = problem.columns.n
    blocks = list(chunks(n_columns, max(1, available(problem.session.device) // (BLOCK_SHARE * size))))
    table, deltas = None, []
    for block in blocks:
        found = explain(problem, block, **own)
        if isinstance(found, Found):
            rows = [found.deltas] if found.changes is None else [found.deltas, found.changes]
            deltas.append(torch.stack(rows).float())
            found = found.vectors
        part = _by_feature(problem, finish(found), block)
        table = part.new_full((part.shape[0], n_columns, *part.shape[2:]), torch.nan) if table is None else table
        table[:, block] = part
        if len(blocks) > 1:
            problem.ctx.partial("scores", table)
        # nothing of a block is held while the next one is worked out
        del found, part
    assert table is not None
    missed = torch.cat(deltas, 1) if deltas else table.new_zeros(0, n_columns)
    return table, problem.told(), missed


def _by_feature(problem: Problem, found: Tensor, block: slice) -> Tensor:
    """Scores of attributed positions, ``[column position ...]``, as scores of features, ``[feature column ...]``."""
    at_all = found.new_zeros(found.shape[0], problem.sequence.n_positions, *found.shape[2:])
    at_all[:, problem.positions] = found
    scores = problem.features.summed(at_all, 1).transpose(0, 1).float()
    unseen = ~problem.sees()[:, block].to(scores.device)
    return scores.masked_fill(unseen.reshape(*unseen.shape, *(1,) * (scores.ndim - 2)), torch.nan)
