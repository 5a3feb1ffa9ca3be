"""How a canonical site or raw module path is tied to a place that nnsight can read and replace.

``engine/sites.py`` makes these from the tables and from a probe of the loaded model; ``engine/interpreter.py`` uses
them. A ``Location`` is visited once in a forward pass, in ascending ``order``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from interpd.graph.schema import SiteSchema


@dataclass(frozen=True, slots=True)
class Location:
    """One visit of a module's input or output in the forward pass."""

    path: str
    """Module path from the root of the Hugging Face model: ``transformer.h.3.mlp``."""
    port: str
    """``input`` or ``output``."""
    item: int | str | None = None
    """Which item of a tuple (or mapping) output; ``None``: the output is one tensor. For an input always which
    argument: a position or a keyword."""
    order: int = 0
    """Place among all visits of the forward pass."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A site and where it lives.

    ``view`` turns the tensor at the location into what the site means (heads split, one of q/k/v taken out of a
    fused projection) and must stay differentiable; ``merge(full, value)`` returns a new full tensor with the site
    replaced. Both work on any number of rows. Identity: ``merge(full, view(full))`` equals ``full`` bit for bit.
    """

    site: SiteSchema
    location: Location
    view: Callable[[Tensor], Tensor] | None = None
    """``None``: the tensor itself."""
    merge: Callable[[Tensor, Tensor], Tensor] | None = None
    """``None``: the value itself replaces the tensor."""
    carry: tuple[str, str] | None = None
    """For ``resid_mid``: (site of the branch added to it, site of the sum). After a write here the engine replaces the
    sum by ``value + branch`` before anything else at the sum's place, because the model adds the branch to the residual
    that it kept, not to what was written."""
    causal_axes: tuple[int, ...] = ()
    """Dimensions of the *viewed* tensor that count positions, cut to the request's own: ``pos``, ``query_pos``."""
    key_axes: tuple[int, ...] = ()
    """Dimensions that count keys (``key_pos``): past and present positions. In a decode step of a layer with a sliding
    window they are the last ones only, as many as the window keeps."""
    folded: bool = False
    """Whether dimension 0 of the tensor at the location is rows times positions; ``view`` and ``merge`` see the two
    apart, as everywhere."""
    source_axes: tuple[int, ...] = ()
    """Dimensions that count the positions of an encoder (``src_pos``), cut to the request's own source."""

    @property
    def position_axis(self) -> int:
        """The dimension that a read's ``positions`` choose from; of queries and keys that of the queries."""
        return min((*self.causal_axes, *self.source_axes), default=1)


def carries_of(bindings: Mapping[str, Binding], name: str) -> Iterator[tuple[str, str]]:
    """(site of a branch, site of the sum) of each sum that a write at the site ``name`` is carried to, in order."""
    while (carry := bindings[name].carry) is not None:
        yield carry
        name = carry[1]
