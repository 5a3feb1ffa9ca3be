"""Direct logit attribution: what each part of the model adds to a logit by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float32
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.internals.blocks import TOLERANCE, by_layer, mixing
from interpd_attribution.worker.internals.maps import attributes, check_size, problem_of, queries_of, table
from interpd_attribution.worker.internals.readout import Logit, Readout, readout
from interpd_attribution.worker.internals.selection import Collected, Heads
from interpd_attribution.worker.internals.stacks import Stack, decoder_of
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Places

NAME = "direct_logit_attribution"
STREAM = ("resid_pre", "resid_mid", "resid_cross", "resid_post", "attn.out", "cross_attn.out", "mlp.out")


@dataclass(frozen=True)
class LogitParts:
    """What adds up to a logit: all but ``scores`` and ``step_scores`` do, and ``scores`` are ``heads`` by feature."""

    scores: Float32[Tensor, "layer head feature step"]
    """What each head moves from each feature (of the source: by cross-attention); NaN where it is not attributed or
    comes behind the column."""
    step_scores: Float32[Tensor, "score token"]
    deltas: Float32[Tensor, "_ step"]
    """One row: by how much the parts miss the logit. Rounding, unless the graph writes at the stream itself: then what
    the writes brought."""
    heads: Float32[Tensor, "_ _ step"]
    """``[layer head]``, all of them."""
    cross_heads: Float32[Tensor, "_ _ step"]
    """The same of cross-attention; empty without an encoder."""
    mlps: Float32[Tensor, "_ step"]
    """``[layer]``."""
    biases: Float32[Tensor, "_ step"]
    """``[layer]``: of attention, whatever it looks at."""
    embed: Float32[Tensor, " step"]
    """The token's own embedding, where it is predicted."""
    positions: Float32[Tensor, " step"]
    """What else enters the first layer: position embeddings."""
    readout: Float32[Tensor, " step"]
    """Biases of the final norm and behind it."""
    logits: Float32[Tensor, " step"]
    """The logit, or its difference from the foils'."""


@grouped_method("attribution.direct_logit_attribution", paper="https://transformer-circuits.pub/2021/framework/")
def direct_logit_attribution(ctx: MethodContext, *, logit: Logit, places: Places, heads: Heads) -> LogitParts:
    """What embedding, heads, MLPs and biases add to the logit of each token.

    The final norm is taken at the scale that it has in the prompt's pass (norms behind branches as well), a cap on
    logits by what it makes of each; the parts then add up to the logit. ``layers`` and ``heads`` choose and reduce
    ``scores`` only.

    Source: Elhage et al. 2021; nostalgebraist 2020.
    """
    problem = problem_of(ctx, places)
    stack, end = decoder_of(ctx.session), readout(problem, NAME, logit)
    kinds = [("attn", "target")] + ([("cross_attn", "source")] if stack.side else [])
    for stem, _ in kinds:
        stack.require(NAME, f"{stem}.v", f"{stem}.pattern", f"{stem}.z", f"{stem}.out")
    _check_size(problem, heads, stack)
    work = _Work(problem, stack, end, heads)
    found = {side: work.moved(stem, side) for stem, side in kinds}
    work.rest()
    return work.result(table(problem, found.get("source"), found.get("target")))


def _check_size(problem: Problem, heads: Heads, stack: Stack) -> None:
    n_heads = 1 if heads.heads_reduce != "none" else len(heads.heads) or problem.session.info.sizes["head"]
    n_layers = 1 if heads.layers_reduce != "none" else len(heads.layers) or stack.n_layers
    n_numbers = n_layers * n_heads * problem.sequence.n_positions * problem.sequence.n_steps
    check_size(n_numbers, 4, "choose layers and heads, or reduce them (heads_reduce='sum')")


@dataclass(frozen=True)
class _Work:
    """One call: what parts add is entered layer by layer, in float64."""

    problem: Problem
    stack: Stack
    end: Readout
    heads: Heads
    rows: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    """``[... step]`` by part and layer."""

    @property
    def queries(self) -> slice:
        """The positions that predict the attributed tokens."""
        return queries_of(self.problem)

    def moved(self, stem: str, side: str) -> Tensor | None:
        """What heads move from each position, ``[layer head pos step]``, where it is attributed; enters their sums."""
        collected, is_wanted = Collected(self.heads, self.stack.n_layers), attributes(self.problem, side)

        def visit(layer: int, values: Mapping[str, Tensor]) -> None:
            own = mixing(self.problem.session, self.stack, layer, stem)
            scale = own.scale(values[f"{stem}.z"])
            self.rows[f"{stem}.bias", layer] = (own.constant(scale) * self.end.directions).sum(-1)
            # directions as those of each head's values, [step head d_head]
            directions = torch.einsum("sd,hed->she", scale[:, None] * self.end.directions, own.weight)
            self.rows[stem, layer] = torch.einsum("she,she->hs", directions, values[f"{stem}.z"].double())
            if is_wanted and layer in collected.chosen:
                found = torch.einsum("she,khe->hks", directions, own.of_heads(values[f"{stem}.v"].double()))
                found *= values[f"{stem}.pattern"].double().transpose(1, 2)
                collected.add(layer, self.heads.of(found).float())

        names = [f"{stem}.{name}" for name in ("v", "pattern", "z")]
        pick = {names[1]: lambda pattern: pattern[:, self.queries], names[2]: lambda z: z[self.queries]}
        by_layer(self.problem, self.stack, names, visit, pick=pick)
        return collected.stacked() if is_wanted else None

    def rest(self) -> None:
        """Enters embeddings and MLPs, and checks that the stream is a sum."""
        problem, stack, queries = self.problem, self.stack, self.queries
        candidates = ("attn.out", "cross_attn.out", "mlp.out")
        added = [name for name in candidates if stack.site(0, name) in problem.session.sites]

        def visit(layer: int, values: Mapping[str, Tensor]) -> None:
            parts = {name: value.double() for name, value in values.items()}
            self._check_sum(layer, parts, added)
            self.rows["mlp", layer] = (parts["mlp.out"] * self.end.directions).sum(-1)
            if layer == 0:
                self.rows["stream", 0] = (parts["resid_pre"] * self.end.directions).sum(-1)

        names = ["resid_pre", *added, "resid_post"]
        by_layer(problem, stack, names, visit, pick=dict.fromkeys(names, lambda value: value[queries]))
        site = f"{stack.side}embed"
        embed = problem.model.run(problem.context, 1, {}, reads=[site])[site][0, queries]
        self.rows["embed", 0] = (embed.double() * self.end.directions).sum(-1)

    def _check_sum(self, layer: int, parts: Mapping[str, Tensor], added: Sequence[str]) -> None:
        session, site = self.problem.session, self.stack.site(layer, "resid_post")
        total = sum((parts[name] for name in added), parts["resid_pre"])
        rest = (parts["resid_post"] - total).norm() / parts["resid_post"].norm()
        is_written = any(self.stack.site(layer, name) in session.written for name in STREAM)
        if rest > TOLERANCE[session.dtype] and not is_written:
            raise CallerError(f"{NAME}: {site!r} of model {session.info.name!r} is not the sum of what its layer adds")

    def _stacked(self, *names: str) -> Tensor:
        """The sum of parts, ``[layer ... column]``; those that were not entered are zero."""
        layers = range(self.stack.n_layers)
        found = [torch.stack([self.rows[name, layer] for layer in layers]) for name in names if (name, 0) in self.rows]
        return self._summed(torch.stack(found).sum(0))

    def _summed(self, values: Tensor) -> Tensor:
        return self.problem.columns.summed(values, values.ndim - 1)

    def result(self, scores: Tensor) -> LogitParts:
        """All of it, and by how much it misses the logits."""
        heads, mlps, biases = self._stacked("attn"), self._stacked("mlp"), self._stacked("attn.bias", "cross_attn.bias")
        cross = self._stacked("cross_attn") if self.stack.side else heads[:0, :0]
        stream, embed = self._summed(self.rows["stream", 0]), self._summed(self.rows["embed", 0])
        constants, logits = self._summed(self.end.constants), self._summed(self.end.logits)
        parts = (heads.sum((0, 1)), cross.sum((0, 1)), mlps.sum(0), biases.sum(0), stream, constants)
        deltas = logits - torch.stack(parts).sum(0)
        rows = (deltas[None], heads, cross, mlps, biases, embed, stream - embed, constants, logits)
        return LogitParts(scores, self.problem.told(), *(row.float() for row in rows))
