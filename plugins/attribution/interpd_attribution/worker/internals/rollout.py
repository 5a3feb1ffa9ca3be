"""Attention over all layers: shares of the inputs, multiplied up layer by layer, and the flow that fits through."""

from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.internals.maps import (
    Maps,
    SelfScores,
    attributes,
    behind_hidden,
    none_of,
    problem_of,
    queries_of,
    table,
)
from interpd_attribution.worker.internals.maximum_flow import Network
from interpd_attribution.worker.internals.mixed import AttentionShares, Mixed, by_attention, by_contributions
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Places

MOST_WORK = 100_000_000
"""Edges of the network times pairs of positions that ``attention_flow`` takes: some minutes."""


@grouped_method("attribution.attention_rollout", paper="arXiv:2005.00928")
def attention_rollout(ctx: MethodContext, *, shares: AttentionShares, places: Places, beside: SelfScores) -> Maps:
    """How much of each feature attention brings to where the token is predicted, from layer to layer.

    A column adds up to one over all positions. Of an encoder-decoder model self-attention and cross-attention are a
    step each, and cross-attention leads on to what the encoder's layers bring together.

    Source: Abnar & Zuidema 2020.
    """
    problem = problem_of(ctx, places)
    return _maps(problem, by_attention(problem, "attention_rollout", shares), beside)


@grouped_method("attribution.alti", paper="arXiv:2203.04212")
def alti(ctx: MethodContext, *, places: Places, beside: SelfScores) -> Maps:
    """The rollout of shares by how near what comes from a position is to what a layer makes of all.

    Near is meant in the 1-norm, of transformed vectors. A column adds up to one over all positions.

    Source: Ferrando et al. 2022; of encoder-decoder models arXiv:2205.11631.
    """
    problem = problem_of(ctx, places)
    return _maps(problem, by_contributions(problem, "alti"), beside)


@grouped_method("attribution.attention_flow", paper="arXiv:2005.00928")
def attention_flow(ctx: MethodContext, *, shares: AttentionShares, places: Places, beside: SelfScores) -> Maps:
    """The greatest flow from where the token is predicted to each feature, attention being the capacities.

    A maximum-flow problem for each pair of positions, so for short sequences; larger ones are refused.

    Source: Abnar & Zuidema 2020. Of encoder-decoder models as ``attention_rollout``.
    """
    problem = problem_of(ctx, places)
    return _Flow(problem, by_attention(problem, "attention_flow", shares), beside).maps()


def _is_beside(problem: Problem, beside: SelfScores) -> bool:
    """Whether the decoder's own scores come back beside those of the source."""
    has_encoder = problem.sequence.source is not None
    return has_encoder and not attributes(problem, "target") and beside.output_decoder_self_scores


def _maps(problem: Problem, mixed: Mixed, beside: SelfScores) -> Maps:
    states = mixed.states(problem.ctx)
    return _result(problem, beside, states.encoder, states.decoder[-1])


def _result(problem: Problem, beside: SelfScores, encoder: Tensor | None, decoder: Tensor) -> Maps:
    """Of shares ``[whose where]``."""
    n_source, at = 0 if encoder is None else len(encoder), decoder[queries_of(problem)].T
    source = at[:n_source] if attributes(problem, "source") and n_source else None
    scores = table(problem, source, at[n_source:] if attributes(problem, "target") else None)
    empty = none_of(scores)
    return Maps(
        scores,
        problem.told(),
        encoder.T.float().contiguous() if encoder is not None and beside.output_encoder_self_scores else empty,
        behind_hidden(decoder[:, n_source:].T) if _is_beside(problem, beside) else empty,
    )


Node = tuple[Literal["encoder", "decoder"], int, int]
"""(stack, after how many of its steps, position)."""


class _Flow:
    """The network of a sequence, and the flows that are asked for."""

    def __init__(self, problem: Problem, mixed: Mixed, beside: SelfScores) -> None:
        self.problem, self.mixed, self.beside = problem, mixed, beside
        self.n_source = len(mixed.encoder[0].own) if mixed.encoder else 0
        self.n_target = len(mixed.decoder[0].own)
        rows = range(self.n_target) if _is_beside(problem, beside) else range(self.n_target)[queries_of(problem)]
        self.of_decoder = [(row, at) for row in rows for at in self._inputs(row)]
        of_encoder = range(self.n_source if beside.output_encoder_self_scores else 0)
        self.of_encoder = [(row, at) for row in of_encoder for at in range(self.n_source)]
        self._check_work()
        self.network = self._network()

    def maps(self) -> Maps:
        """The flows of all pairs."""
        problem = self.problem
        problem.expect(len(self.of_decoder) + len(self.of_encoder), "flows")
        decoder = torch.zeros(self.n_target, self.n_source + self.n_target, dtype=torch.float64)
        encoder = torch.zeros(self.n_source, self.n_source, dtype=torch.float64)
        for row, at in self.of_decoder:
            decoder[row, at] = self._flow(("decoder", len(self.mixed.decoder), row), at)
        for row, at in self.of_encoder:
            encoder[row, at] = self._flow(("encoder", len(self.mixed.encoder), row), at)
        device = problem.session.device
        return _result(problem, self.beside, encoder.to(device) if self.n_source else None, decoder.to(device))

    def _inputs(self, row: int) -> list[int]:
        """Those that may bring something to a position and are asked for: source, then target."""
        source = range(self.n_source if attributes(self.problem, "source") else 0)
        is_wanted = attributes(self.problem, "target") or _is_beside(self.problem, self.beside)
        return [*source, *range(self.n_source, self.n_source + (row + 1 if is_wanted else 0))]

    def _check_work(self) -> None:
        """Raises ``CallerError`` where there is too much to do."""
        shares = [share for step in (*self.mixed.encoder, *self.mixed.decoder) for share in (step.own, step.source)]
        n_edges = sum(int((share > 0).sum()) for share in shares if share is not None)
        n_pairs = len(self.of_decoder) + len(self.of_encoder)
        if n_pairs * n_edges > MOST_WORK:
            raise CallerError(
                f"attention_flow: {n_pairs} pairs of positions in a network of {n_edges} edges are more than it takes: "
                "attribute fewer tokens (start, stop), leave self scores out, or take attention_rollout"
            )

    def _network(self) -> Network[Node]:
        network: Network[Node] = Network()

        def add(start: Literal["encoder", "decoder"], depth: int, end: Node, shares: Tensor) -> None:
            stack, below, _ = end
            for whose, row in enumerate(shares.tolist()):
                for where, share in enumerate(row):
                    network.add((start, depth + 1, whose), (stack, below, where), share)

        for depth, step in enumerate(self.mixed.encoder):
            add("encoder", depth, ("encoder", depth, 0), step.own)
        for depth, step in enumerate(self.mixed.decoder):
            add("decoder", depth, ("decoder", depth, 0), step.own)
            if step.source is not None:
                add("decoder", depth, ("encoder", len(self.mixed.encoder), 0), step.source)
        return network

    def _flow(self, whose: Node, at: int) -> float:
        where: Node = ("encoder", 0, at) if at < self.n_source else ("decoder", 0, at - self.n_source)
        flow = self.network.maximum(whose, where)
        self.problem.worked(1)
        return flow
