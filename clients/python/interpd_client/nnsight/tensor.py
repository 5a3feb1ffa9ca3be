"""The tensors that a block of nnsight code sees: shapes and dtypes without numbers, whose use is recorded."""

from typing import TYPE_CHECKING, Any

import torch
from greenlet import getcurrent
from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.memory import Memory
from interpd_client.nnsight.views import Part, Steps
from interpd_client.places import Place

if TYPE_CHECKING:
    from interpd_client.nnsight.recorder import Recorder

CPU = torch.device("cpu")


class Recorded(Tensor):
    """A tensor that exists only on the service. Every function of torch on it becomes an operation of the graph.

    It knows its shape, dtype and strides, and stands for a view of a ``Memory``. Once the block has run, those that
    were saved are exchanged for ordinary tensors, object by object.
    """

    _recorder: "Recorder"
    _memory: Memory
    _steps: Steps
    _shadow: Tensor
    _place: Place
    _worker: Any
    """Which block was running when it was made."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = next(recorded_in((args, kwargs)), None)
        if first is None:
            raise CannotRecord(f"{getattr(func, '__name__', func)} got a value of a trace where none was expected")
        return first._recorder.call(func, tuple(args), dict(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise CannotRecord(f"{func} works on the numbers of a tensor, which exist after the run only")

    def save(self) -> "Recorded":
        """Marks the tensor: it holds its numbers when the trace is over."""
        from nnsight import save  # the same that the mounted ``.save`` is, which need not be mounted

        return save(self)

    def backward(self, gradient: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The context of ``with loss.backward():``. Raises ``CannotRecord`` for a call without a block."""
        from nnsight.tracing.tracer import WithBlockNotFoundError

        from interpd_client.nnsight.gradients import backward_tracer

        tracer = backward_tracer(self, gradient)
        try:
            # looks for the block two frames up, which is the user's line
            tracer.capture()
        except WithBlockNotFoundError:
            raise CannotRecord(
                "`loss.backward()` alone fills the gradients of parameters, which live on the service; write "
                "`with loss.backward():` and read `h.grad` of activations inside"
            ) from None
        return tracer


def recorded(recorder: "Recorder", memory: Memory, steps: Steps, shadow: Tensor) -> Recorded:
    """A tensor of the block: the view ``steps`` of ``memory``, with the shape of ``shadow``."""
    made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
        Recorded,
        shadow.shape,
        strides=shadow.stride(),
        storage_offset=shadow.storage_offset(),
        dtype=shadow.dtype,
        device=CPU,
        requires_grad=False,
    )
    made._recorder, made._memory, made._steps, made._shadow = recorder, memory, steps, shadow
    made._worker = getcurrent()
    return made


def part_of(tensor: Recorded) -> Part:
    """What the tensor holds now, as a value of the graph."""
    return tensor._memory.part(tensor._recorder, tensor._steps)


def recorded_in(value: Any) -> Any:
    """Every recorded tensor in lists, tuples and mappings, in order."""
    if isinstance(value, Recorded):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from recorded_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from recorded_in(item)
    elif isinstance(value, slice):
        yield from recorded_in((value.start, value.stop, value.step))
