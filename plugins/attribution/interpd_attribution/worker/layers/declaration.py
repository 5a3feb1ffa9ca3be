"""``@layer_attribution``: a function that explains columns by values of sites becomes ``attribution.<id>``.

The function gets a block of columns and the names of the sites, and gives for each site scores of its values,
``[column pos ...]``: those dimensions behind the positions are reduced to a number.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_attribution.worker.constants import declared
from interpd_attribution.worker.declaration import BLOCK_SHARE, Reducing, as_if, with_own
from interpd_attribution.worker.layers.sites import LayerSites, heads_of, positions_of, sites_of
from interpd_attribution.worker.memory import available, chunks
from interpd_attribution.worker.problem import Problem, Value
from interpd_attribution.worker.reduction import reduced
from interpd_attribution.worker.request import Request

Explain = TypeVar("Explain", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class LayerScores:
    """A number for each site, feature and column; NaN where a feature is not the site's or comes behind the column."""

    scores: Float32[Tensor, "layer feature step"]
    step_scores: Float32[Tensor, "score token"]


@dataclasses.dataclass(frozen=True)
class LayerVectors:
    """A vector for each site, feature and column; NaN as in ``LayerScores``."""

    scores: Float32[Tensor, "layer feature step _"]
    step_scores: Float32[Tensor, "score token"]


@dataclasses.dataclass(frozen=True)
class HeadScores:
    """A number for each site, head, feature and column; NaN as in ``LayerScores``."""

    scores: Float32[Tensor, "layer head feature step"]
    step_scores: Float32[Tensor, "score token"]


def layer_attribution(id: str, *, version: int = 1, paper: str | None = None) -> Callable[[Explain], Explain]:
    """A decorator that declares a function of a ``Problem``, a block of columns and sites as a method.

    The methods of graphs are its ``methods``: numbers (``attribution.<id>``), vectors (``_vectors``), and numbers for
    each head of sites that have them (``_heads``).

    Args:
        id: Of the method.
        version: Raised whenever its numbers change.
        paper: Where it comes from.
    """

    def declare(explain: Explain) -> Explain:
        def scores(
            ctx: MethodContext,
            value: Value | None = None,
            *,
            layers: LayerSites,
            request: Request,
            reducing: Reducing,
            **own: Any,
        ) -> LayerScores:
            work = _Work(explain, Problem(ctx, request, value), sites_of(ctx.session, layers.sites), own)
            tables = work.tables(lambda found: reduced(found.flatten(2), reducing.reduce))
            return LayerScores(torch.stack(tables), work.problem.told())

        def vectors(
            ctx: MethodContext, value: Value | None = None, *, layers: LayerSites, request: Request, **own: Any
        ) -> LayerVectors:
            work = _Work(explain, Problem(ctx, request, value), sites_of(ctx.session, layers.sites), own)
            return LayerVectors(_stacked(work.tables(lambda found: found.flatten(2))), work.problem.told())

        def heads(
            ctx: MethodContext,
            value: Value | None = None,
            *,
            layers: LayerSites,
            request: Request,
            reducing: Reducing,
            **own: Any,
        ) -> HeadScores:
            work = _Work(explain, Problem(ctx, request, value), heads_of(ctx.session, layers.sites), own)
            tables = work.tables(lambda found: reduced(found, reducing.reduce))
            return HeadScores(_stacked(tables).movedim(-1, 1), work.problem.told())

        parameters = inspect.signature(explain, eval_str=True).parameters.values()
        own = [one for one in parameters if one.kind is one.KEYWORD_ONLY]
        explain.methods = tuple(  # type: ignore[attr-defined]
            declared(as_if(fn, explain), with_own(fn, own), returns, name=name, version=version, paper=paper)
            for fn, returns, name in (
                (scores, LayerScores, f"attribution.{id}"),
                (vectors, LayerVectors, f"attribution.{id}_vectors"),
                (heads, HeadScores, f"attribution.{id}_heads"),
            )
        )
        return explain

    return declare


@dataclasses.dataclass(frozen=True)
class _Work:
    """One call of a method."""

    explain: Callable[..., Any]
    problem: Problem
    sites: Sequence[str]
    own: Mapping[str, Any]

    def tables(self, finish: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """For each site ``[feature column ...]``: block by block of columns, each finished as soon as it is there."""
        problem, n_columns = self.problem, self.problem.columns.n
        width = problem.session.info.sizes.get("d_mlp", 4096)
        size = 4 * problem.sequence.n_positions * width * len(self.sites)
        tables: list[Tensor] = []
        for block in chunks(n_columns, max(1, available(problem.session.device) // (BLOCK_SHARE * size))):
            found = self.explain(problem, block, self.sites, **self.own)
            parts = [
                _by_feature(problem, finish(one), block, positions_of(problem, site))
                for one, site in zip(found, self.sites, strict=True)
            ]
            tables = tables or [part.new_empty(part.shape[0], n_columns, *part.shape[2:]) for part in parts]
            for table, part in zip(tables, parts, strict=True):
                table[:, block] = part
        return tables


def _by_feature(problem: Problem, found: Tensor, block: slice, positions: slice) -> Tensor:
    """Scores of a side's positions, ``[column pos ...]``, as scores of features, ``[feature column ...]``."""
    at_all = found.new_zeros(found.shape[0], problem.sequence.n_positions, *found.shape[2:])
    at_all[:, positions] = found
    scores = problem.features.summed(at_all, 1).transpose(0, 1).float()
    unseen = ~problem.sees(positions)[:, block].to(scores.device)
    return scores.masked_fill(unseen.reshape(*unseen.shape, *(1,) * (scores.ndim - 2)), torch.nan)


def _stacked(tables: Sequence[Tensor]) -> Tensor:
    if len({table.shape[-1] for table in tables}) > 1:
        raise CallerError("the sites have values of different sizes: ask for those of one size at a time")
    return torch.stack(list(tables))
