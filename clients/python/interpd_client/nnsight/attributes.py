"""What a tensor without numbers can answer, and what it cannot: attributes, sizes, and the ways to look inside."""

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.gradients import gradient, set_gradient
from interpd_client.nnsight.inplace import overwrite
from interpd_client.nnsight.late import Late
from interpd_client.nnsight.tensor import CPU, Recorded
from interpd_client.nnsight.views import Detached

if TYPE_CHECKING:
    from interpd_client.nnsight.functions import Function
    from interpd_client.nnsight.recorder import Recorder

ITS_NUMBERS = (
    "its numbers exist only when the model runs on the service: `.save()` the tensor and look at it after the trace"
)

LOOKS_INSIDE: Mapping[str, str] = {
    "__bool__": "`if`, `while`, `and` and `assert` need a number here, and "
    + ITS_NUMBERS
    + "; to choose between two values write `torch.where(condition, a, b)`",
    "__contains__": "`in` needs numbers, and " + ITS_NUMBERS,
    "__index__": "an index of a list or a `range` needs a number here, and "
    + ITS_NUMBERS
    + "; a tensor can be indexed with it: `x[index]`",
    "__format__": "a format needs numbers, and " + ITS_NUMBERS,
    "equal": "`torch.equal` answers with a plain bool, and " + ITS_NUMBERS,
    "allclose": "`torch.allclose` answers with a plain bool, and "
    + ITS_NUMBERS
    + "; `torch.isclose(a, b).all()` is a tensor",
    **dict.fromkeys(
        ("tensor", "as_tensor", "asarray"),
        "a tensor is made of numbers here, and " + ITS_NUMBERS + "; `torch.stack([a, b])` joins values of the trace",
    ),
    "retain_grad": "gradients are taken inside the block, in `with loss.backward():`; what was saved has no history",
    **{
        name: f"`{shown}` asks for numbers, and {ITS_NUMBERS}"
        for name, shown in {
            "item": ".item()",
            "tolist": ".tolist()",
            "numpy": ".numpy()",
            "__array__": "numpy",
            "__float__": "float()",
            "__int__": "int()",
            "__complex__": "complex()",
            "__reduce_ex__": "pickle or copy.deepcopy",
            "__deepcopy__": "copy.deepcopy",
            "data_ptr": ".data_ptr()",
            "untyped_storage": ".untyped_storage()",
            "storage": ".storage()",
            "register_hook": ".register_hook()",
        }.items()
    },
}
"""Functions that only numbers can answer."""

SHAPE_FROM_NUMBERS = ("nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount", "histc")
RANDOM = ("bernoulli", "multinomial", "normal", "poisson", "feature_dropout", "alpha_dropout")

ANSWERS = (
    *("__get__dtype", "__get__ndim", "__get__itemsize", "__get__nbytes", "__get__names"),
    *("__get__layout", "__get__is_sparse", "__get__is_quantized", "__get__is_nested", "__get__is_mkldnn"),
    *("dim", "ndimension", "stride", "storage_offset", "element_size"),
    *("is_floating_point", "is_complex", "is_contiguous", "is_signed", "is_same_size", "result_type", "is_conj"),
    *("is_neg", "is_inference", "broadcast_shapes"),
)
"""What the shape, the dtype and the strides alone answer."""

CONSTANT: Mapping[str, Any] = {
    "__get__device": CPU,
    "__get__is_cuda": False,
    "__get__is_cpu": True,
    "__get__is_meta": False,
    "__get__is_leaf": False,
    "__get__is_mps": False,
    "__get__is_xpu": False,
    "__get__grad_fn": None,
    "get_device": -1,
    "is_pinned": False,
    "is_shared": False,
}


def _answered(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return recorder.shadowed(func, args, kwargs)


def _shape(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    memory = args[0]._memory
    return memory.shape if isinstance(memory, Late) else args[0]._shadow.shape


def _size(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    shape, dim = _shape(recorder, func, args[:1], {}), kwargs.get("dim", args[1] if len(args) > 1 else None)
    return shape if dim is None else shape[dim]


def _counted(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    shape = _shape(recorder, func, args, {})
    return shape[0] if func.__name__ == "__len__" else prod(shape)


def _refusing(why: str) -> "Function":
    def refuse(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        raise CannotRecord(why)

    return refuse


def _fixed(value: Any) -> "Function":
    return lambda recorder, func, args, kwargs: value


def _same(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _requires_grad(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return args[0]._shadow.is_floating_point()


def _show(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    if len(args) > 1 and args[1]:
        raise CannotRecord(LOOKS_INSIDE["__format__"])
    shadow = args[0]._shadow
    dtype = str(shadow.dtype).removeprefix("torch.")
    return f"<value of the trace: {dtype}{list(shadow.shape)}, without numbers until it has run>"


def _items(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return iter(args[0].unbind(0))


def _detached(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recorded:
    (tensor,) = args
    return recorder.view(tensor._memory, (*tensor._steps, Detached()), tensor._shadow)


def _cloned(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recorded:
    from interpd_client.nnsight.tensor import part_of

    (tensor,) = args
    return recorder.new(part_of(tensor), recorder.shadowed(func, args, kwargs))


def _set_data(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    tensor, value = args
    overwrite(recorder, tensor, value)


def _cast_to(dtype: torch.dtype) -> "Function":
    def cast(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _cast(recorder, args[0], dtype)

    return cast


def _cast(recorder: "Recorder", tensor: Recorded, dtype: torch.dtype | None, copy: bool = False) -> Recorded:
    from interpd_client.nnsight.functions import as_node, dtype_name

    if dtype is None or dtype == tensor._shadow.dtype:
        return tensor.clone() if copy else tensor
    out = recorder.shadowed(torch.Tensor.to, (tensor, dtype), {})
    return as_node(recorder, "tensor.to", out, (tensor,), {"dtype": dtype_name(dtype)})


def _to(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recorded:
    tensor, *rest = args
    like = next((item for item in (*rest, kwargs.get("other")) if isinstance(item, Tensor)), None)
    dtype = next((item for item in (*rest, kwargs.get("dtype")) if isinstance(item, torch.dtype)), None)
    if like is not None:
        dtype = like.dtype
    return _cast(recorder, tensor, dtype, bool(kwargs.get("copy", False)))


def _type(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, *rest = (*args, *kwargs.values())
    if not rest:
        return recorder.shadowed(func, (torch.empty(0, dtype=tensor._shadow.dtype),), {})
    if isinstance(rest[0], str):
        raise CannotRecord(f"name the dtype as torch does now: `.to(torch.float32)`, not `.type({rest[0]!r})`")
    return _cast(recorder, tensor, rest[0])


def _type_as(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _cast(recorder, args[0], args[1].dtype)


def _made_by_user(recorder: "Recorder", func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A tensor of which only shape and dtype come from the block: made here, with the user's own random numbers."""
    like = torch.empty(0, dtype=args[0]._shadow.dtype)
    if func.__name__.endswith("_like"):
        like = torch.empty(args[0]._shadow.shape, dtype=args[0]._shadow.dtype)
    kwargs = {name: value for name, value in kwargs.items() if name != "device"}
    return func(like, *args[1:], **kwargs)


SIZES = ("__get__shape", "size", "numel", "nelement", "__len__")

KNOWN_BEFORE = frozenset({*LOOKS_INSIDE, *ANSWERS, *CONSTANT, *SIZES, "__repr__", "__str__", "__iter__", "__set__data"})
"""Functions whose answer does not wait for the end of a generation."""

CASTS: Mapping[str, torch.dtype] = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "long": torch.int64,
    "int": torch.int32,
    "short": torch.int16,
    "char": torch.int8,
    "byte": torch.uint8,
    "bool": torch.bool,
}

_RANDOM_REASON = (
    "it draws random numbers that depend on the tensor; draw them from plain tensors in the block, as in "
    "`torch.rand(h.shape)`, or call `.eval()` on the module"
)

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{name: _refusing(why) for name, why in LOOKS_INSIDE.items()},
    "__format__": _show,
    **{
        name: _refusing(f"the shape of {name!r} depends on numbers; use a mask instead: torch.where, .masked_fill")
        for name in SHAPE_FROM_NUMBERS
    },
    **{name: _refusing(f"{name!r}: {_RANDOM_REASON}") for name in RANDOM},
    **{name: _answered for name in ANSWERS},
    "__get__shape": _shape,
    "size": _size,
    **{name: _counted for name in ("numel", "nelement", "__len__")},
    **{name: _fixed(value) for name, value in CONSTANT.items()},
    **{name: _cast_to(dtype) for name, dtype in CASTS.items()},
    **{
        name: _same
        for name in ("cpu", "cuda", "positive", "contiguous_", "requires_grad_", "pin_memory", "share_memory_")
    },
    **{
        name: _made_by_user
        for name in (
            *("rand_like", "randn_like", "randint_like", "new_zeros", "new_ones", "new_full", "new_tensor"),
            *("new_empty", "new_empty_strided"),
        )
    },
    "__get__grad": lambda recorder, func, args, kwargs: gradient(recorder, args[0]),
    "__set__grad": lambda recorder, func, args, kwargs: set_gradient(recorder, *args),
    "__get__requires_grad": _requires_grad,
    "__set__requires_grad": _fixed(None),
    "__get__data": _detached,
    "__set__data": _set_data,
    "detach": _detached,
    "clone": _cloned,
    "__repr__": _show,
    "__str__": _show,
    "__iter__": _items,
    "to": _to,
    "type": _type,
    "type_as": _type_as,
}
