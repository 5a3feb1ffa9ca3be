"""What the user's own model does in a forward pass, found by running it on the meta device, where tensors have no data.

The block of an nnsight trace sees what modules take in and give back in Python's own shape: a tensor here, a tuple
there. And it changes tensors in place, which matters to whoever reads the same memory later. So the model is run twice
on the meta device, with batches and lengths that are primes, and remembered is: every visit of a module in order, the
structure of what passes there, sizes that follow the batch or the length, which of these tensors are one memory, and
when the model's own code reads each memory.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from interpd_client.nnsight.errors import CannotRecord

ROWS, POSITIONS, BOTH = "rows", "positions", "rows*positions"
_PROBES = ((2, 5), (3, 7))
"""(rows, positions) of the two runs."""

SUMS = (torch.ops.aten.add, torch.ops.aten.add_, torch.ops.aten.sub)

Tag = tuple[int, int]
"""(time of an event, number of a tensor in it): a place that a tensor came through on its way."""

Size = int | str | None
"""A constant, ``rows``, ``positions``, their product, or ``None`` for a size that follows something else."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor that passes an event."""

    number: int
    """Which tensor of its event."""
    item: int | str | None
    """Where it stands at the top of an output or of the arguments; ``None``: it is the whole output."""
    is_deep: bool
    """Whether it stands deeper than at the top."""
    memory: tuple[int, int]
    """Which memory it is, and how often that was written to by the model: equal for tensors that are one."""
    geometry: tuple[Any, ...]
    """Size, strides and offset in the first run: equal for tensors that lie in their memory alike."""
    sizes: tuple[Size, ...]
    order: tuple[int, ...]
    """The dimensions, from the one with the largest stride to the one with the smallest."""
    dtype: torch.dtype
    trail: tuple[Tag, ...]
    """The places that it came through, its own last."""

    @property
    def tag(self) -> Tag:
        """Its own place."""
        return self.trail[-1]

    def shape(self, n_rows: int, n_positions: int) -> tuple[int, ...] | None:
        """The sizes for a batch; ``None`` where they cannot be told."""
        known = {ROWS: n_rows, POSITIONS: n_positions, BOTH: n_rows * n_positions}
        sizes = [known[size] if isinstance(size, str) else size for size in self.sizes]
        return None if None in sizes else tuple(sizes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Other:
    """Something that passes an event and is no tensor."""

    value: object


@dataclass(frozen=True, slots=True)
class Event:
    """A visit: a module is about to run (``input``) or has run (``output``)."""

    time: int
    path: str
    """From the root of the model; ``""`` is the root."""
    port: str
    tree: Any
    """What passes, with a ``Leaf`` for each tensor and an ``Other`` for what is neither tensor nor container."""
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """The model's code reads a memory."""

    time: int
    """How many events were before it."""
    trail: tuple[Tag, ...]
    """The places through which the tensor that it reads came."""
    is_sum: bool = False
    """Whether it adds it to something."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A forward pass."""

    events: tuple[Event, ...]
    uses: Mapping[tuple[int, int], tuple[Use, ...]]
    """By memory, in order."""

    def leaf(self, tag: Tag) -> Leaf:
        """The tensor at a place."""
        return self.events[tag[0]].leaves[tag[1]]


@dataclass
class _Run:
    """What one run on the meta device has shown so far."""

    events: list[tuple[str, str, Any]] = field(default_factory=list)
    leaves: list[list[tuple[Tensor, tuple[Any, ...], tuple[Tag, ...]]]] = field(default_factory=list)
    uses: dict[tuple[int, int], list[Use]] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)
    """Tensors without data; kept so that no two memories share an address."""
    writes: dict[int, int] = field(default_factory=dict)

    def memory(self, tensor: Tensor) -> tuple[int, int]:
        """The memory of a tensor, as it is now."""
        address = tensor.untyped_storage()._cdata
        return address, self.writes.get(address, 0)

    def pass_by(self, path: str, port: str, value: Any) -> Any:
        """``value`` with every tensor as an object of its own that knows where it came through."""
        time, found = len(self.events), []

        def tagged(tensor: Tensor) -> Tensor:
            own = tensor.detach()
            own._trail = (*_trail(tensor), (time, len(found)))  # type: ignore[attr-defined]
            self.kept.append(own)
            found.append((own, self.memory(own), own._trail))  # type: ignore[attr-defined]
            return own

        out = mapped(value, tagged)
        self.events.append((path, port, out))
        self.leaves.append(found)
        return out


def _trail(tensor: Tensor) -> tuple[Tag, ...]:
    return getattr(tensor, "_trail", ())


class _Watch(TorchDispatchMode):
    """Notes which memory each operation of the model reads and writes."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self.run = run

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        run, kwargs = self.run, kwargs or {}
        taken = list(_tensors((args, kwargs)))
        aliases = [part.alias_info for part in func._schema.returns if part.alias_info is not None]
        before = [(run.memory(tensor), _trail(tensor)) for tensor in taken]
        out = func(*args, **kwargs)
        run.kept += [*taken, *_tensors(out)]
        known = {tensor.untyped_storage()._cdata for tensor in taken}
        # some views are not declared as such
        is_view = bool(aliases) or any(tensor.untyped_storage()._cdata in known for tensor in _tensors(out))
        if not is_view or func._schema.is_mutable:
            is_sum = func.overloadpacket in SUMS
            for memory, trail in before:
                run.uses.setdefault(memory, []).append(Use(len(run.events), trail, is_sum))
        for address in _written(func, args, kwargs):
            run.writes[address] = run.writes.get(address, 0) + 1
        for tensor in _tensors(out):
            source = next((t for t in taken if t.untyped_storage()._cdata == tensor.untyped_storage()._cdata), None)
            if source is not None and source is not tensor:
                tensor._trail = _trail(source)  # type: ignore[attr-defined]
        return out


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> set[int]:
    """The memories that an operation changes in place."""
    places = [part for part in func._schema.arguments if part.alias_info is not None and part.alias_info.is_write]
    names = [part.name for part in func._schema.arguments]
    given = [args[at] if (at := names.index(part.name)) < len(args) else kwargs.get(part.name) for part in places]
    return {tensor.untyped_storage()._cdata for tensor in _tensors(given)}


def _tensors(value: Any) -> Iterator[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(value, note)
    return iter(found)


def mapped(value: Any, fn: Callable[[Tensor], Any], other: Callable[[Any], Any] = lambda value: value) -> Any:
    """``value`` rebuilt with ``fn`` on every tensor in its lists, tuples and mappings, and ``other`` on the rest."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, tuple):
        items = [mapped(item, fn, other) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, list):
        return [mapped(item, fn, other) for item in value]
    if isinstance(value, dict):
        copy = value.copy()
        for key, item in value.items():
            copy[key] = mapped(item, fn, other)
        return copy
    return other(value)


_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Layout]] = WeakKeyDictionary()


def layout_of(model: nn.Module, keyword: str, options: Mapping[str, object]) -> Layout:
    """What ``model`` does in a forward pass; learned at the first call and remembered.

    Args:
        model: The user's own, with or without weights.
        keyword: The argument that token ids are given as; ``""``: the first positional one.
        options: Further arguments that are no tensors.

    Raises:
        CannotRecord: The model cannot run on the meta device.
    """
    known = _KNOWN.setdefault(model, {})
    # what users change of a model without making a new one
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    key = (attention, sum(1 for _ in model.modules()), keyword, *sorted(options.items()))
    if key not in known:
        try:
            known[key] = _merged(*(_run(model, sizes, keyword, options) for sizes in _PROBES))
        except Exception as error:  # whatever the model's own code raises without data: the user is told
            raise CannotRecord(
                f"{type(model).__name__} cannot run on the meta device, which shows what its modules pass on "
                f"({type(error).__name__}: {error}); write the trace with `client.model(...).trace` instead"
            ) from error
    return known[key]


@torch.no_grad()
def _run(model: nn.Module, sizes: tuple[int, int], keyword: str, options: Mapping[str, object]) -> _Run:
    run, ids = _Run(), torch.ones(sizes, dtype=torch.int64, device="meta")
    args, kwargs = ((), {keyword: ids}) if keyword else ((ids,), {})
    with ExitStack() as stack:
        stack.enter_context(_without_dropout(model))
        for path, module in model.named_modules():
            stack.enter_context(_hooked(run, path, module))
        stack.enter_context(_Watch(run))
        torch.func.functional_call(model, _without_data(model), args, {**kwargs, **options})
    return run


def _without_data(model: nn.Module) -> dict[str, Tensor]:
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    # a model without weights is in training mode until they are loaded
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _hooked(run: _Run, path: str, module: nn.Module) -> ExitStack:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return run.pass_by(path, "input", (args, kwargs))

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return run.pass_by(path, "output", output)

    handles = ExitStack()
    handles.enter_context(module.register_forward_pre_hook(before, with_kwargs=True))
    handles.enter_context(module.register_forward_hook(after, with_kwargs=True))
    return handles


def _merged(one: _Run, other: _Run) -> Layout:
    places = [
        [(path, port, len(leaves)) for (path, port, _), leaves in zip(run.events, run.leaves, strict=True)]
        for run in (one, other)
    ]
    if places[0] != places[1]:
        raise ValueError("it visits other modules for another batch or length")
    events = []
    for time, (path, port, tree) in enumerate(one.events):
        leaves = iter(_leaf(a, b) for a, b in zip(one.leaves[time], other.leaves[time], strict=True))
        placed: list[Leaf] = []
        shaped = _with_leaves(tree, port, leaves, placed)
        events.append(Event(time, path, port, shaped, tuple(placed)))
    return Layout(tuple(events), {memory: tuple(uses) for memory, uses in one.uses.items()})


def _leaf(one: tuple[Any, ...], other: tuple[Any, ...]) -> Leaf:
    (a, memory, trail), (b, _, _) = one, other
    if a.ndim != b.ndim:
        raise ValueError("a tensor has another rank for another batch or length")
    order = tuple(sorted(range(a.ndim), key=lambda dim: (-a.stride(dim), dim)))
    sizes = tuple(_size(*pair) for pair in zip(a.shape, b.shape, strict=True))
    geometry = (tuple(a.shape), a.stride(), a.storage_offset())
    return Leaf(trail[-1][1], None, True, memory, geometry, sizes, order, a.dtype, trail)


def _size(a: int, b: int) -> Size:
    if a == b:
        return a
    (rows, positions), (more_rows, more_positions) = _PROBES
    found = {
        (rows, more_rows): ROWS,
        (positions, more_positions): POSITIONS,
        (rows * positions, more_rows * more_positions): BOTH,
    }
    return found.get((a, b))


def _with_leaves(tree: Any, port: str, leaves: Iterator[Leaf], placed: list[Leaf]) -> Any:
    """``tree`` with leaves for tensors; which item of the output or of the arguments each is, is found on the way."""

    def at(item: int | str | None, is_deep: bool) -> Callable[[Tensor], Leaf]:
        def put(_: Tensor) -> Leaf:
            leaf = replace(next(leaves), item=item, is_deep=is_deep)
            placed.append(leaf)
            return leaf

        return put

    def top(items: Any, key: int | str) -> Any:
        return mapped(items, at(key, not isinstance(items, Tensor)), Other)

    if port == "input":
        args, kwargs = tree
        return (
            tuple(top(item, number) for number, item in enumerate(args)),
            {name: top(item, name) for name, item in kwargs.items()},
        )
    if isinstance(tree, (tuple, list)):
        items = [top(item, number) for number, item in enumerate(tree)]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if isinstance(tree, dict):
        copy = tree.copy()
        for name, item in tree.items():
            copy[name] = top(item, name)
        return copy
    return mapped(tree, at(None, False), Other)
