"""Attention as it is: whom each head looks at."""

from collections.abc import Callable, Mapping

from torch import Tensor

from interpd.sdk import MethodContext
from interpd_attribution.worker.constants import grouped_method
from interpd_attribution.worker.internals.maps import (
    HeadMaps,
    SelfScores,
    attributes,
    behind_hidden,
    check_size,
    none_of,
    problem_of,
    queries_of,
    table,
)
from interpd_attribution.worker.internals.selection import Collected, Heads
from interpd_attribution.worker.internals.stacks import Stack, decoder_of, encoder_of, watch
from interpd_attribution.worker.problem import Problem
from interpd_attribution.worker.request import Places

ADVICE = "choose layers and heads, or reduce them (heads_reduce='mean')"


class Wanted:
    """Which maps of attention are asked for, by name: ``cross``, ``target``, ``encoder_self``, ``decoder_self``."""

    def __init__(self, problem: Problem, heads: Heads, beside: SelfScores) -> None:
        self.heads = heads
        self.encoder, self.decoder = encoder_of(problem.session), decoder_of(problem.session)
        two_sided = self.encoder is not None
        asked = {
            "cross": two_sided and attributes(problem, "source"),
            "target": attributes(problem, "target"),
            "encoder_self": two_sided and beside.output_encoder_self_scores,
            "decoder_self": two_sided and not attributes(problem, "target") and beside.output_decoder_self_scores,
        }
        self.names = tuple(name for name, is_asked in asked.items() if is_asked)
        self.collected = {name: Collected(heads, self.stack(name).n_layers) for name in self.names}

    def stack(self, name: str) -> Stack:
        """Where a map comes from."""
        return self.encoder if name == "encoder_self" and self.encoder is not None else self.decoder

    def stem(self, name: str) -> str:
        """The attention of a layer that it comes from."""
        return "cross_attn" if name == "cross" else "attn"

    def queries(self, problem: Problem, name: str) -> slice:
        """Whose attention it is."""
        return queries_of(problem) if name in ("cross", "target") else slice(None)

    def layers(self) -> list[tuple[str, int]]:
        """(map, layer) of everything, in the order of a pass."""
        order = ("encoder_self", "target", "decoder_self", "cross")
        return [(name, layer) for name in order if name in self.names for layer in sorted(self.collected[name].chosen)]

    def check_size(self, problem: Problem) -> None:
        """Raises ``CallerError`` where the result would be too large."""
        sequence, n_numbers = problem.sequence, 0
        n_heads = 1 if self.heads.heads_reduce != "none" else len(self.heads.heads)
        n_heads = n_heads or problem.session.info.sizes["head"]
        lengths = {
            "source": 0 if sequence.source is None else len(sequence.source.ids),
            "target": len(sequence.target.ids),
        }
        pairs = {
            "cross": lengths["source"] * sequence.n_steps,
            "target": lengths["target"] * sequence.n_steps,
            "encoder_self": lengths["source"] ** 2,
            "decoder_self": lengths["target"] ** 2,
        }
        for name in self.names:
            n_layers = 1 if self.heads.layers_reduce != "none" else len(self.collected[name].chosen)
            n_numbers += n_layers * n_heads * pairs[name]
        check_size(n_numbers, 4, ADVICE)


@grouped_method("attribution.attention", paper="arXiv:1409.0473")
def attention(ctx: MethodContext, *, places: Places, heads: Heads, beside: SelfScores) -> HeadMaps:
    """Attention weights: how much each head looks at each feature where the attributed token is predicted.

    The source's rows are cross-attention. The weights are those of the pass whichever implementation of attention the
    model was loaded with, and are selected and reduced layer by layer where the model is.
    """
    problem = problem_of(ctx, places)
    wanted = Wanted(problem, heads, beside)
    wanted.check_size(problem)
    for name in wanted.names:
        wanted.stack(name).require("attention", f"{wanted.stem(name)}.pattern")
    _collect(problem, wanted)
    return maps_of(problem, wanted, {name: found.stacked() for name, found in wanted.collected.items()})


def maps_of(problem: Problem, wanted: Wanted, found: Mapping[str, Tensor]) -> HeadMaps:
    """The result, of maps ``[layer head query key]``."""
    turned = {name: value.transpose(-1, -2) for name, value in found.items()}
    scores = table(problem, turned.get("cross"), turned.get("target"))
    empty = none_of(scores)
    decoder_self = turned.get("decoder_self")
    return HeadMaps(
        scores,
        problem.told(),
        turned["encoder_self"].float().contiguous() if "encoder_self" in turned else empty,
        behind_hidden(decoder_self) if decoder_self is not None else empty,
    )


def _collect(problem: Problem, wanted: Wanted) -> None:
    """Goes by all patterns in one pass."""
    listeners: dict[str, list[Callable[[Tensor], None]]] = {}

    def listen(name: str, layer: int) -> Callable[[Tensor], None]:
        rows, into = wanted.queries(problem, name), wanted.collected[name]
        # what the pass goes on with is its own: a view of it may be written to behind this
        return lambda value: into.add(layer, wanted.heads.of(value[0, :, rows].float()).clone())

    for name, layer in wanted.layers():
        site = wanted.stack(name).site(layer, f"{wanted.stem(name)}.pattern")
        listeners.setdefault(site, []).append(listen(name, layer))
    order = problem.session.sites
    last = max(listeners, key=lambda site: order[site].order)
    watch(problem, listeners, last.removesuffix("pattern") + "out")
