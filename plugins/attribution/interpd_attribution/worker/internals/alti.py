"""ALTI-Logit: what each layer adds to a logit, traced back to the inputs through the layers before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import MethodContext
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.declaration import Scores
from interpd_attribution.worker.internals.blocks import by_layer, mixing
from interpd_attribution.worker.internals.maps import attributes, problem_of, queries_of, table
from interpd_attribution.worker.internals.mixed import by_contributions, stems_of
from interpd_attribution.worker.internals.readout import Logit, readout
from interpd_attribution.worker.internals.selection import Collected, Layers
from interpd_attribution.worker.internals.stacks import decoder_of
from interpd_attribution.worker.layers.declaration import LayerScores
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Places

NAME = "alti_logit"

Parts = Literal["all", "attention"]


@dataclass(frozen=True)
class TracedScores(Scores):
    """A number for each feature and column; NaN where the feature is not attributed or comes behind the column.

    ``deltas`` has one row: by how much scores and ``biases`` miss the logit: rounding, parts that are left out, what
    comes from features that are not attributed, what the graph's writes brought.
    """

    biases: Float32[Tensor, " step"]
    """What biases of attention and behind the stream add, which come from no feature."""


@dataclass(frozen=True)
class TracedLayers(LayerScores):
    """A number for each layer, feature and column, as in ``TracedScores``: layer 0 is what enters the first layer."""

    deltas: Float32[Tensor, "_ step"]
    """As in ``TracedScores``, of all layers."""
    biases: Float32[Tensor, " step"]
    """As in ``TracedScores``."""


@grouped_method("attribution.alti_logit", paper="arXiv:2305.12535")
def alti_logit(ctx: MethodContext, *, parts: Parts = "all", logit: Logit, places: Places) -> TracedScores:
    """What each feature adds to the logit of each token, over all layers.

    What a head moves from a position to where the token is predicted adds to the logit directly; whose it is in that
    position, the contributions of the layers before say (``alti``).

    Args:
        parts: All that adds up to the logit: what attention adds, what enters the first layer, which is the token's
            own, and what MLPs add, shared out as the stream that they read. Or attention alone, as in the paper.

    Source: Ferrando et al. 2023; also for encoder-decoder models.
    """
    traced = _Traced(problem_of(ctx, places), parts, logit)
    return TracedScores(traced.scores.sum(0).float(), *traced.rest)


@grouped_method("attribution.alti_logit_layers", paper="arXiv:2305.12535")
def alti_logit_layers(
    ctx: MethodContext, *, parts: Parts = "all", logit: Logit, places: Places, layers: Layers
) -> TracedLayers:
    """What each feature adds to the logit of each token by each layer.

    The first layer is what enters the first layer, the others are those of the model, counted from one.

    Args:
        parts: As for ``alti_logit``.

    Source: Ferrando et al. 2023; also for encoder-decoder models.
    """
    traced = _Traced(problem_of(ctx, places), parts, logit)
    collected = Collected(layers, len(traced.scores))
    for layer in sorted(collected.chosen):
        collected.add(layer, traced.scores[layer])
    return TracedLayers(collected.stacked().float(), *traced.rest)


class _Traced:
    """One call."""

    def __init__(self, problem: Problem, parts: Parts, logit: Logit) -> None:
        self.problem, self.stack = problem, decoder_of(problem.session)
        self.queries, self.end = queries_of(problem), readout(problem, NAME, logit)
        self.n_source = 0 if problem.sequence.source is None else len(problem.sequence.source.ids)
        self.states = by_contributions(problem, NAME).states(problem.ctx, every=True)
        self.stems = stems_of(self.stack)
        n_positions, n_steps = problem.sequence.n_positions, problem.sequence.n_steps
        found = self.end.directions.new_zeros(self.stack.n_layers + 1, n_steps, n_positions)
        """Scores ``[layer step position]``."""
        biases = self.end.constants.clone()
        for number, stem in enumerate(self.stems):
            biases += self._attention(stem, number, found)
        if parts == "all":
            self._stream(found)
        turned = found.transpose(1, 2)
        source = turned[:, : self.n_source] if self.n_source and attributes(problem, "source") else None
        target = turned[:, self.n_source :] if attributes(problem, "target") else None
        self.scores = table(problem, source, target)
        columns = problem.columns
        given = torch.nan_to_num(self.scores.double()).sum((0, 1))
        own_biases = columns.summed(biases, 0)
        deltas = columns.summed(self.end.logits, 0) - given - own_biases
        self.rest = (problem.told(), deltas[None].float(), own_biases.float())

    def _state(self, layer: int, branch: int) -> Tensor:
        """Shares of the inputs in the stream before a branch of a layer, ``[pos input]``."""
        return self.states.decoder[layer * len(self.stems) + branch]

    def _attention(self, stem: str, branch: int, into: Tensor) -> Tensor:
        """Enters what heads move; gives what their biases add, ``[step]``."""
        queries = self.queries
        # by layer, so that a pass that is run again says the same twice
        moved: dict[int, Tensor] = {}
        biases: dict[int, Tensor] = {}

        def visit(layer: int, values: Mapping[str, Tensor]) -> None:
            own = mixing(self.problem.session, self.stack, layer, stem)
            scale = own.scale(values[f"{stem}.z"])
            biases[layer] = (own.constant(scale) * self.end.directions).sum(-1)
            directions = torch.einsum("sd,hed->she", scale[:, None] * self.end.directions, own.weight)
            v = own.of_heads(values[f"{stem}.v"].double())
            moved[layer] = torch.einsum("she,khe,hsk->sk", directions, v, values[f"{stem}.pattern"].double())

        names = [f"{stem}.{name}" for name in ("v", "pattern", "z")]
        pick = {names[1]: lambda pattern: pattern[:, queries], names[2]: lambda z: z[queries]}
        by_layer(self.problem, self.stack, names, visit, pick=pick)
        for layer, rows in moved.items():
            if stem == "cross_attn" and self.states.encoder is not None:
                into[layer + 1, :, : self.n_source] += rows @ self.states.encoder
            else:
                into[layer + 1] += rows @ self._state(layer, branch)
        return torch.stack(list(biases.values())).sum(0)

    def _stream(self, into: Tensor) -> None:
        """Enters what comes in at the first layer, and what MLPs add."""
        queries, directions = self.queries, self.end.directions
        added: dict[int, Tensor] = {}

        def visit(layer: int, values: Mapping[str, Tensor]) -> None:
            if layer == 0:
                added[-1] = (values["resid_pre"].double() * directions).sum(-1)
            added[layer] = (values["mlp.out"].double() * directions).sum(-1)

        names = ["resid_pre", "mlp.out"]
        by_layer(self.problem, self.stack, names, visit, pick=dict.fromkeys(names, lambda value: value[queries]))
        places = torch.arange(*queries.indices(len(self.states.decoder[0])), device=into.device)
        for layer, amounts in added.items():
            state = self._state(0, 0) if layer < 0 else self._after(layer)
            into[layer + 1] += amounts[:, None] * state[places]

    def _after(self, layer: int) -> Tensor:
        """Shares of the inputs in what a layer's MLP reads, ``[pos input]``."""
        mid = self.stack.site(layer, "resid_mid")
        branches = len(self.stems) if mid in self.problem.session.sites else 0
        return self._state(layer, branches)
