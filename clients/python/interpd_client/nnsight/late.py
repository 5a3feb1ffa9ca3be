"""Values that only the end of a generation brings: the generated ids, and what the block makes of them.

No graph computes with them. Functions of torch on them are kept and called on the real tensors after the run.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.layout import mapped
from interpd_client.nnsight.memory import Memory
from interpd_client.nnsight.tensor import Recorded
from interpd_client.nnsight.views import Nodes, Part, Steps

if TYPE_CHECKING:
    from interpd_client.nnsight.recorder import Recorder

Resolve = Callable[[Recorded], Tensor]
"""Gives the real tensor behind one of the block, after the run."""


class Late(Memory):
    """A value that comes after the run.

    Args:
        shadow: Its shape, as far as it can be told.
        compute: Makes it, given the other tensors of the block.
        needs: The tensors of the block that this asks for.
        is_certain: Whether the shape is sure: no end token can cut it short.
        n_rows: The size of the first dimension, where that is sure in any case.
    """

    def __init__(
        self,
        shadow: Tensor,
        compute: Callable[[Resolve], Tensor],
        needs: list[Recorded],
        *,
        is_certain: bool,
        n_rows: int | None = None,
    ) -> None:
        super().__init__(shadow, [])
        self.compute = compute
        self.needs = needs
        self.is_certain = is_certain
        self.n_rows = n_rows

    def part(self, nodes: Nodes, steps: Steps) -> Part:
        """Never: no graph has it."""
        raise CannotRecord(
            "the ids of a generation exist when it is over, so nothing in the model can be set to what is made of "
            "them; `.save()` them and go on after the trace"
        )

    def assign(self, nodes: Nodes, steps: Steps, value: Part) -> None:
        """Never: what was generated is not changed."""
        raise CannotRecord("the result of a generation cannot be changed; `.save()` it and change it after the trace")

    @property
    def shape(self) -> "tuple[int, ...] | PartOfShape":
        """The shape. Raises ``CannotRecord`` where it is not known before the run."""
        if self.is_certain:
            return self.shadow.shape
        if self.n_rows is None:
            raise _unknown_length()
        return PartOfShape(self.n_rows)


class PartOfShape:
    """A shape of which the first size is known only."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows

    def __getitem__(self, place: int) -> int:
        if place != 0:
            raise _unknown_length()
        return self._n_rows

    def __iter__(self) -> Iterator[int]:
        raise _unknown_length()


def _unknown_length() -> CannotRecord:
    return CannotRecord(
        "how many tokens come is known after the run, as an end token may come early; index from the end, or generate "
        "with `eos_token_id=None`"
    )


def is_late(tensors: list[Recorded]) -> bool:
    """Whether one of them comes after the run."""
    return any(isinstance(tensor._memory, Late) for tensor in tensors)


def call_later(
    recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Recorded]
) -> Any:
    """What ``func`` gives, once the run is over."""
    out = recorder.shadowed(func, args, kwargs)
    certain = all(tensor._memory.is_certain for tensor in tensors if isinstance(tensor._memory, Late))

    def compute(resolve: Resolve) -> Any:
        real = mapped((args, kwargs), lambda tensor: resolve(tensor) if isinstance(tensor, Recorded) else tensor)
        return func(*real[0], **real[1])

    def one(shadow: Tensor, pick: Callable[[Any], Tensor]) -> Recorded:
        memory = Late(shadow, lambda resolve: pick(compute(resolve)), tensors, is_certain=certain)
        return recorder.view(memory, (), shadow)

    if isinstance(out, Tensor):
        return one(out, lambda whole: whole)
    if not isinstance(out, (tuple, list)):
        return out
    return type(out)([one(item, lambda whole, at=at: whole[at]) for at, item in enumerate(out)])
