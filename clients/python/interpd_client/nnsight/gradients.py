"""Gradients: ``with loss.backward():`` and ``.grad``, as gradients of the graph with respect to reads of sites.

An edit of a gradient changes what flows on to earlier places. Gradients are linear, so what an earlier place gets is
its own gradient plus that of ``sum(x * (new - old))``, where the gradient at ``x`` was changed from old to new.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nnsight.tracing.tracer import Tracer
from torch import Tensor

from interpd.graph.ir import Ref
from interpd_client.nnsight.bonds import SiteBond
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.histories import refuse_other_history
from interpd_client.nnsight.memory import Memory
from interpd_client.nnsight.tensor import Recorded, part_of
from interpd_client.nnsight.views import Index, Part, selects_all

if TYPE_CHECKING:
    from types import CodeType

    from interpd_client.nnsight.recorder import Recorder

ONLY_SITES = (
    "gradients are taken with respect to what a module takes in or gives back, as it was read: keep "
    "`h = module.output`, compute the loss, and read `h.grad` inside `with loss.backward():`"
)


@dataclass
class Target:
    """A loss whose gradients are asked for, and the edits of gradients so far."""

    loss: Ref
    edits: list[tuple[Ref, Ref]] = field(default_factory=list)
    """(a read, how much its gradient was changed)."""
    known: dict[tuple[Ref, ...], Recorded] = field(default_factory=dict)
    """Gradients by the reads that they are taken with respect to."""


class BackwardBlock(Tracer):
    """The block of ``with loss.backward():``, run at once, with gradients for ``.grad``."""

    def __init__(self, recorder: "Recorder", target: Target) -> None:
        super().__init__()
        self._recorder = recorder
        self._target = target

    def execute(self, code: "CodeType") -> None:
        """Runs the block."""
        self._recorder.targets.append(self._target)
        try:
            super().execute(code)
        finally:
            self._recorder.targets.pop()


def backward_tracer(loss: Recorded, gradient: Any) -> BackwardBlock:
    """The context of ``with loss.backward():``."""
    return BackwardBlock(loss._recorder, Target(_scalar(loss, gradient)))


def _scalar(loss: Recorded, gradient: Any) -> Ref:
    if gradient is not None:
        loss = (loss * gradient).sum()
    if loss.numel() != 1:
        raise CannotRecord(
            f"gradients are taken of one number, not of a tensor of shape {list(loss.shape)}: `.sum()` or `.mean()` it"
        )
    return part_of(loss).whole()


def gradient(recorder: "Recorder", tensor: Recorded) -> Recorded:
    """``tensor.grad`` inside a backward block."""
    if not recorder.targets:
        raise CannotRecord("`.grad` is known inside `with loss.backward():` only")
    return gradient_of(recorder, recorder.targets[-1], tensor)


def gradients(recorder: "Recorder", outputs: Any, grad_outputs: Any, inputs: list[Any]) -> list[Recorded]:
    """What ``torch.autograd.grad(outputs, inputs)`` gives."""
    losses = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    if len(losses) != 1:
        raise CannotRecord("torch.autograd.grad takes one loss here: add several up")
    weight = grad_outputs[0] if isinstance(grad_outputs, (tuple, list)) else grad_outputs
    target = Target(_scalar(losses[0], weight))
    return [gradient_of(recorder, target, tensor) for tensor in inputs]


def gradient_of(recorder: "Recorder", target: Target, tensor: Any) -> Recorded:
    """The gradient of a target with respect to what was read. Raises ``CannotRecord`` for anything else."""
    if not isinstance(tensor, Recorded):
        raise CannotRecord(ONLY_SITES)
    reads = _reads(tensor)
    if reads not in target.known:
        refuse_other_history(recorder, target.loss, tensor, reads)
        parts: list[Part | None] = [Part(_total(recorder, target, read)) for read in reads]
        site = tensor._memory.bond
        bond = _Edited(recorder, target, reads, parts, is_shared=isinstance(site, SiteBond) and site.is_summand)
        shadow = tensor._shadow.clone()
        memory = Memory(shadow, parts, by_row=tensor._memory.by_row, bond=bond)
        target.known[reads] = recorder.view(memory, (), shadow)
    return target.known[reads]


def set_gradient(recorder: "Recorder", tensor: Recorded, value: Any) -> None:
    """``tensor.grad = value`` inside a backward block."""
    from interpd_client.nnsight.inplace import overwrite

    grad = gradient(recorder, tensor)
    if grad is value:
        # `h.grad *= 2` has changed it already
        return
    bond = grad._memory.bond
    assert isinstance(bond, _Edited), "gradients are made so"
    bond.is_assigned = True
    try:
        overwrite(recorder, grad, value)
    finally:
        bond.is_assigned = False


def _reads(tensor: Recorded) -> tuple[Ref, ...]:
    """The reads of the rows that a tensor shows, each one node of the graph."""
    memory, steps = tensor._memory, tensor._steps
    chosen = memory.chosen_rows(steps)
    if chosen is None:
        is_whole = all(isinstance(step, Index) and selects_all(step.index, step.shape) for step in steps)
        if not is_whole or memory.by_row:
            raise CannotRecord(f"this is a part of a value, or a view of it; {ONLY_SITES}")
        chosen = range(len(memory.rows))
    bond = memory.bond
    why = getattr(bond, "why_no_gradient", lambda: ONLY_SITES)()
    if bond is None or why:
        raise CannotRecord(why or ONLY_SITES)
    return tuple(memory.row(number).whole() for number in chosen)


def _total(recorder: "Recorder", target: Target, read: Ref) -> Ref:
    invoke = recorder.recording.nodes[read.node].invoke
    total = _partial(recorder, target.loss, read, invoke)
    for place, change in target.edits:
        if _is_before(recorder, read, place):
            flow = recorder.node("torch.sum", recorder.node("torch.mul", place, change))
            total = recorder.node("torch.add", total, _partial(recorder, flow, read, invoke))
    return total


def _partial(recorder: "Recorder", target: Ref, read: Ref, invoke: int) -> Ref:
    return Ref(recorder.recording.add("site.grad", (target, read), invoke=invoke))


def _is_before(recorder: "Recorder", read: Ref, other: Ref) -> bool:
    """Whether what was read can have made what was read at the other place."""
    one, two = recorder.recording.nodes[read.node], recorder.recording.nodes[other.node]
    sites = recorder.recording.manifest.sites
    if one.invoke != two.invoke:
        return False
    return sites[str(one.params["site"])].order < sites[str(two.params["site"])].order


class _Edited:
    """What a change of a gradient does: earlier gradients take it into account."""

    def __init__(
        self,
        recorder: "Recorder",
        target: Target,
        reads: tuple[Ref, ...],
        parts: list[Part | None],
        *,
        is_shared: bool,
    ) -> None:
        self._recorder = recorder
        self._target = target
        self._reads = reads
        self._old = list(parts)
        self._is_shared = is_shared
        self.is_assigned = False
        """Whether ``.grad`` is being set, rather than changed in place."""

    def read(self, row: int) -> Part:
        """The gradient itself."""
        part = self._old[row]
        assert part is not None, "gradients are taken when they are asked for"
        return part

    def read_positions(self, row: int, step: Index) -> Part | None:
        """Nothing: a gradient is taken whole."""
        return None

    @property
    def has_padding(self) -> bool:
        """Whether some rows have padded positions."""
        return any(part is not None and part.padding is not None for part in self._old)

    def write(self, row: int, value: Part) -> bool:
        """Notes how much the gradient changed. Raises ``CannotRecord`` where torch would change others along."""
        if self._is_shared and not self.is_assigned:
            raise CannotRecord(
                "in place, this changes the gradient of all that is added up with this tensor, too, as torch has one "
                "tensor for them; set it: `h.grad = h.grad * 2`"
            )
        old = self._old[row]
        assert old is not None, "gradients are taken when they are asked for"
        recorder = self._recorder
        change = recorder.node("tensor.detach", recorder.node("torch.sub", value.whole(), old.whole()))
        self._target.edits.append((self._reads[row], change))
        self._old[row] = value
        return False

    def why_no_gradient(self) -> str:
        """Second derivatives do not exist."""
        return "this is a gradient itself, and second derivatives are not computed"
