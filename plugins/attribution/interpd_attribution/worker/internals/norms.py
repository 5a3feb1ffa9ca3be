"""Attention by what it moves: the length of weight times transformed value, not the weight alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.internals.attention import Wanted, maps_of
from interpd_attribution.worker.internals.blocks import Mixing, by_layer, mixing
from interpd_attribution.worker.internals.maps import HeadMaps, SelfScores, problem_of
from interpd_attribution.worker.internals.selection import Heads
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Places


@grouped_method("attribution.attention_norms", paper="arXiv:2004.10102")
def attention_norms(
    ctx: MethodContext,
    *,
    per_head: bool = False,
    residual: bool = False,
    layer_norm: bool = False,
    places: Places,
    heads: Heads,
    beside: SelfScores,
) -> HeadMaps:
    """The length of what attention moves from each feature to where the token is predicted, by layer.

    Args:
        per_head: The length of each head's vector; otherwise that of their sum, and one head comes back.
        residual: With what the position keeps of its own stream, in attention to the own side.
        layer_norm: Behind the norm of the sum, at the scale that it has, in models that have one there.

    Source: Kobayashi et al. 2020; ``residual`` and ``layer_norm``: Kobayashi et al. 2021 (arXiv:2109.07152).
    """
    problem = problem_of(ctx, places)
    if not per_head and (heads.heads or heads.heads_reduce != "none"):
        raise CallerError("heads are added up before the length is taken: per_head=True keeps them apart")
    if per_head and residual:
        raise CallerError("residual belongs to no head: leave per_head out")
    wanted = Wanted(problem, heads, beside)
    wanted.check_size(problem)
    if residual and "cross" in wanted.names:
        raise CallerError("residual: of cross-attention it is no position of the source; set inputs='target'")
    for name in wanted.names:
        stem = wanted.stem(name)
        wanted.stack(name).require("attention_norms", *(f"{stem}.{part}" for part in ("v", "pattern", "z", "out")))
        _Lengths(problem, wanted, name, _Kind(per_head, residual, layer_norm)).collect()
    return maps_of(problem, wanted, {name: found.stacked() for name, found in wanted.collected.items()})


@dataclass(frozen=True)
class _Kind:
    """Which vectors are measured: as the constants of the method say."""

    per_head: bool
    residual: bool
    layer_norm: bool


class _Lengths:
    """The lengths of one kind of attention."""

    def __init__(self, problem: Problem, wanted: Wanted, name: str, kind: _Kind) -> None:
        self.problem, self.wanted, self.name, self.kind = problem, wanted, name, kind
        self.stack, self.stem = wanted.stack(name), wanted.stem(name)
        self.queries = wanted.queries(problem, name)

    def collect(self) -> None:
        """Goes by all layers in one pass."""
        names = [f"{self.stem}.{part}" for part in ("v", "pattern", "z", "out")]
        rows = self.queries
        pick = {
            names[1]: lambda pattern: pattern[:, rows],
            names[2]: lambda z: z[rows],
            names[3]: lambda out: out[rows],
        }
        before = "resid_cross" if self.stem == "cross_attn" else "resid_pre"
        if self.kind.residual or self.kind.layer_norm:
            names.append(before)
            pick[before] = lambda stream: stream[rows]

        def visit(layer: int, values: Mapping[str, Tensor]) -> None:
            own = mixing(self.problem.session, self.stack, layer, self.stem)
            stream = values.get(before)
            lengths = self._lengths(own, values, None if stream is None else stream.double())
            chosen = self.wanted.heads.of(lengths) if self.kind.per_head else lengths
            self.wanted.collected[self.name].add(layer, chosen.float())

        by_layer(self.problem, self.stack, names, visit, pick=pick, layers=sorted(self._chosen))

    @property
    def _chosen(self) -> tuple[int, ...]:
        return self.wanted.collected[self.name].chosen

    def _lengths(self, own: Mixing, values: Mapping[str, Tensor], stream: Tensor | None) -> Tensor:
        """``[head query key]``."""
        v, pattern, z, out = (values[f"{self.stem}.{part}"] for part in ("v", "pattern", "z", "out"))
        pattern, moved = pattern.double(), own.transformed(v)
        scale = own.scale(z)
        if self.kind.layer_norm:
            if own.sum_norm is None:
                raise CallerError(f"layer_norm: no norm stands behind the sum of stream and {own.stem} in this model")
            assert stream is not None
            behind = own.sum_norm.scale(stream + out.double())
            moved, stream, scale = own.sum_norm.push(moved), own.sum_norm.push(stream), scale * behind
            stream = behind[:, None] * stream
        if self.kind.per_head:
            return pattern * moved.norm(dim=-1)[:, None] * scale[:, None]
        # the length of a sum of heads, from the products of their vectors
        products = torch.einsum("hkd,gkd->khg", moved, moved)
        squares = torch.einsum("hqk,khg,gqk->qk", pattern, products, pattern).clamp(min=0)
        lengths = squares.sqrt() * scale[:, None]
        if self.kind.residual and stream is not None:
            at = torch.arange(*self.queries.indices(pattern.shape[-1]), device=pattern.device)
            rows = torch.arange(len(at), device=pattern.device)
            kept = torch.einsum("hq,hqd->qd", pattern[:, rows, at], moved[:, at]) * scale[:, None] + stream
            lengths[rows, at] = kept.norm(dim=-1)
        return lengths[None]
