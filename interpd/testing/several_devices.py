"""Several devices on a machine that has one: tensors of the CPU that stand for tensors of ``cpu:0``, ``cpu:1``, ...

    with several_devices():
        model = dispatch_model(model, {"model.layers.0": "cpu:0", "model.layers.1": "cpu:1"})   # of accelerate

Numbers are the CPU's own. What CUDA refuses is refused: an operation on tensors of two devices, but for copies, for
CPU scalars, and for indices on the CPU. So code that runs here moves its tensors as code for several GPUs must.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

_COPIES = ("aten::copy_", "aten::_to_copy")


class OnDevice(torch.Tensor):
    """A tensor that stands for one of device ``cpu:<label>``."""

    inner: torch.Tensor
    label: int

    @staticmethod
    def __new__(cls: type["OnDevice"], inner: torch.Tensor, label: int) -> "OnDevice":
        """``inner`` as a tensor of device ``label``."""
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=inner.device,
        )
        self.inner, self.label = inner, label
        return self

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """``cpu:<label>``."""
        return torch.device("cpu", self.label)

    def cpu(self, *_: object) -> torch.Tensor:  # type: ignore[override]
        """The plain tensor."""
        return self.detach().inner

    def tolist(self) -> Any:
        """The numbers."""
        return self.cpu().tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.label}, {self.inner})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Moves between devices as moves, which autograd undoes; everything else as it is."""
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to:
            return _moved(*args, **kwargs)
        if func is torch.Tensor.copy_ and isinstance(args[0], cls):
            args = (args[0], _moved(args[1], args[0].device), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation on the plain tensors."""
        return _run(func, args, kwargs or {})


class _Move(torch.autograd.Function):
    """A copy on another device; its gradient goes back to the first."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, label: int) -> torch.Tensor:
        """The copy."""
        ctx.label = x.label if isinstance(x, OnDevice) else None
        return OnDevice((x.inner if isinstance(x, OnDevice) else x).clone(), label)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradient where the tensor came from."""
        (grad,) = grads
        plain = grad.inner if isinstance(grad, OnDevice) else grad
        return (plain if ctx.label is None else OnDevice(plain, ctx.label)), None


def _moved(x: torch.Tensor, *places: Any, **options: Any) -> torch.Tensor:
    """``x.to(...)``, where the device may be the first argument, that of a tensor, or ``device=``."""
    other = places[0] if places else options.pop("other", None)
    if isinstance(other, torch.Tensor):
        places, options = (), {"device": other.device, "dtype": other.dtype, **options}
    device = options.pop("device", None)
    if places and isinstance(places[0], torch.device | str | int):
        # what may follow a device: dtype, and how to copy
        device, places = places[0], tuple(place for place in places[1:2] if place is not None)
    index = None if device is None else torch.device("cpu", device).index if isinstance(device, int) else _index(device)
    with torch._C.DisableTorchFunctionSubclass():
        if places or options.get("dtype") is not None:
            x = x.to(*places, **options)
        is_there = index is None or (isinstance(x, OnDevice) and x.label == index)
        return x if is_there else _Move.apply(x, index)


def _index(device: torch.device | str) -> int | None:
    return torch.device(device).index


class _Devices(TorchDispatchMode):
    """Takes in what makes tensors, or moves plain ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Constants(TorchFunctionMode):
    """Takes in ``torch.tensor`` and ``torch.as_tensor``, which make their tensors where no dispatch is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.pop("device", None) if func in (torch.tensor, torch.as_tensor) else None
        made = func(*args, **kwargs)
        return made if device is None else made.to(device)


@contextmanager
def several_devices() -> Iterator[None]:
    """While it lasts, ``cpu:0``, ``cpu:1`` and so on are devices of their own."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    # modules that move get new parameters: the storage of a plain one cannot become a stand-in
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Constants(), _Devices():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
    _refuse_mixtures(name, tensors)
    labels = [tensor.label for tensor in tensors if isinstance(tensor, OnDevice)]
    label = labels[0] if labels else None
    if name == "aten::copy_":
        label = args[0].label if isinstance(args[0], OnDevice) else None
    elif kwargs.get("device") is not None:
        label = torch.device(kwargs["device"]).index
    plain_args, plain = tree_map(lambda item: item.inner if isinstance(item, OnDevice) else item, (args, kwargs))
    out = func(*plain_args, **{key: value for key, value in plain.items() if key != "device"})
    if label is None:
        return out
    wrapped = tree_map(lambda item: OnDevice(item, label) if type(item) is torch.Tensor else item, out)
    return wrapped if name == "aten::_to_copy" else return_and_correct_aliasing(func, args, kwargs, wrapped)


def _refuse_mixtures(name: str, tensors: list[torch.Tensor]) -> None:
    labels = {tensor.label for tensor in tensors if isinstance(tensor, OnDevice)}
    if name in _COPIES or not labels:
        return
    # what CUDA takes from the CPU beside its own tensors: scalars, and the indices of indexing
    plain = [tensor for tensor in tensors if type(tensor) is not OnDevice and tensor.ndim and "index" not in name]
    if len(labels) > 1 or plain:
        shapes = [f"{tensor.device}{list(tensor.shape)}" for tensor in tensors]
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, got {', '.join(shapes)}")
