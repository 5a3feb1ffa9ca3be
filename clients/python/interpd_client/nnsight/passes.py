"""One simulated forward pass, or generation: nnsight's own interleaver is walked through the layout of the model.

nnsight decides who is served what, when and in which order, as it does with a real model; where the model would compute
a tensor, stands a recorded one. What the block puts in its place becomes a write of the graph.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from nnsight.intervention.source import NO_SKIP
from torch import Tensor

from interpd_client.nnsight.bonds import Absent, SiteBond
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.histories import as_it_was
from interpd_client.nnsight.homes import Home, Homes
from interpd_client.nnsight.layout import Event, Layout, Leaf, Other, mapped
from interpd_client.nnsight.memory import Memory
from interpd_client.nnsight.tensor import Recorded, part_of
from interpd_client.nnsight.viewing import is_same_view
from interpd_client.nnsight.views import Detached, Part, without_data
from interpd_client.places import user_place

if TYPE_CHECKING:
    from interpd_client.nnsight.recorder import Recorder

BEFORE, AFTER = -1, 1 << 30
"""Times before the first and after the last event."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the batch: a prompt of the request."""

    invoke: int
    ids: tuple[int, ...]
    pad_ids: tuple[int, ...]
    """The ids that nnsight puts before it."""

    @property
    def padding(self) -> int:
        """How many positions nnsight puts before it."""
        return len(self.pad_ids)


@dataclass
class Pass:
    """One trace or generation, while its block runs.

    Args:
        recorder: Takes the operations.
        layout: What the model does.
        homes: Where its tensors are on the service.
        rows: The batch.
        n_steps: Forward passes of a generation; 0 for a trace.
        root: nnsight's name of the model.
    """

    recorder: "Recorder"
    layout: Layout
    homes: Homes
    rows: Sequence[Row]
    n_steps: int
    root: str
    arguments: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
    """What the model is called with, where the block may see that."""
    kept_out: tuple[tuple[int, ...], int] = ((), 0)
    """Tokens that are not chosen, and at how many steps."""
    on_serve: Callable[[Any, int], None] = lambda mediator, step: None
    """Called with each worker that a step is about to serve."""
    event: Event = field(init=False)
    """The event at which the pass stands."""
    now: int = BEFORE
    """Its time."""
    step: int = 0
    bonds: list[SiteBond] = field(default_factory=list)
    skipped: str | None = None
    _seen: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    """The tensors served in this step, by memory and geometry."""
    put: dict[tuple[int, int], Any] = field(default_factory=dict)
    """What the places of this step were set to."""
    holders: dict[tuple[int, int], SiteBond] = field(default_factory=dict)
    """The bond of what was put last at a place."""

    @property
    def length(self) -> int:
        """Positions of the longest prompt."""
        return max(len(row.ids) + row.padding for row in self.rows)

    def run(self, interleaver: Any, ids: Any = None) -> Any:
        """Walks through the pass; what the model returns, ``None`` where nobody waits for it."""
        out = checked = None
        if ids is not None:
            ids.show_prompt()
        for step in range(max(self.n_steps, 1)):
            self._begin(step)
            for event in self.layout.events:
                if not interleaver.parked and not interleaver.observers:
                    # nobody waits for anything any more
                    break
                if interleaver.parked is not checked:
                    self._check_waiting(interleaver)
                    checked = interleaver.parked
                out = self._visit(interleaver, event)
            self.now = AFTER
            if self.step < self.kept_out[1] and self.kept_out[0]:
                self._keep_out(list(self.kept_out[0]))
            if ids is not None:
                ids.show_token(step)
        return self._tree(self.layout.events[-1]) if out is None and "result" in interleaver.parked else out

    def _keep_out(self, tokens: list[int]) -> None:
        """Gives tokens no chance at this step; what the block saw of the logits stays as it was."""
        event = self.layout.events[-1]
        leaf = next(leaf for leaf in event.leaves if leaf.item == "logits")
        logits, home = self.tensor(event, leaf), self.homes.of(event, leaf)
        if home is None or not isinstance(logits, Recorded):
            raise CannotRecord("the service offers no site for the logits of this model, so no token can be kept out")
        changed = logits.clone()
        changed[:, -1, tokens] = -torch.inf
        bond = SiteBond(self, home)
        for number, part in enumerate(_by_row(changed, len(self.rows))):
            bond.put(number, part)

    def end(self) -> None:
        """The model is through: what is changed now changes nothing in it."""
        for bond in self.bonds:
            bond.is_over = True

    def _begin(self, step: int) -> None:
        self.end()
        self.step, self.now, self.skipped = step, BEFORE, None
        self._seen, self.put, self.holders, self.bonds = {}, {}, {}, []

    def place(self, event: Event) -> str:
        """nnsight's name of an event."""
        return ".".join(part for part in (self.root, event.path, event.port) if part)

    def _visit(self, interleaver: Any, event: Event) -> Any:
        if self.skipped is not None:
            return self._leave_skipped(interleaver, event)
        self.now, self.event = event.time, event
        name = self.place(event)
        value = None
        if name in interleaver.parked or interleaver.observers.get(name):
            self.serve(interleaver, name)
            value = self._tree(event)
        out = interleaver.handle(name, value)
        if event.port == "input":
            replacement = interleaver.handle(self.place(replace(event, port="skip")), NO_SKIP)
            if replacement is not NO_SKIP:
                self.skipped, self._replacement = event.path, replacement
        return out

    def serve(self, interleaver: Any, name: str, step: int | None = None) -> None:
        """Tells of the workers that are about to be served at a place of this step, or of another one."""
        for mediator in interleaver._ready(name):
            self.on_serve(mediator, self.step if step is None else step)

    def _leave_skipped(self, interleaver: Any, event: Event) -> Any:
        if event.path != self.skipped or event.port != "output":
            return None
        self.skipped, self.now, self.event = None, event.time, event
        self.take(self._tree(event), self._replacement)
        return interleaver.handle(self.place(event), self._replacement)

    def check_skip(self) -> None:
        """Raises ``CannotRecord`` where modules cannot be skipped."""
        if self.n_steps:
            raise CannotRecord(
                "`.skip` in a generation would leave the keys and values of a module out of the cache, which the "
                "service does not do; set its `.output` instead"
            )

    def _check_waiting(self, interleaver: Any) -> None:
        """Raises ``CannotRecord``, at the line of the block that waits for it, for a place that is no module's."""
        for mediator in interleaver.mediators:
            place = None if mediator.pending is None else mediator.pending.provider
            if place is not None and place not in self._places and not self._is_a_modules(place):
                mediator.worker.throw(
                    CannotRecord(
                        f"{place!r} is an operation inside a module's forward (`.source`), which runs on the service; "
                        "read the inputs and outputs of modules, or the canonical sites of `client.model(...).trace`",
                        user_place(mediator.worker.gr_frame),
                    )
                )

    @cached_property
    def _places(self) -> frozenset[str]:
        return frozenset(self.place(event) for event in self.layout.events) | {"result"}

    def _is_a_modules(self, place: str) -> bool:
        path, _, _ = place.rpartition(".")
        modules = dict(self.recorder.model.named_modules(remove_duplicate=False))
        return path.removeprefix(self.root).lstrip(".") in modules or path.startswith(f"{self.root}.generator")

    # what is served

    def _tree(self, event: Event) -> Any:
        if event.time == 0 and self.arguments is not None:
            args, kwargs = self.arguments
            return args, dict(kwargs)

        def other(leaf: Any) -> Any:
            if isinstance(leaf, Leaf):
                return self.tensor(event, leaf)
            return self._opaque(event, leaf.value) if isinstance(leaf, Other) else leaf

        return mapped(event.tree, lambda tensor: tensor, other)

    def _opaque(self, event: Event, value: Any) -> Any:
        plain = value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device))
        return (
            value
            if plain
            else Absent(f"a {type(value).__name__} at {self.place(event)!r} stays on the service", self.recorder)
        )

    def tensor(self, event: Event, leaf: Leaf) -> Any:
        """The tensor of the block for one that passes an event."""
        put = self._replaced(leaf)
        if put is not None:
            return put
        key = (leaf.memory, leaf.geometry)
        if key not in self._seen:
            self._seen[key] = self._fresh(event, leaf)
        return self._seen[key]

    def _replaced(self, leaf: Leaf) -> Any:
        """What the tensor was exchanged for on its way, where it was."""
        for tag in reversed(leaf.trail):
            if tag in self.put:
                same = self.layout.leaf(tag).geometry == leaf.geometry
                return self.put[tag] if same else None
        return None

    def _was_replaced(self, leaf: Leaf) -> bool:
        return any(tag in self.put for tag in leaf.trail)

    def _fresh(self, event: Event, leaf: Leaf) -> Any:
        known = self._known_ids(leaf)
        if known is not None:
            return known
        was_replaced = self._was_replaced(leaf)
        home = self.homes.own(event, leaf) if was_replaced else self.homes.of(event, leaf)
        if home is None:
            return Absent(
                f"the service offers no site for this tensor at {self.place(event)!r}; those it offers are in "
                "`client.model(...).manifest.sites`",
                self.recorder,
            )
        bond = SiteBond(self, home, is_entangled=was_replaced)
        return self._bound(bond, leaf)

    def _bound(self, bond: SiteBond, leaf: Leaf) -> Recorded:
        self.bonds.append(bond)
        home = bond.home
        shape = self.local_shape(home)
        dtype = getattr(torch, home.site.type.dtype)
        shadow = without_data(shape, dtype, leaf.order)
        n_values = len(self.rows) if home.by_row else 1
        memory = Memory(shadow, [None] * n_values, by_row=home.by_row, bond=bond)
        bond.memory = memory
        return self.recorder.view(memory, (), shadow)

    def local_shape(self, home: Home) -> tuple[int, ...]:
        """The shape of a tensor in the block, padding included."""
        n_here = 1 if self.step else self.length
        sizes: dict[str, int] = {"pos": n_here, "query_pos": n_here, "key_pos": self.length + self.step}
        shape = [sizes.get(dim.name, n_here) if dim.size is None else dim.size for dim in home.site.type.dims]
        if home.by_row:
            shape[0] = len(self.rows)
        if home.last_only and home.position_dim is not None:
            shape[home.position_dim] = 1
        return tuple(shape)

    def _known_ids(self, leaf: Leaf) -> Tensor | None:
        """The token ids of the prompts, which are the user's own."""
        first = self.layout.events[0].leaves[0]
        if leaf.memory != first.memory or leaf.geometry != first.geometry or self.step:
            return None
        return torch.tensor([[*row.pad_ids, *row.ids] for row in self.rows])

    # what is put

    def take(self, before: Any, after: Any) -> None:
        """Writes what was put in the place of the tensors of the event at hand. Raises ``CannotRecord``."""
        event = self.event
        if event.time == 0:
            raise CannotRecord("what the model is called with cannot be changed in the block: give the trace other ids")
        for leaf, old, new in _changes(event, event.tree, before, after):
            if new is old or is_same_view(old, new):
                continue
            self._write(event, leaf, old, new)
            self.put[leaf.tag] = new

    def _write(self, event: Event, leaf: Leaf, old: Any, value: Any) -> None:
        home = self.homes.own(event, leaf)
        if home is None:
            raise CannotRecord(f"the service offers no site to write at {self.place(event)!r}")
        if not home.site.writable:
            raise CannotRecord(f"{home.site.name!r} can be read but not written on the service")
        if home.is_report:
            return
        tensor = self._fitting(home, value)
        bond, first = SiteBond(self, home, is_put=True), len(self.recorder.recording.nodes)
        parts: list[Part | None] = [*(_by_row(tensor, len(self.rows)) if home.by_row else [part_of(tensor)])]
        for number, part in enumerate(parts):
            assert part is not None, "every row has a value"
            if not _is_unchanged(old, number, part):
                bond.put(number, part)
                # read again where it is needed, so that gradients are taken of what the model goes on with
                parts[number] = None
        replaced = self.holders.get(leaf.tag)
        if replaced is not None:
            replaced.is_over = True
            # rows of other invokes were put there before
            bond.written |= replaced.written
        self.holders[leaf.tag] = bond
        bond.own_nodes = range(first, len(self.recorder.recording.nodes))
        self._bind(tensor, bond, parts)
        if not isinstance(value, Recorded):
            self.recorder.frozen[id(value)] = (value, home.site.name)

    def _bind(self, tensor: Recorded, bond: SiteBond, parts: list[Part | None]) -> None:
        """From now on what the block holds is what the model goes on with."""
        memory = tensor._memory
        if all(isinstance(step, Detached) for step in tensor._steps):
            # what was detached and put there is where the model's history begins anew
            bond.before = as_it_was(self.recorder, tensor, bond.own_nodes.start)
            if tensor._steps and memory.bond is not None:
                memory.is_shared = True
                memory = tensor._memory = Memory(memory.shadow, parts)
                memory.is_shared = True
            tensor._steps = ()
        if tensor._steps or memory.bond is not None:
            # a part of something, or what lies elsewhere in the model too: a change in place has no one meaning
            memory.is_shared = True
            return
        memory.by_row, memory.rows = bond.home.by_row, parts
        memory.bond, bond.memory = bond, memory
        self.bonds.append(bond)

    def _fitting(self, home: Home, value: Any) -> Recorded:
        if not isinstance(value, Tensor):
            raise CannotRecord(f"{home.site.name!r} takes a tensor, got {type(value).__name__}")
        wanted, dtype = self.local_shape(home), home.site.type.dtype
        if tuple(value.shape) != wanted or str(value.dtype) != f"torch.{dtype}":
            got = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
            raise CannotRecord(
                f"{home.site.name!r} is {dtype}{list(wanted)} here, got {got}; nnsight hands the model whatever it is "
                "given, so give it the same shape and dtype"
            )
        return value if isinstance(value, Recorded) else self.recorder.from_user(value)


def _is_unchanged(old: Any, number: int, part: Part) -> bool:
    """Whether a row is set to what it holds anyway."""
    return isinstance(old, Recorded) and not old._steps and old._memory.by_row and old._memory.rows[number] == part


def _by_row(tensor: Recorded, n_rows: int) -> list[Part]:
    from interpd_client.nnsight.memory import row_of

    if n_rows == 1:
        return [part_of(tensor)]
    memory = tensor._memory
    chosen = memory.chosen_rows(tensor._steps)
    if chosen is not None and len(chosen) == n_rows:
        return [memory.row(number) for number in chosen]
    whole = part_of(tensor)
    return [row_of(tensor._recorder, whole, number) for number in range(n_rows)]


def _changes(event: Event, tree: Any, before: Any, after: Any) -> Iterator[tuple[Leaf, Any, Any]]:
    """(leaf, old, new) for every tensor of an event. Raises ``CannotRecord`` for another structure."""
    if isinstance(tree, Leaf):
        yield tree, before, after
    elif isinstance(tree, Other) or tree is None:
        if after is not before and not _is_equal(before, after):
            raise CannotRecord(
                f"at {event.path + '.' + event.port!r} something is set that is no tensor ({type(before).__name__}), "
                "which the service does not take"
            )
    else:
        items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree))
        both_rows = isinstance(after, (tuple, list)) and isinstance(before, (tuple, list))
        if (type(after) is not type(before) and not both_rows) or len(after) != len(before):
            raise CannotRecord(
                f"{event.path + '.' + event.port!r} is a {type(before).__name__} of {len(before)} items, so it must be "
                f"set to one: got {type(after).__name__}"
            )
        for key, part in items:
            yield from _changes(event, part, before[key], after[key])


def _is_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # whatever a stranger's comparison raises: it is not the same
        return False
