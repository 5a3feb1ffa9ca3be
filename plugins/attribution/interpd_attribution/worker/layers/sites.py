"""Which sites of the layers are attributed, and to which positions their values belong."""

from collections.abc import Sequence
from dataclasses import dataclass

from interpd.sdk import CallerError, Session
from interpd_attribution.worker.problem import Problem

SIDES = {"pos": "target", "src_pos": "source"}


@dataclass(frozen=True, kw_only=True)
class LayerSites:
    """The sites that are attributed.

    Args:
        sites: Names of sites, raw module paths included; ``{i}`` stands for all layers that have such a site. Empty:
            what each layer's MLP adds.
    """

    sites: tuple[str, ...] = ()


def sites_of(session: Session, asked: Sequence[str]) -> tuple[str, ...]:
    """The names of the sites that were asked for, in order. Raises ``CallerError``."""
    known = session.sites
    stacks = ("encoder.", "decoder.") if session.info.has_encoder else ("",)
    names: list[str] = []
    for pattern in asked or tuple(f"{stack}layers.{{i}}.mlp.out" for stack in stacks):
        numbered = [pattern.replace("{i}", str(layer)) for layer in range(session.info.n_layers)]
        found = [name for name in dict.fromkeys(numbered) if name in known]
        if not found:
            raise CallerError(f"no site {pattern!r} in model {session.info.name!r}; '{{i}}' stands for all layers")
        names += found
    for name in names:
        dims = [dim.name for dim in known[name].type.dims]
        if len(dims) < 3 or dims[1] not in SIDES or not known[name].writable:
            raise CallerError(
                f"site {name!r} is {known[name].type}: it has no vector for each position to attribute to"
            )
    if len(set(names)) < len(names):
        raise CallerError("a site is named twice")
    return tuple(names)


def heads_of(session: Session, asked: Sequence[str]) -> tuple[str, ...]:
    """The same of sites with heads; what each head of attention to its own stack reads, where none is named."""
    stacks = ("encoder.", "decoder.") if session.info.has_encoder else ("",)
    names = sites_of(session, asked or tuple(f"{stack}layers.{{i}}.attn.z" for stack in stacks))
    for name in names:
        if len(session.sites[name].type.dims) != 4:
            raise CallerError(f"site {name!r} is {session.sites[name].type}: it has no heads")
    return names


def positions_of(problem: Problem, site: str) -> slice:
    """To which of all positions the values of a site belong."""
    is_source = SIDES[problem.session.sites[site].type.dims[1].name] == "source"
    side = problem.sequence.source if is_source else problem.sequence.target
    assert side is not None
    return side.positions
