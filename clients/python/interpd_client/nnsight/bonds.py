"""What ties the tensors of a block to the model: sites on the service, and tensors that it does not offer."""

from typing import TYPE_CHECKING, Any, NoReturn

from interpd.graph.ir import Ref
from interpd_client.indices import select_positions
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.homes import Home
from interpd_client.nnsight.layout import Use
from interpd_client.nnsight.memory import Memory
from interpd_client.nnsight.views import Index, Padding, Part, fitted, padded

if TYPE_CHECKING:
    from interpd_client.nnsight.passes import Pass
    from interpd_client.nnsight.recorder import Recorder


class SiteBond:
    """Ties a memory to a site, in one step of one pass.

    Args:
        owner: The pass.
        home: The site.
        is_put: Whether the block put the memory there, so that it flows on from this place only.
        is_entangled: Whether the memory lies in the model in a way that a write cannot follow.
    """

    def __init__(self, owner: "Pass", home: Home, *, is_put: bool = False, is_entangled: bool = False) -> None:
        self.owner = owner
        self.home = home
        self.step = owner.step if owner.n_steps else None
        self.is_put = is_put
        self.is_entangled = is_entangled
        self.is_over = False
        """Whether the model has left the step, so that nothing of it can be changed any more."""
        self.memory: Memory | None = None
        self.written: set[int] = set()
        """Rows that were written at the site."""
        self.before: frozenset[Ref] = frozenset()
        """What the memory was when the block put it there."""
        self.own_nodes = range(0)
        """The nodes that put it there."""
        self._whole: dict[int, Part] = {}

    def read(self, row: int) -> Part:
        """What is at the site, of one row."""
        known = self._whole.pop(row, None)
        return known or self._read(row, (-1,) if self.home.last_only else None)

    def _read(self, row: int, positions: tuple[int, ...] | None) -> Part:
        params = {"site": self.home.site.name}
        if positions is not None:
            params["positions"] = positions  # type: ignore[assignment]
        with self.owner.recorder.at_step(self.step):
            node = self.owner.recorder.recording.add("site.read", (), params, invoke=self._invoke(row))
        return Part(Ref(node), None if positions is not None else self._padding(row))

    def read_positions(self, row: int, step: Index) -> Part | None:
        """Only the positions that ``step`` picks of the logits, so that no other logits are computed."""
        if self.home.site.name != "logits" or self.home.last_only:
            return None
        index, left = step._placed(self._padding(row))
        names = [dim.name for dim in self.home.site.type.dims]
        found = None if left else select_positions(index, names)
        if found is None:
            return None
        if row not in self._whole:
            # left out of the graph unless somebody needs the rest; gradients are taken of the first read
            self._whole[row] = self._read(row, None)
        positions, rest = found
        part = self._read(row, positions)
        recorder = self.owner.recorder
        return Part(recorder.node("tensor.getitem", part.ref, recorder.index(rest)))

    @property
    def has_padding(self) -> bool:
        """Whether some rows have padded positions."""
        return not self.step and any(row.padding for row in self.owner.rows)

    def write(self, row: int, value: Part) -> bool:
        """A change in place. Raises ``CannotRecord`` where no write has the same effect."""
        home, now = self.home, self.owner.now
        uses = [] if self.is_over else [use for use in self.owner.homes.uses(home.memory) if self._is_own(use)]
        later = [use for use in uses if use.time > now]
        if not later:
            return False
        is_split = len(uses) < len(self.owner.homes.uses(home.memory))
        reaches = not is_split if home.is_middle else all(home.tag in use.trail for use in later)
        if self.is_entangled or not reaches:
            raise CannotRecord(
                f"this changes in place what lies at {home.site.name!r} and elsewhere in the model, and no single "
                "write does the same; assign to the module instead, as in `module.output = new`"
            )
        if any(home.time < use.time <= now for use in uses):
            raise CannotRecord(
                f"this changes in place what lies at {home.site.name!r}, but the model has computed something of it "
                "by now and goes on to use the rest; make the change right after reading it, before other modules are "
                "mentioned"
            )
        if not home.site.writable:
            raise CannotRecord(f"{home.site.name!r} can be read but not written on the service")
        self._hold_back(row)
        self.put(row, value)
        return True

    def _hold_back(self, row: int) -> None:
        """Keeps the change from places behind that were set to other tensors, of which this row is as it was."""
        assert self.memory is not None, "it is the memory that changes"
        for tag in {tag for use in self.owner.homes.uses(self.home.memory) for tag in use.trail}:
            holder = self.owner.holders.get(tag)
            if holder is not None and holder is not self and row not in holder.written and tag[0] > self.home.time:
                holder.put(row, self.memory.row(row))

    def put(self, row: int, value: Part) -> None:
        """A write at the site."""
        self.written.add(row)
        owner, recorder = self.owner, self.owner.recorder
        order = self.home.site.order
        for other in owner.bonds:
            if other is not self and other.home.site.order == order and other.memory is not None:
                other.memory.read_all()
        self._whole.pop(row, None)
        with recorder.at_step(self.step):
            for number in [row] if self.home.by_row else range(len(owner.rows)):
                padding = self._padding(number)
                part = fitted(recorder, value, padding if padding and not self.home.last_only else None)
                ref = self._among_all(number, part.ref) if self.home.last_only else part.ref
                recorder.recording.write(self.home.site.name, ref, self._invoke(number))

    def _among_all(self, row: int, value: Ref) -> Ref:
        """All positions, with the last one replaced."""
        recorder = self.owner.recorder
        whole = self._read(row, None).ref
        index = (*[slice(None)] * (self.home.position_dim or 0), slice(-1, None))
        return recorder.node("tensor.setitem", whole, recorder.index(index), value)

    def _is_own(self, use: Use) -> bool:
        """Whether the model reads this memory there, and not one that was put in its place on the way."""
        put = [tag for tag in use.trail if tag in self.owner.put]
        return put[-1:] == ([self.home.tag] if self.is_put else [])

    def _invoke(self, row: int) -> int:
        return self.owner.rows[row].invoke

    def _padding(self, row: int) -> Padding | None:
        owner, dim = self.owner, self.home.position_dim
        if self.step or dim is None or not owner.rows[row].padding:
            self._refuse_other_padding(row)
            return None
        if not self.home.by_row:
            raise padded(Padding(dim, owner.rows[row].padding))
        return Padding(dim, owner.rows[row].padding)

    def _refuse_other_padding(self, row: int) -> None:
        names = [dim.name for dim in self.home.site.type.dims if dim.size is None]
        if self.owner.rows[row].padding and "key_pos" in names:
            raise padded(Padding(names.index("key_pos"), self.owner.rows[row].padding))

    @property
    def is_summand(self) -> bool:
        """Whether all that the model does with the memory is to add it to something."""
        uses = self.owner.homes.uses(self.home.memory)
        return len(uses) == 1 and uses[0].is_sum

    def why_no_gradient(self) -> str:
        """Why the gradient of this memory is not that of a read; empty when it is."""
        if self.owner.n_steps:
            return "gradients are not recorded in a generation: trace the tokens as a prompt"
        if self.is_entangled or not (self.is_put or (self.home.reaches_all and self.home.is_first)):
            return (
                f"what lies at {self.home.site.name!r} reaches the loss also on ways that the service cannot tell "
                "apart from it; take the gradient of the block's input or output instead"
            )
        return ""


class Absent:
    """Something that passes through the model and is not offered by the service: any use of it says so."""

    def __init__(self, why: str, recorder: "Recorder") -> None:
        object.__setattr__(self, "_why", why)
        object.__setattr__(self, "_recorder", recorder)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") or name == "_fields":
            raise AttributeError(name)
        self._refuse()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise self._recorder.refusing(CannotRecord(self._why))

    save = __setattr__ = __getitem__ = __setitem__ = __call__ = __len__ = __iter__ = __bool__ = __contains__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _refuse
    __matmul__ = __rmatmul__ = __pow__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        next(value for value in (*args, *(kwargs or {}).values()) if isinstance(value, cls))._refuse()

    def __repr__(self) -> str:
        return f"<not on the service: {object.__getattribute__(self, '_why')}>"


class WeightBond:
    """Ties a memory to a weight, which cannot be changed."""

    def __init__(self, name: str, part: Part) -> None:
        self._name = name
        self._part = part

    def read(self, row: int) -> Part:
        """The weight."""
        return self._part

    def read_positions(self, row: int, step: Index) -> Part | None:
        """Nothing: a weight is read whole."""
        return None

    @property
    def has_padding(self) -> bool:
        """Never."""
        return False

    def write(self, row: int, value: Part) -> bool:
        """Never. Raises ``CannotRecord``."""
        raise CannotRecord(
            f"{self._name!r} is a weight of the model that others use too; change what the module gives back instead: "
            "`module.output = ...`"
        )

    def why_no_gradient(self) -> str:
        """Weights are no sites."""
        return "gradients of weights are not computed; those of activations are"
