"""What a loaded model does in a forward pass, found by running it: visits, shapes, rows, callable modules.

The model runs on a few tokens in three batches with plain torch hooks. Sizes that follow the batch or the length
are told from constants by comparing batches of distinct prime sizes; dimension 0 counts as rows only when it
follows the batch, also with explicit position ids, and when row 0 stays as it was while the other rows change.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from interpd.engine.model_config import device_of, has_encoder, n_target_vocab, n_vocab

_IDS = ("decoder_input_ids", "input_ids")

Item = int | str | None
Key = tuple[str, str, Item]
"""(module path, ``input`` or ``output``, which item)"""

SOURCE = "src_pos"
"""What sizes that follow the length of a source are called."""

_SMALL, _LARGE = (2, 5), (3, 7)
_SOURCES = (11, 13)
"""Positions of the sources in the small and the large batches, where the model has an encoder."""
# row 0 is computed by the same kernels in both runs; this only allows for sums in another order
_ROW_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor that a module takes in or gives back, once in every forward pass."""

    path: str
    port: str
    item: Item
    order: int
    """Place among all visits of the forward pass."""
    dtype: torch.dtype
    sizes: tuple[int | str | None, ...]
    """``batch``, ``pos``, ``src_pos``, a constant, or ``None`` for a size that follows something else."""
    has_rows: bool
    """Whether dimension 0 is proved to be rows that do not see one another."""
    folded: bool = False
    """Whether dimension 0 is proved to be such rows times positions, row by row."""


@dataclass(frozen=True, slots=True)
class Probe:
    """All that was learned."""

    places: Mapping[Key, Place]
    """In forward order."""
    first_items: Mapping[tuple[str, str], Item]
    """By (module path, port): the item that ``.input`` or ``.output`` means, its first tensor."""
    n_calls: Mapping[str, int]
    """How often each module is called in a forward pass."""
    plain: Mapping[str, tuple[int, int]]
    """(last size in, last size out) of modules that map one tensor to one tensor of the same leading shape."""
    visits: tuple[tuple[str, str], ...]
    """(module path, port) of every visit, in order."""
    rewritten: frozenset[str] = frozenset()
    """Names of the buffers that a pass itself writes to (LongRoPE chooses its frequencies anew each time)."""

    def first(self, path: str, port: str) -> Place | None:
        """The first tensor of a module's input or output; ``None`` when it has none, or not exactly one visit."""
        if (path, port) not in self.first_items:
            return None
        return self.places.get((path, port, self.first_items[path, port]))


@dataclass(slots=True)
class _Recording:
    n_rows: int
    n_pos: int
    visits: list[tuple[str, str]] = field(default_factory=list)
    shapes: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[Key, torch.dtype] = field(default_factory=dict)
    row_sums: dict[Key, Tensor] = field(default_factory=dict)
    plain: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, path: str, port: str, items: Iterator[tuple[Item, Tensor]]) -> None:
        self.visits.append((path, port))
        for item, tensor in items:
            key = (path, port, item)
            self.shapes[key] = tuple(tensor.shape)
            self.dtypes[key] = tensor.dtype
            if tensor.ndim:
                is_folded = len(tensor) == self.n_rows * self.n_pos
                row = (tensor[: self.n_pos] if is_folded else tensor[0]).detach().double()
                self.row_sums[key] = torch.stack([row.sum(), row.abs().sum()])


def probe_model(model: nn.Module) -> Probe:
    """What the model does in a forward pass with its present attention. Three short passes."""
    before = _buffer_versions(model)
    small = _record(model, probe_inputs(model, *_SMALL, _SOURCES[0]))
    large = probe_inputs(model, *_LARGE, _SOURCES[1])
    other = probe_inputs(model, *_LARGE, _SOURCES[1], seed=1, explicit_positions=True)
    for name in _IDS:
        if name in other:
            other[name][0] = large[name][0]
    large, moved = _record(model, large), _record(model, other)
    n_calls = {path: small.visits.count((path, "input")) for path in {path for path, _ in small.visits}}
    orders = {visit: order for order, visit in enumerate(small.visits)}
    places = {
        key: _place(key, orders[key[:2]], small, large, moved)
        for key in small.shapes
        if n_calls[key[0]] == 1 and all(_same_rank(key, small, run) for run in (large, moved))
    }
    first_items: dict[tuple[str, str], Item] = {}
    for path, port, item in places:
        first_items.setdefault((path, port), item)
    rewritten = frozenset(name for name, version in _buffer_versions(model).items() if version != before.get(name))
    return Probe(places, first_items, n_calls, small.plain, tuple(small.visits), rewritten)


def _buffer_versions(model: nn.Module) -> dict[str, int]:
    return {name: buffer._version for name, buffer in model.named_buffers()}


def probe_ids(model: nn.Module, batch: int, pos: int, seed: int = 0) -> Tensor:
    """Token ids ``[batch pos]`` that are the same for the same seed, on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(n_vocab(model), (batch, pos), generator=generator).to(device_of(model))


def probe_inputs(
    model: nn.Module, batch: int, pos: int, n_source: int, *, seed: int = 0, explicit_positions: bool = False
) -> dict[str, Any]:
    """The arguments of a plain pass over random ids; ``n_source``: positions of a source, where there is one."""
    if not has_encoder(model):
        return forward_inputs(model, probe_ids(model, batch, pos, seed), explicit_positions=explicit_positions)
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(n_target_vocab(model), (batch, pos), generator=generator).to(device_of(model))
    return forward_inputs(model, probe_ids(model, batch, n_source, seed), target)


def forward_inputs(
    model: nn.Module, input_ids: Tensor, target_ids: Tensor | None = None, *, explicit_positions: bool = False
) -> dict[str, Any]:
    """The arguments of a plain pass over ``input_ids`` without padding and without a cache.

    ``target_ids``: what the decoder is given, of an encoder-decoder model.
    """
    inputs: dict[str, Any] = {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "use_cache": False,
    }
    if target_ids is not None:
        inputs["decoder_input_ids"] = target_ids
    if explicit_positions and "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    return inputs


def kept_from(model: nn.Module, probe: Probe) -> int | None:
    """The order of the first place that has only those positions whose logits a pass is to keep.

    ``None`` for a model that keeps all of them whatever it is told.
    """
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        return None
    inputs = probe_inputs(model, *_SMALL, _SOURCES[0])
    # an index on the CPU serves layers on any device
    found = _record(model, {**inputs, "logits_to_keep": torch.tensor([_SMALL[1] - 1])})
    cut = [place.order for key, place in probe.places.items() if _is_cut(place, found.shapes.get(key, ()))]
    return min(cut, default=None)


def _is_cut(place: Place, shape: tuple[int, ...]) -> bool:
    return any(size == "pos" and found != _SMALL[1] for size, found in zip(place.sizes, shape, strict=False))


def _same_rank(key: Key, one: _Recording, other: _Recording) -> bool:
    return key in other.shapes and len(other.shapes[key]) == len(one.shapes[key])


def _place(key: Key, order: int, small: _Recording, large: _Recording, moved: _Recording) -> Place:
    sizes: list[int | str | None] = []
    for dim, (a, b) in enumerate(zip(small.shapes[key], large.shapes[key], strict=True)):
        if dim == 0 and (a, b) == (_SMALL[0], _LARGE[0]):
            sizes.append("batch")
        elif (a, b) == (_SMALL[1], _LARGE[1]):
            sizes.append("pos")
        elif (a, b) == _SOURCES:
            sizes.append(SOURCE)
        else:
            sizes.append(a if a == b else None)
    has_rows = bool(sizes) and sizes[0] == "batch" and _same_first_row(key, large, moved)
    is_product = bool(sizes) and (small.shapes[key][0], large.shapes[key][0]) == (prod(_SMALL), prod(_LARGE))
    folded = is_product and _same_first_row(key, large, moved)
    return Place(*key, order, small.dtypes[key], tuple(sizes), has_rows, folded)


def _same_first_row(key: Key, one: _Recording, other: _Recording) -> bool:
    if one.shapes[key] != other.shapes[key]:
        return False
    a, b = one.row_sums[key], other.row_sums[key]
    # a sum near zero is judged by the size of what was summed
    return torch.allclose(a, b, rtol=0.0, atol=_ROW_TOLERANCE * float(a[1]), equal_nan=True)


def with_taps(own: Probe, eager: Probe, taps: str) -> Probe | None:
    """The probe of the model's own attention with the places below modules named ``taps`` from the eager one.

    ``None`` when the two visit the other modules in different orders, so that no common order exists.
    """
    common = tuple(visit for visit in eager.visits if taps not in visit[0].split("."))
    if common != own.visits:
        return None
    orders = {visit: order for order, visit in enumerate(eager.visits)}
    tapped = {key: place for key, place in eager.places.items() if taps in place.path.split(".")}
    known = {**own.places, **tapped}
    places = {key: replace(place, order=orders[key[:2]]) for key, place in known.items()}
    ordered = dict(sorted(places.items(), key=lambda entry: entry[1].order))
    firsts = {**own.first_items, **{(path, port): item for path, port, item in tapped}}
    return Probe(ordered, firsts, {**eager.n_calls, **own.n_calls}, own.plain, eager.visits, own.rewritten)


@torch.no_grad()
def _record(model: nn.Module, inputs: dict[str, Any]) -> _Recording:
    # of two sides the last one: rows and positions folded into one dimension are looked for in a decoder only
    recording = _Recording(*next(inputs[name] for name in _IDS if name in inputs).shape)
    with ExitStack() as hooks:
        for path, module in model.named_modules():
            hooks.enter_context(_recorded(recording, path, module))
        model(**inputs)
    return recording


def _recorded(recording: _Recording, path: str, module: nn.Module) -> ExitStack:
    def before(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        recording.add(path, "input", _tensors((*enumerate(args), *kwargs.items())))

    def after(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: object) -> None:
        recording.add(path, "output", _tensors(_items(output)))
        if len(args) == 1 and not kwargs and (sizes := _plain_map(args[0], output)):
            recording.plain[path] = sizes

    handles = ExitStack()
    handles.enter_context(module.register_forward_pre_hook(before, with_kwargs=True))
    handles.enter_context(module.register_forward_hook(after, with_kwargs=True))
    return handles


def _items(output: object) -> tuple[tuple[Item, object], ...]:
    if isinstance(output, tuple | list):
        return tuple(enumerate(output))
    if isinstance(output, Mapping):
        return tuple(output.items())
    return ((None, output),)


def _tensors(items: tuple[tuple[Item, object], ...]) -> Iterator[tuple[Item, Tensor]]:
    return ((item, value) for item, value in items if isinstance(value, Tensor))


def _plain_map(taken: object, given: object) -> tuple[int, int] | None:
    if not (isinstance(taken, Tensor) and isinstance(given, Tensor) and taken.is_floating_point() and taken.ndim > 1):
        return None
    if taken.shape[:-1] != given.shape[:-1]:
        return None
    return taken.shape[-1], given.shape[-1]


@torch.no_grad()
def acts_on_last_dim(module: nn.Module, d_in: int, like: Tensor) -> bool:
    """Whether ``module`` maps the last dimension of any tensor, each row for itself (``like``: dtype and device)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, d_in, generator=generator).to(like)
    try:
        whole, flat, alone = module(x), module(x[0]), module(x[0, 1])
    except (RuntimeError, ValueError, TypeError, IndexError):
        # the module wants another shape or more arguments: that is the answer
        return False
    if not all(isinstance(value, Tensor) for value in (whole, flat, alone)) or flat.shape[:-1] != (3,):
        return False
    scale = float(whole.abs().max()) or 1.0
    tolerance = 100 * torch.finfo(like.dtype).eps * scale
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in ((whole[0], flat), (flat[1], alone)))


@torch.no_grad()
def looks_up_ids(module: nn.Module, appended: tuple[int, ...], device: torch.device) -> bool:
    """Whether ``module`` turns token ids ``[...]`` into vectors ``[..., *appended]``, each id for itself."""
    ids = torch.tensor([[2, 0, 1]], device=device)
    try:
        whole, flat, alone = module(ids), module(ids[0]), module(ids[0, 1])
    except (RuntimeError, ValueError, TypeError, IndexError):
        # as above
        return False
    found = (whole, flat, alone)
    if not all(isinstance(one, Tensor) and one.is_floating_point() for one in found):
        return False
    shapes = [tuple(one.shape) for one in found]
    if shapes != [(1, 3, *appended), (3, *appended), appended]:
        return False
    tolerance = 100 * torch.finfo(whole.dtype).eps * (float(whole.abs().max()) or 1.0)
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in ((whole[0], flat), (flat[1], alone)))
