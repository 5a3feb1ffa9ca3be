"""Bindings of canonical sites and raw module paths, made from a table, the config and the probe."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from interpd.engine.attention import TAPS
from interpd.engine.binding import Binding, Location
from interpd.engine.probe import SOURCE, Place, Probe
from interpd.engine.stacks import Stack
from interpd.graph.schema import AbsentSite, SiteSchema
from interpd.graph.types import ITEM_BYTES, Dim, TensorType
from interpd.plugin.site_table import SiteRow

View = Callable[[Tensor], Tensor]
Merge = Callable[[Tensor, Tensor], Tensor]
Pair = tuple[View | None, Merge | None]

_OWN_POSITIONS = ("pos", "query_pos")
_QUANTITIES = {"batch": 1, "pos": None, "query_pos": None, "key_pos": None, SOURCE: None}


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def axis_sizes(stack: Stack, probe: Probe, whole: Any) -> dict[str, int]:
    """The size of each axis of a stack: ``d_model``, ``d_vocab``, ``head``, ``kv_head``, ``d_head``, ``d_mlp``, and
    those that its table adds, which the config of the ``whole`` model has."""
    config = stack.config
    names = {"d_model": "hidden_size", "d_vocab": "vocab_size", "head": "num_attention_heads"}
    sizes = {axis: size for axis, name in names.items() if isinstance(size := getattr(config, name, None), int)}
    added = {axis: getattr(whole, name, None) for axis, name in stack.table.sizes.items()}
    sizes |= {axis: size for axis, size in added.items() if isinstance(size, int)}
    if sizes.keys() >= {"head", "d_model"}:
        sizes["kv_head"] = getattr(config, "num_key_value_heads", None) or sizes["head"]
        sizes["d_head"] = getattr(config, "head_dim", None) or sizes["d_model"] // sizes["head"]
    path, port = stack.table.mlp_width
    if path and (place := probe.first(path.format(i=0), port)):
        sizes["d_mlp"] = int(place.sizes[-1] or 0)
    return sizes


class Layers:
    """Tells which layer a place lies in, counted through all stacks, and whether it belongs to an encoder."""

    def __init__(self, stacks: Sequence[Stack], probe: Probe) -> None:
        self._stacks = stacks
        orders = {visit: order for order, visit in enumerate(probe.visits)}
        # without a known block everything counts as deep as the model: a cost estimate may be too high, never too low
        self._first = [orders.get((stack.table.block.format(i=0), "input"), -1) for stack in stacks]

    def of(self, path: str, order: int) -> int:
        """-1 before the first block, that of the last block before it between two stacks, ``n_layers`` at the end."""
        for stack, first in zip(self._stacks, self._first, strict=True):
            if stack.blocks and path.startswith(stack.blocks):
                return stack.first_layer + int(path.removeprefix(stack.blocks).split(".")[0])
            if order < first:
                return stack.first_layer - 1
        return self._stacks[-1].first_layer + self._stacks[-1].depth

    def in_encoder(self, path: str) -> bool:
        """Whether it is a module of the encoder, or the encoder itself."""
        return any(stack.root and f"{path}.".startswith(stack.root) for stack in self._stacks)


def _whole(row: SiteRow, sizes: Mapping[str, int]) -> Pair:
    return None, None


def _heads(row: SiteRow, sizes: Mapping[str, int]) -> Pair:
    shape = tuple(sizes[axis] for axis in row.axes[-2:])
    return (lambda full: full.unflatten(-1, shape)), (lambda _, value: value.flatten(-2))


def _fused(row: SiteRow, sizes: Mapping[str, int]) -> Pair:
    widths = [prod(sizes[axis] for axis in part) for part in row.parts]
    shape = tuple(sizes[axis] for axis in row.parts[row.part])

    def view(full: Tensor) -> Tensor:
        return full.split(widths, dim=-1)[row.part].unflatten(-1, shape)

    def merge(full: Tensor, value: Tensor) -> Tensor:
        parts = list(full.split(widths, dim=-1))
        parts[row.part] = value.flatten(-len(shape))
        return torch.cat(parts, dim=-1)

    return view, merge


def _fused_by_head(row: SiteRow, sizes: Mapping[str, int]) -> Pair:
    view_part, merge_part = _fused(row, sizes)
    n_heads = sizes[row.axes[-2]]

    def view(full: Tensor) -> Tensor:
        return view_part(full.unflatten(-1, (n_heads, -1)))

    def merge(full: Tensor, value: Tensor) -> Tensor:
        return merge_part(full.unflatten(-1, (n_heads, -1)), value).flatten(-2)

    return view, merge


def _heads_first(row: SiteRow, sizes: Mapping[str, int]) -> Pair:
    return (lambda full: full.transpose(1, 2)), (lambda _, value: value.transpose(1, 2))


VIEWS: dict[str, Callable[[SiteRow, Mapping[str, int]], Pair]] = {
    "": _whole,
    "heads": _heads,
    "fused": _fused,
    "fused_by_head": _fused_by_head,
    "heads_first": _heads_first,
}
"""What the ``view`` of a ``SiteRow`` stands for."""


def canonical_bindings(
    stacks: Sequence[Stack], sizes: Sequence[Mapping[str, int]], probe: Probe, eager_obstacle: str = ""
) -> tuple[dict[str, Binding], list[AbsentSite]]:
    """(the bindings of the tables' sites by name, the sites that the model does not have, with reasons).

    Args:
        stacks: With their tables.
        sizes: Of the axes of each.
        probe: Of the model.
        eager_obstacle: Why the sites that need eager attention are absent; empty when they are not.
    """
    bindings: dict[str, Binding] = {}
    absent: list[AbsentSite] = []
    layers = Layers(stacks, probe)
    for stack, own in zip(stacks, sizes, strict=True):
        found = _stack_bindings(stack, own, layers, probe, eager_obstacle=eager_obstacle)
        bindings.update(found[0])
        absent += found[1]
    return bindings, absent


def _stack_bindings(
    stack: Stack, sizes: Mapping[str, int], layers: Layers, probe: Probe, *, eager_obstacle: str
) -> tuple[dict[str, Binding], list[AbsentSite]]:
    bindings: dict[str, Binding] = {}
    absent: list[AbsentSite] = []
    depth = stack.depth
    for template, rows in _by_name(stack.table.rows).items():
        for layer in range(depth) if "{i}" in template else (0,):
            name = template.format(i=layer)
            # the last alternative is the one that a model without any of them is told of
            row, place = next((found for found in _places(rows, layer, probe) if found[1]), (rows[-1], None))
            if row.eager_attention and eager_obstacle:
                absent.append(AbsentSite(name, eager_obstacle))
            elif place is None:
                absent.append(AbsentSite(name, _why_missing(probe, row.path.format(i=layer), row)))
            elif missing := [axis for axis in row.axes if axis not in _QUANTITIES and axis not in sizes]:
                absent.append(AbsentSite(name, f"the size of {missing[0]} is not known"))
            else:
                bindings[name] = _bind(row, layer, place, sizes, layers)
    absent += [
        AbsentSite(name.format(i=layer), reason)
        for name, reason in stack.table.absent.items()
        for layer in (range(depth) if "{i}" in name else (0,))
    ]
    return bindings, absent


def _by_name(rows: Iterable[SiteRow]) -> dict[str, list[SiteRow]]:
    by_name: dict[str, list[SiteRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    return by_name


def _places(rows: Iterable[SiteRow], layer: int, probe: Probe) -> Iterator[tuple[SiteRow, Place | None]]:
    for row in rows:
        path = row.path.format(i=layer)
        item_known = row.item is not None
        yield row, probe.places.get((path, row.port, row.item)) if item_known else probe.first(path, row.port)


def _why_missing(probe: Probe, path: str, row: SiteRow) -> str:
    n_calls = probe.n_calls.get(path, 0)
    if n_calls == 1:
        return f"module {path!r} has no tensor as {row.port}"
    return f"module {path!r} is called {n_calls} times in a forward pass, expected once"


def _bind(row: SiteRow, layer: int, place: Place, sizes: Mapping[str, int], layers: Layers) -> Binding:
    dims = tuple(Dim(axis, _QUANTITIES.get(axis, sizes.get(axis))) for axis in row.axes)
    schema = SiteSchema(
        name=row.name.format(i=layer),
        type=TensorType(dtype_name(place.dtype), dims),
        order=place.order,
        layer=layers.of(place.path, place.order),
        shares_pass=place.has_rows or place.folded,
        eager_attention=row.eager_attention,
        doc=row.doc,
        prefill_only=layers.in_encoder(place.path) or _is_of_source(row.axes),
    )
    view, merge = VIEWS[row.view](row, sizes)
    carry = None if row.carry is None else (row.carry[0].format(i=layer), row.carry[1].format(i=layer))
    own, keys, source = _position_axes(row.axes)
    return Binding(schema, _location(place), view, merge, carry, own, keys, place.folded, source)


def _location(place: Place) -> Location:
    return Location(place.path, place.port, place.item, place.order)


def _is_of_source(axes: Sequence[str]) -> bool:
    """Whether all its positions are those of an encoder."""
    return SOURCE in axes and not any(axis in _OWN_POSITIONS for axis in axes)


def _position_axes(axes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The dimensions that count (the positions of the pass, keys, positions of an encoder)."""
    words = (_OWN_POSITIONS, ("key_pos",), (SOURCE,))
    return tuple(tuple(index for index, axis in enumerate(axes) if axis in some) for some in words)


def raw_bindings(probe: Probe, stacks: Sequence[Stack], sizes: Mapping[str, int]) -> Iterator[tuple[str, Binding]]:
    """(name, binding) of every module's ``.input`` and ``.output`` and of the further items of tuple outputs."""
    layers, words = Layers(stacks, probe), axis_words(sizes)
    for place in probe.places.values():
        is_first = probe.first_items[place.path, place.port] == place.item
        if not place.path or TAPS in place.path.split(".") or dtype_name(place.dtype) not in ITEM_BYTES:
            continue
        if is_first:
            name = f"{place.path}.{place.port}"
        elif place.port == "output":
            name = f"{place.path}.output.{place.item}"
        else:
            continue
        yield name, _bind_raw(name, place, words, layers)


def _bind_raw(name: str, place: Place, words: Mapping[int, str], layers: Layers) -> Binding:
    dims = _raw_dims(place, words)
    schema = SiteSchema(
        name=name,
        type=TensorType(dtype_name(place.dtype), dims),
        order=place.order,
        layer=layers.of(place.path, place.order),
        # token ids and positions index tables: one out of range ends the context of a GPU, and everybody's work there
        writable=place.dtype.is_floating_point,
        canonical=False,
        shares_pass=place.has_rows,
        prefill_only=layers.in_encoder(place.path) or _is_of_source([dim.name for dim in dims]),
    )
    own, keys, source = _position_axes([dim.name for dim in dims])
    return Binding(schema, _location(place), causal_axes=own, key_axes=keys, source_axes=source)


def _raw_dims(place: Place, words: Mapping[int, str]) -> tuple[Dim, ...]:
    # two dimensions that follow the length: queries, then keys
    names = iter(("query_pos", "key_pos") if place.sizes.count("pos") == 2 else ("pos",) * len(place.sizes))
    dims = []
    for index, size in enumerate(place.sizes):
        if size == "batch":
            dims.append(Dim("batch", 1))
        elif size == "pos":
            dims.append(Dim(next(names), None))
        elif size == SOURCE:
            dims.append(Dim(SOURCE, None))
        else:
            is_last = index == len(place.sizes) - 1
            dims.append(Dim(words.get(size, "") if is_last else "", size))
    return tuple(dims)


def axis_words(sizes: Mapping[str, int]) -> dict[int, str]:
    """The axis word of each size that only one of the model's widths has."""
    widths = {axis: size for axis, size in sizes.items() if axis.startswith("d_")}
    return {size: axis for axis, size in widths.items() if list(widths.values()).count(size) == 1}
