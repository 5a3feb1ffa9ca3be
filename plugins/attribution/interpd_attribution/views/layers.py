"""The axis ``layer`` of a result: which site or which layer each of its entries is."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from interpd.graph.schema import Manifest, OpSchema

if TYPE_CHECKING:
    from interpd_attribution.attribution import Attribution

LAYERS_KEY = "layers"
"""Key of a result's ``info``: the name of each entry of its axis ``layer``."""

_NUMBERED = re.compile(r"(.*?)(\d+)(\..*)")


class Layer(NamedTuple):
    """One entry of the axis as it is shown."""

    group: str
    """What it has in common with its neighbours, where others have something else: ``attn.out``."""
    text: str
    """Its number, or the whole name of a site that has none."""


def layer_names(manifest: Manifest, schema: OpSchema, constants: Mapping[str, Any]) -> list[str]:
    """The names of the sites, or the numbers of the layers, that a method was asked for, in the order of its axis.

    None where the method has no such axis, has all layers in their order, or has sites that no manifest lists.
    """
    params, model = {param.name for param in schema.params}, manifest.model
    if "sites" in params:
        names = [_found(manifest, pattern) for pattern in constants.get("sites") or _usual(manifest, schema)]
        return [name for found in names for name in found] if all(names) else []
    chosen = constants.get("layers") or ()
    return [str(number % (model.n_layers - model.n_encoder_layers)) for number in chosen] if "layers" in params else []


def layers(attribution: "Attribution", size: int) -> list[Layer]:
    """The ``size`` entries of the axis as they are shown."""
    names = _names(attribution, size)
    found = [_NUMBERED.fullmatch(name) for name in names]
    if not names or not all(found):
        return [Layer("", name) for name in names or map(str, range(size))]
    stacks, numbers, sites = zip(*(one.groups() for one in found if one), strict=True)
    groups = []
    for stack, site in zip(stacks, sites, strict=True):
        parts = [stack.removesuffix("layers.").strip(".")] if len(set(stacks)) > 1 else []
        groups.append(" ".join([*parts, *([site.strip(".")] if len(set(sites)) > 1 else [])]))
    return [Layer(*one) for one in zip(groups, numbers, strict=True)]


def grouped(shown: Sequence[Layer]) -> list[tuple[str, int]]:
    """The groups of neighbours, and how many each has."""
    return [(group, len(list(members))) for group, members in groupby(shown, key=lambda one: one.group)]


def axis(attribution: "Attribution", size: int) -> str:
    """What the axis is, in words: ``layers``, or ``layers of mlp.out``, of one site or of each stack's."""
    found = [_NUMBERED.fullmatch(name) for name in _names(attribution, size)]
    sites = list(dict.fromkeys(one[3].strip(".") for one in found if one))
    return f"layers of {', '.join(sites)}" if sites and all(found) else "layers"


def _names(attribution: "Attribution", size: int) -> list[str]:
    said = attribution.info.get(LAYERS_KEY)
    # an aggregator may have left some of them only, and then nothing says which
    return [str(name) for name in said] if isinstance(said, list | tuple) and len(said) == size else []


def _usual(manifest: Manifest, schema: OpSchema) -> tuple[str, ...]:
    """What the workers take where no site is asked for."""
    site = "attn.z" if schema.name.endswith("_heads") else "mlp.out"
    return tuple(
        f"{stack}layers.{{i}}.{site}" for stack in (("encoder.", "decoder.") if manifest.model.has_encoder else ("",))
    )


def _found(manifest: Manifest, pattern: str) -> list[str]:
    numbered = (pattern.replace("{i}", str(number)) for number in range(manifest.model.n_layers))
    return [name for name in dict.fromkeys(numbered) if name in manifest.sites]
