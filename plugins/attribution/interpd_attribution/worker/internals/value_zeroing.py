"""Value zeroing: how far a position's stream moves when a layer may not mix another position's values in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.internals.maps import (
    LayerMaps,
    SelfScores,
    attributes,
    behind_hidden,
    none_of,
    problem_of,
    queries_of,
    table,
)
from interpd_attribution.worker.internals.selection import Collected, Layers, chosen_of
from interpd_attribution.worker.internals.stacks import Stack, decoder_of, encoder_of
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.passes import Edit
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Places

Metric = Literal["cosine", "euclidean"]

COMPARED_BYTES = 64 << 20
"""Streams that are compared at once, in float64."""


@dataclass(frozen=True, kw_only=True)
class ZeroedHeads:
    """Whose values are zeroed. Heads are those of the values: of grouped heads there are fewer than of queries.

    Args:
        encoder_zeroed_units_indices: Heads of the encoder; empty: all.
        encoder_zeroed_units_layers: For each of these heads its layer, and no others are zeroed; empty: each layer's.
        decoder_zeroed_units_indices: The same of the decoder, or of a decoder-only model.
        decoder_zeroed_units_layers: The same of the decoder, or of a decoder-only model.
        cross_zeroed_units_indices: The same of cross-attention.
        cross_zeroed_units_layers: The same of cross-attention.
    """

    encoder_zeroed_units_indices: tuple[int, ...] = ()
    encoder_zeroed_units_layers: tuple[int, ...] = ()
    decoder_zeroed_units_indices: tuple[int, ...] = ()
    decoder_zeroed_units_layers: tuple[int, ...] = ()
    cross_zeroed_units_indices: tuple[int, ...] = ()
    cross_zeroed_units_layers: tuple[int, ...] = ()

    def of(self, kind: str, n_layers: int, n_heads: int) -> dict[int, tuple[int, ...]]:
        """The heads by layer. Raises ``CallerError``."""
        name = f"{kind}_zeroed_units_indices"
        heads, layers = getattr(self, name), getattr(self, f"{kind}_zeroed_units_layers")
        if not layers:
            return dict.fromkeys(range(n_layers), chosen_of(heads, n_heads, name))
        if len(layers) != len(heads):
            raise CallerError(f"{kind}_zeroed_units_layers: {len(layers)} layers for {len(heads)} heads; give one each")
        found: dict[int, tuple[int, ...]] = {}
        for layer, head in zip(layers, heads, strict=True):
            (at,) = chosen_of((layer,), n_layers, f"{kind}_zeroed_units_layers")
            found[at] = (*found.get(at, ()), head)
        return {layer: chosen_of(own, n_heads, name) for layer, own in found.items()}


@dataclass(frozen=True)
class Zeroing:
    """One kind of attention whose values are zeroed."""

    stack: Stack
    """Whose stream is looked at."""
    stem: str
    """``attn`` or ``cross_attn``."""
    heads: Mapping[int, Sequence[int]]
    n_values: int
    """How many positions have values."""
    is_causal: bool
    metric: Metric
    threshold: float

    def end(self, layer: int) -> str:
        """Where a layer's stream is compared: behind the final norm in the last layer, as the model goes on with it."""
        is_last = layer == self.stack.n_layers - 1
        return self.stack.last if is_last else self.stack.site(layer, "resid_post")

    def distances(self, problem: Problem, layers: Sequence[int]) -> dict[int, Tensor]:
        """For each layer how far each position moves without each value, ``[position value]``.

        Each row of a pass goes without one position's values, in all layers; behind each layer it goes on with what
        the first row has, which goes without none, so that the layers are told apart.
        """
        found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
        for rows in chunks(self.n_values, max(1, problem.rows_per_pass(grad=False, logits=False) - 1)):
            parts: dict[int, Tensor] = {}
            edits: dict[str, Edit] = {}
            for layer in layers:
                if layer in self.heads:
                    edits[self.stack.site(layer, f"{self.stem}.v")] = self._without(rows, self.heads[layer])
                edits[self.end(layer)] = self._compared(layer, parts)
            last = self.end(max(layers))
            problem.model.run(problem.context, 1 + rows.stop - rows.start, edits, reads=[last])
            for layer, part in parts.items():
                found[layer].append(part)
            problem.worked(rows.stop - rows.start)
        return {layer: torch.cat(parts).T for layer, parts in found.items()}

    def scores(self, found: Tensor) -> Tensor:
        """Distances as shares of each position, ``[position value]``; small ones do not count."""
        if self.is_causal:
            found = found.tril()
        found = torch.where(found < self.threshold, 0.0, found)
        total = found.sum(-1, keepdim=True)
        return found / torch.where(total == 0, 1.0, total)

    def _without(self, rows: slice, heads: Sequence[int]) -> Edit:
        def edit(values: Tensor) -> Tensor:
            values = values.clone()
            of_row = torch.arange(1, len(values), device=values.device)
            positions = torch.arange(rows.start, rows.stop, device=values.device)
            chosen = torch.tensor(heads, device=values.device)
            values[of_row[:, None], positions[:, None], chosen] = 0
            return values

        return edit

    def _distance(self, whole: Tensor, others: Tensor) -> Tensor:
        """``[row pos]``."""
        if self.metric == "cosine":
            return 1 - torch.cosine_similarity(whole, others, dim=-1)
        return (whole - others).norm(dim=-1)

    def _compared(self, layer: int, into: dict[int, Tensor]) -> Edit:
        def edit(stream: Tensor) -> Tensor:
            # one minus a cosine near one has no digits left in float32
            whole, size = stream[:1].double(), max(1, COMPARED_BYTES // (8 * stream[0].numel()))
            into[layer] = torch.cat([self._distance(whole, others.double()) for others in stream[1:].split(size)])
            return stream[:1].expand_as(stream).contiguous()

        return edit


@grouped_method("attribution.value_zeroing", paper="arXiv:2301.12971")
def value_zeroing(
    ctx: MethodContext,
    *,
    similarity_metric: Metric = "cosine",
    threshold: float = 1e-5,
    rows_per_pass: int = 0,
    zeroed: ZeroedHeads,
    places: Places,
    layers: Layers,
    beside: SelfScores,
) -> LayerMaps:
    """How far a layer's output moves without a position's values, as shares of all positions.

    What moves is the stream where the token is predicted; each layer gets what it gets without zeroing. The source's
    rows are those of cross-attention.

    Args:
        similarity_metric: One minus the cosine, or the euclidean distance (which Inseq offers, but cannot compute).
        threshold: Smaller distances are zero: they are what rounding leaves.
        rows_per_pass: The most rows of a pass, two or more: one of them goes without none; 0: as memory allows.

    Source: Mohebbi et al. 2023; for pairs of stacks as Inseq.
    """
    problem = problem_of(ctx, places, rows_per_pass)
    if rows_per_pass == 1:
        raise CallerError("rows_per_pass is 1, expected 2 or more: each row is compared with one that lacks nothing")
    n_source = 0 if problem.sequence.source is None else len(problem.sequence.source.ids)
    n_target = len(problem.sequence.target.ids)
    encoder, decoder = encoder_of(ctx.session), decoder_of(ctx.session)
    wanted: dict[str, Zeroing] = {}

    def want(name: str, kind: str, stack: Stack, stem: str, n_values: int, *, is_causal: bool) -> None:
        stack.require("value_zeroing", f"{stem}.v", "resid_post")
        n_heads = ctx.session.sites[stack.site(0, f"{stem}.v")].type.dims[2].size
        heads = zeroed.of(kind, stack.n_layers, n_heads)
        wanted[name] = Zeroing(stack, stem, heads, n_values, is_causal, similarity_metric, threshold)

    if encoder is not None:
        if beside.output_encoder_self_scores:
            want("encoder_self", "encoder", encoder, "attn", n_source, is_causal=False)
        if attributes(problem, "source"):
            want("cross", "cross", decoder, "cross_attn", n_source, is_causal=False)
    elif any(getattr(zeroed, name) for name in zeroed.__dataclass_fields__ if not name.startswith("decoder")):
        raise CallerError("the model has no encoder: its heads are decoder_zeroed_units_indices")
    if attributes(problem, "target") or (encoder is not None and beside.output_decoder_self_scores):
        want("decoder", "decoder", decoder, "attn", n_target, is_causal=True)
    problem.expect(sum(one.n_values for one in wanted.values()), "rows")
    found = {name: _by_layer(problem, one, layers).transpose(-1, -2) for name, one in wanted.items()}
    return _result(problem, found)


def _by_layer(problem: Problem, zeroing: Zeroing, layers: Layers) -> Tensor:
    """Scores ``[layer position value]``, layers selected and reduced."""
    collected = Collected(layers, zeroing.stack.n_layers)
    chosen = sorted(collected.chosen)
    found = zeroing.distances(problem, chosen)
    for layer in chosen:
        collected.add(layer, zeroing.scores(found[layer]))
    return collected.stacked()


def _result(problem: Problem, found: Mapping[str, Tensor]) -> LayerMaps:
    """Of scores ``[layer value position]``."""
    queries, decoder = queries_of(problem), found.get("decoder")
    of_target = decoder[..., queries] if decoder is not None and attributes(problem, "target") else None
    cross = found["cross"][..., queries] if "cross" in found else None
    scores = table(problem, cross, of_target)
    empty = none_of(scores)
    is_beside = decoder is not None and of_target is None
    return LayerMaps(
        scores,
        problem.told(),
        found["encoder_self"].float() if "encoder_self" in found else empty,
        behind_hidden(decoder) if is_beside and decoder is not None else empty,
    )
