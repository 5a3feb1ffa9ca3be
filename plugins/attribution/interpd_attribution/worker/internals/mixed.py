"""How much of each position a layer mixes into each other one, as shares; and what that makes of all layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_attribution.worker.internals.blocks import Mixing, by_layer, mixing
from interpd_attribution.worker.internals.selection import Heads
from interpd_attribution.worker.internals.stacks import Stack, decoder_of, encoder_of
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Problem

HeadsReduce = Literal["mean", "max", "min"]

VECTOR_BYTES = 64 << 20
"""What transformed vectors of some positions may take."""


@dataclass(frozen=True, kw_only=True)
class AttentionShares:
    """How weights of attention become shares.

    Args:
        heads_reduce: What becomes of the heads of a layer; rows are made to add up to one again.
        residual: The share of a position's own stream in each step.
    """

    heads_reduce: HeadsReduce = "mean"
    residual: float = 0.5


@dataclass(frozen=True)
class Step:
    """What one branch of a layer makes of the positions of its stack: a row of shares for each, which add up to one."""

    own: Tensor
    """``[pos pos]``: of the stack's own positions."""
    source: Tensor | None = None
    """``[pos src_pos]``: of what the encoder gives."""


Steps = dict[tuple[int, str], Step]
"""By layer and attention."""


@dataclass(frozen=True)
class Mixed:
    """The steps of both stacks, in order."""

    encoder: tuple[Step, ...]
    decoder: tuple[Step, ...]

    def states(self, ctx: MethodContext, *, every: bool = False) -> "States":
        """Shares of the inputs after the last step, or ``every`` one: the steps multiplied. Takes turns."""
        own = self.decoder[0].own
        size: dict[str, Any] = {"dtype": own.dtype, "device": own.device}
        encoder = torch.eye(len(self.encoder[0].own), **size) if self.encoder else None
        for step in self.encoder:
            ctx.raise_if_cancelled()
            assert encoder is not None
            encoder = step.own @ encoder
        n_target, n_source = len(self.decoder[0].own), 0 if encoder is None else len(encoder)
        found = [torch.cat([torch.zeros(n_target, n_source, **size), torch.eye(n_target, **size)], 1)]
        for step in self.decoder:
            ctx.raise_if_cancelled()
            mixed = step.own @ found[-1]
            if step.source is not None and encoder is not None:
                mixed[:, :n_source] += step.source @ encoder
            found = [*found, mixed] if every else [mixed]
        return States(encoder, tuple(found))


@dataclass(frozen=True)
class States:
    """Shares of the inputs."""

    encoder: Tensor | None
    """``[src_pos src_pos]`` of what the encoder gives."""
    decoder: tuple[Tensor, ...]
    """``[pos src_pos + pos]`` before the first step and after each, or after the last."""


def stems_of(stack: Stack) -> tuple[str, ...]:
    """The attentions of a layer, in order."""
    return ("attn", "cross_attn") if stack.side == "decoder." else ("attn",)


def by_attention(problem: Problem, method: str, shares: AttentionShares) -> Mixed:
    """Weights of attention, heads reduced, beside the share of each position's own stream.

    Rows of reduced weights are made to add up to one. Source: Abnar & Zuidema 2020, section 3.
    """
    residual, heads = shares.residual, Heads(heads_reduce=shares.heads_reduce)
    if not 0 <= residual < 1:
        raise CallerError(f"residual is {residual}, expected a share from 0 to below 1")

    def step(stem: str, values: Mapping[str, Tensor]) -> Step:
        weights = heads.of(values[f"{stem}.pattern"].double())[0]
        total = weights.sum(-1, keepdim=True)
        mixed = (1 - residual) * torch.where(total > 0, weights / total.clamp(min=1e-30), 0.0)
        # whose attention the graph took away keeps its own stream
        own = torch.diag(torch.where(total[:, 0] > 0, residual, 1.0).to(weights))
        return Step(own, mixed) if stem == "cross_attn" else Step(own + mixed)

    def of_stack(stack: Stack) -> Steps:
        names = [f"{stem}.pattern" for stem in stems_of(stack)]
        stack.require(method, *names)
        steps: Steps = {}

        def visit(layer: int, values: Mapping[str, Tensor]) -> None:
            steps.update({(layer, stem): step(stem, values) for stem in stems_of(stack)})

        by_layer(problem, stack, names, visit)
        return steps

    return _both(problem, of_stack)


def by_contributions(problem: Problem, method: str) -> Mixed:
    """Shares by how near each position's transformed vector is to what attention and stream are together.

    Source: Ferrando et al. 2022 (arXiv:2203.04212): distances are those of the 1-norm, the stream
    counts with the position's own vector, biases with none, norms are taken at the scale that they have. Of
    cross-attention as in Ferrando et al. 2022 (arXiv:2205.11631).
    """

    def of_attention(stack: Stack, stem: str) -> Steps:
        before = "resid_cross" if stem == "cross_attn" else "resid_pre"
        names = [before, *(f"{stem}.{part}" for part in ("v", "pattern", "z", "out"))]
        stack.require(method, *names)
        steps: Steps = {}

        def visit(layer: int, values: Mapping[str, Tensor]) -> None:
            own = mixing(problem.session, stack, layer, stem)
            steps[layer, stem] = contributions(problem, own, values[before], values)

        by_layer(problem, stack, names, visit, apart=True)
        return steps

    def of_stack(stack: Stack) -> Steps:
        return {key: step for stem in stems_of(stack) for key, step in of_attention(stack, stem).items()}

    return _both(problem, of_stack)


def contributions(problem: Problem, own: Mixing, stream: Tensor, values: Mapping[str, Tensor]) -> Step:
    """The shares of one attention: of ``stream [pos d_model]``, and of each key's transformed vector."""
    v, pattern, z, out = (values[f"{own.stem}.{part}"] for part in ("v", "pattern", "z", "out"))
    moved, scale = own.transformed(v), own.scale(z)
    total, kept = stream.double() + out.double(), stream.double()
    if own.sum_norm is not None:
        behind = own.sum_norm.scale(total)
        total = behind[:, None] * own.sum_norm.push(total) + own.sum_norm.bias
        kept, moved, scale = behind[:, None] * own.sum_norm.push(kept), own.sum_norm.push(moved), scale * behind
    # a vector for each pair of positions: float32 has digits enough for distances, and is twice as fast and more
    dtype = torch.float64 if problem.session.dtype == torch.float64 else torch.float32
    total, kept, moved, scale, pattern = (one.to(dtype) for one in (total, kept, moved, scale, pattern))
    is_cross, size = own.stem == "cross_attn", total.abs().sum(-1)
    found = total.new_zeros(pattern.shape[1:])
    for rows in chunks(len(total), max(1, VECTOR_BYTES // (8 * moved[0].numel()))):
        problem.ctx.raise_if_cancelled()
        # keys that none of these positions looks at bring nothing
        seen = pattern[:, rows].any(0).any(0).nonzero()
        keys = slice(0, max(int(seen.max()) + 1 if len(seen) else 0, 0 if is_cross else rows.stop))
        vectors = torch.einsum("hqk,hkd->qkd", pattern[:, rows, keys], moved[:, keys]) * scale[rows, None, None]
        if not is_cross:
            at = torch.arange(len(vectors), device=vectors.device)
            vectors[at, at + rows.start] += kept[rows]
        distance = (total[rows, None] - vectors).abs().sum(-1)
        found[rows, keys] = (size[rows, None] - distance).clamp(min=0)
    found = found.double()
    if not is_cross:
        return Step(_to_one(found, torch.eye(len(found), dtype=found.dtype, device=found.device)))
    residue = (size - (total - kept).abs().sum(-1)).clamp(min=0).double()
    whole = torch.cat([residue[:, None], found], 1)
    alone = torch.zeros_like(whole)
    alone[:, 0] = 1
    whole = _to_one(whole, alone)
    return Step(torch.diag(whole[:, 0]), whole[:, 1:])


def _to_one(shares: Tensor, alone: Tensor) -> Tensor:
    """Rows that add up to one; ``alone`` where nothing comes near."""
    total = shares.sum(-1, keepdim=True)
    return torch.where(total > 0, shares / total.clamp(min=1e-30), alone)


def _both(problem: Problem, of_stack: Callable[[Stack], Steps]) -> Mixed:
    """The steps of both stacks, in order."""
    stacks = (encoder_of(problem.session), decoder_of(problem.session))
    return Mixed(*(() if stack is None else _in_order(stack, of_stack(stack)) for stack in stacks))


def _in_order(stack: Stack, steps: Steps) -> tuple[Step, ...]:
    return tuple(steps[layer, stem] for layer in range(stack.n_layers) for stem in stems_of(stack))
