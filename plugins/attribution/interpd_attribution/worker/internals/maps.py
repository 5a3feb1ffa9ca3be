"""From numbers of positions to results: features, columns, and the scores of pairs on one side."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_attribution.worker.layers.declaration import HeadScores, LayerScores
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Places, Request

MOST_BYTES = 2 << 30
"""The largest result."""


@dataclass(frozen=True)
class HeadMaps(HeadScores):
    """A number for each layer, head, feature and column; NaN where the feature is not attributed or comes behind it."""

    encoder_self: Float32[Tensor, "_ _ _ _"]
    """``[layer head position position]`` of the encoder: where to, whose; empty where it was not asked for."""
    decoder_self: Float32[Tensor, "_ _ _ _"]
    """The same of the decoder's own positions, where they are not among the features; NaN behind the one whose."""


@dataclass(frozen=True)
class LayerMaps(LayerScores):
    """A number for each layer, feature and column; NaN as in ``HeadMaps``."""

    encoder_self: Float32[Tensor, "_ _ _"]
    """As in ``HeadMaps``, without heads."""
    decoder_self: Float32[Tensor, "_ _ _"]
    """As in ``HeadMaps``, without heads."""


@dataclass(frozen=True)
class Maps:
    """A number for each feature and column; NaN as in ``HeadMaps``."""

    scores: Float32[Tensor, "feature step"]
    step_scores: Float32[Tensor, "score token"]
    encoder_self: Float32[Tensor, "_ _"]
    """As in ``HeadMaps``, without layers and heads."""
    decoder_self: Float32[Tensor, "_ _"]
    """As in ``HeadMaps``, without layers and heads."""


@dataclass(frozen=True, kw_only=True)
class SelfScores:
    """What comes back beside the scores of an encoder-decoder model; of others the scores are all there is.

    Args:
        output_encoder_self_scores: Between the positions of the encoder.
        output_decoder_self_scores: Between the positions of the decoder, where they are not attributed.
    """

    output_encoder_self_scores: bool = True
    output_decoder_self_scores: bool = True


def problem_of(ctx: MethodContext, places: Places, rows_per_pass: int = 0) -> Problem:
    """The problem of a method that looks at the prompt's own pass."""
    given = {field.name: getattr(places, field.name) for field in fields(places)}
    return Problem(ctx, Request(**given, rows_per_pass=rows_per_pass))


def attributes(problem: Problem, side: str) -> bool:
    """Whether the positions of a side (``source``, ``target``) are attributed."""
    return getattr(problem.sequence, side) in problem.sides


def queries_of(problem: Problem) -> slice:
    """The positions of the target that predict the attributed tokens."""
    return slice(problem.sequence.start - 1, problem.sequence.stop - 1)


def table(problem: Problem, source: Tensor | None, target: Tensor | None) -> Tensor:
    """Numbers of positions and attributed tokens as those of features and columns, float32.

    Args:
        problem: Of the call.
        source: ``[... pos step]`` of the source's positions, where they are attributed.
        target: The same of the target's.
    """
    sequence = problem.sequence
    given = source if source is not None else target
    assert given is not None
    at_all = given.new_zeros(*given.shape[:-2], sequence.n_positions, sequence.n_steps)
    if source is not None and sequence.source is not None:
        at_all[..., sequence.source.positions, :] = source
    if target is not None:
        at_all[..., sequence.target.positions, :] = target
    scores = problem.columns.summed(problem.features.summed(at_all, at_all.ndim - 2), at_all.ndim - 1).float()
    return scores.masked_fill(~problem.sees().to(scores.device), torch.nan)


def none_of(values: Tensor) -> Tensor:
    """An empty array of as many dimensions."""
    return values.new_zeros((0,) * values.ndim, dtype=torch.float32)


def behind_hidden(square: Tensor) -> Tensor:
    """Scores of pairs of a causal side, ``[... where whose]``, with NaN where one lies behind the other."""
    hidden = torch.ones(square.shape[-2:], dtype=torch.bool, device=square.device).tril(-1)
    return square.float().masked_fill(hidden, torch.nan)


def check_size(n_numbers: int, n_bytes_each: int, advice: str) -> None:
    """Raises ``CallerError`` where a result would be too large."""
    if n_numbers * n_bytes_each > MOST_BYTES:
        size = n_numbers * n_bytes_each / (1 << 30)
        raise CallerError(f"the result would have {size:.1f} GiB, more than {MOST_BYTES >> 30}: {advice}")
