"""Forms of torch's functions that graphs write otherwise: one or two operations each."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.functions import as_node, operate
from interpd_client.nnsight.tensor import Recorded

if TYPE_CHECKING:
    from interpd_client.nnsight.functions import Function
    from interpd_client.nnsight.recorder import Recorder

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def _swapped(op: str) -> "Function":
    """The reflected operator: ``1 - x``."""

    def swapped(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        x, other = args
        out = recorder.shadowed(func, (x, other), {})
        return as_node(recorder, op, out, (other, x))

    return swapped


def _scaled(op: str) -> "Function":
    """``torch.add(x, y, alpha=2)``."""

    def scaled(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        alpha = kwargs.pop("alpha", 1)
        if alpha != 1:
            x, other = (*args, *kwargs.values())[:2]
            return x + other * alpha if op == "torch.add" else x - other * alpha
        return operate(recorder, op, func, args, kwargs)

    return scaled


def _divided(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    mode = kwargs.pop("rounding_mode", None)
    if mode == "floor":
        return args[0] // args[1]
    if mode == "trunc":
        return torch.trunc(args[0] / args[1])
    return operate(recorder, "torch.div", func, args, kwargs)


def _bitwise(op: str) -> "Function":
    """``&``, ``|``, ``^``, ``~`` of booleans."""

    def bitwise(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        for arg in args:
            dtype = arg.dtype if isinstance(arg, Tensor) else torch.bool if isinstance(arg, bool) else None
            if dtype != torch.bool:
                raise CannotRecord(f"graphs have {op} of booleans only, not bitwise operations on integers")
        tensors = tuple(recorder.as_recorded(arg, args[0]) for arg in args)
        return as_node(recorder, op, recorder.shadowed(func, args, kwargs), tensors)

    return bitwise


def _clamped(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    given = dict(zip(("input", "min", "max"), args, strict=False)) | kwargs
    x, least, most = given["input"], given.get("min"), given.get("max")
    if isinstance(least, Tensor) or isinstance(most, Tensor):
        if least is not None:
            x = torch.maximum(x, recorder.as_recorded(least, x))
        return x if most is None else torch.minimum(x, recorder.as_recorded(most, x))
    return operate(recorder, "torch.clamp", func, (x,), {"min": _real(least), "max": _real(most)})


def _real(number: Any) -> float | None:
    return None if number is None else float(number)


def _extremes(op: str) -> "Function":
    """``maximum`` and ``minimum``, also of a plain tensor."""

    def extreme(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        pair = (*args, *kwargs.values())
        return operate(recorder, op, func, tuple(recorder.as_recorded(item, pair[0]) for item in pair), {})

    return extreme


def _where(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    if len(args) + len(kwargs) < 3:
        raise CannotRecord("`torch.where(condition)` has a shape that depends on numbers; give it both values")
    if func is Tensor.where:
        x, condition, other = (*args, *kwargs.values())
        args, kwargs = (condition, x, other), {}
    return operate(recorder, "torch.where", torch.where, args, kwargs)


def _filled(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    given = dict(zip(("input", "mask", "value"), args, strict=False)) | kwargs
    x, mask, value = given["input"], given["mask"], given["value"]
    mask = recorder.as_recorded(mask, x)
    if isinstance(value, Tensor):
        return torch.where(mask, value.to(x.dtype), x)
    out = recorder.shadowed(func, (x, mask, value), {})
    return as_node(recorder, "torch.masked_fill", out, (x, mask, float(value)))


def _softmax(op: str) -> "Function":
    def softmax(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        given = dict(zip(("input", "dim", "dtype"), args, strict=False)) | kwargs
        given.pop("_stacklevel", None)
        if given.get("dim") is None:
            raise CannotRecord(f"say along which dimension: {func.__name__}(x, dim=-1)")
        x, dtype = given["input"], given.get("dtype")
        out = recorder.shadowed(torch.softmax, (x, given["dim"]), {"dtype": dtype})
        return as_node(recorder, op, out, (x, given["dim"]), {} if dtype is None else {"dtype": dtype})

    return softmax


def _median(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    if len(args) + len(kwargs) > 1:
        return operate(recorder, "torch.median", func, args, kwargs)
    return torch.median(args[0].flatten(), 0).values


def _aminmax(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    return torch.return_types.aminmax((torch.amin(*args, **kwargs), torch.amax(*args, **kwargs)))


def _with_mean(spread: Callable[..., Any]) -> "Function":
    """``torch.std_mean``, ``torch.var_mean``."""

    def both(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        dims = {name: kwargs[name] for name in ("dim", "keepdim") if name in kwargs}
        if len(args) > 1 and not isinstance(args[1], bool):
            dims["dim"] = args[1]
        return spread(*args, **kwargs), torch.mean(args[0], **dims)

    return both


def _argument_first(op: str) -> "Function":
    """``max``, ``min``: of all, along a dimension, or of two tensors."""

    def extreme(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        other = kwargs.get("other", args[1] if len(args) > 1 else None)
        if isinstance(other, Tensor):
            pair = tuple(recorder.as_recorded(item, args[0]) for item in (args[0], other))
            return operate(recorder, f"{op}imum", func, pair, {})
        return operate(recorder, op, func, args, kwargs)

    return extreme


def _einsum(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    tensors = [recorder.as_recorded(item, operands[0]) for item in operands]
    out = recorder.shadowed(torch.einsum, (equation, *tensors), {})
    return as_node(recorder, "torch.einsum", out, (equation, tuple(tensors)))


def _joined(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    given = dict(zip(("tensors", "dim"), args, strict=False)) | kwargs
    tensors, dim = list(given["tensors"]), given.get("dim", given.get("axis", 0))
    out = recorder.shadowed(torch.cat, (tensors, dim), {})
    by_rows = recorder.of_rows(tensors, out) if dim == 0 else None
    if by_rows is not None:
        return by_rows
    tensors = [item.to(out.dtype) for item in tensors if item.numel() or item.ndim != 1]
    return as_node(recorder, "torch.cat", out, (tuple(tensors), dim))


def _stacked(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    given = dict(zip(("tensors", "dim"), args, strict=False)) | kwargs
    tensors, dim = tuple(given["tensors"]), given.get("dim", given.get("axis", 0))
    out = recorder.shadowed(torch.stack, (tensors, dim), {})
    return as_node(recorder, "torch.stack", out, (tuple(item.to(out.dtype) for item in tensors), dim))


def _alike(value: float) -> "Function":
    def alike(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        x, dtype = args[0], kwargs.get("dtype")
        out = recorder.shadowed(torch.zeros_like, (x,), {"dtype": dtype})
        return as_node(recorder, "torch.full_like", out, (x, value), {} if dtype is None else {"dtype": dtype})

    return alike


def _full_like(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    value = kwargs.get("fill_value", args[1] if len(args) > 1 else None)
    if isinstance(value, Recorded):
        return value.to(args[0].dtype).expand(args[0].shape).clone()
    return _alike(float(value))(recorder, func, args[:1], {"dtype": kwargs.get("dtype")})


def _indices_first(op: str) -> "Function":
    """``gather(x, dim, index)`` and its kin, with an index of the user too."""

    def pick(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        kwargs.pop("sparse_grad", None)
        tensors = [recorder.as_recorded(a, args[0]) if isinstance(a, Tensor) else a for a in args]
        return operate(recorder, op, func, tuple(tensors), kwargs)

    return pick


def _scattered(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    given = dict(zip(("input", "dim", "index", "src"), args, strict=False)) | kwargs
    if "value" in given:
        given["src"] = given.pop("value")
    if given.get("reduce") is not None:
        raise CannotRecord("graphs have torch.scatter and torch.scatter_add, not the other reductions")
    x, dim, index, source = given["input"], given["dim"], given["index"], given["src"]
    out = recorder.shadowed(func, (x, dim, index, source), {})
    op = "torch.scatter_add" if func.__name__.startswith("scatter_add") else "torch.scatter"
    return as_node(recorder, op, out, (x, dim, index, source))


def _embedded(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    ids, weight = args[0], kwargs.get("weight", args[1] if len(args) > 1 else None)
    if kwargs.get("max_norm") is not None:
        raise CannotRecord("graphs have embeddings without max_norm only")
    return recorder.as_recorded(weight, weight)[ids]


def _one_hot(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    n_classes = kwargs.get("num_classes", args[1] if len(args) > 1 else -1)
    if n_classes < 0:
        raise CannotRecord("how many classes there are depends on numbers: `one_hot(x, num_classes=...)`")
    out = torch.empty((*args[0].shape, n_classes), dtype=torch.int64, device="meta")
    return as_node(recorder, "torch.one_hot", out, (args[0], n_classes))


def _normed(op: str) -> "Function":
    """``layer_norm`` and ``rms_norm``, weights of the user included."""

    def norm(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        names = ("input", "normalized_shape", "weight", "bias", "eps")
        if op == "torch.rms_norm":
            names = ("input", "normalized_shape", "weight", "eps")
        given = {k: v for k, v in (dict(zip(names, args, strict=False)) | kwargs).items() if v is not None}
        given.pop("cudnn_enable", None)
        out = recorder.shadowed(func, (given["input"], given["normalized_shape"]), {})
        x, shape = given.pop("input"), tuple(given.pop("normalized_shape"))
        return as_node(recorder, op, out, (x, shape), given)

    return norm


def _activation(op: str) -> "Function":
    """Functions of ``torch.nn.functional`` that take ``inplace``."""

    def activation(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
        from interpd_client.nnsight.inplace import overwrite

        in_place = kwargs.pop("inplace", False)
        made = operate(recorder, op, getattr(torch, op.rpartition(".")[2], func), args, kwargs)
        if in_place:
            overwrite(recorder, args[0], made)
        return args[0] if in_place else made

    return activation


def _applied(recorder: "Recorder", path: Any, args: Args, kwargs: Kwargs) -> Any:
    """A module of the model on a value of the block, or on a tensor of the user."""
    x = recorder.as_recorded(args[0], args[0])
    module = recorder.recording.manifest.modules[path]
    shape = (*x.shape[:-1], x.shape[-1] if module.d_out is None else module.d_out)
    out = torch.empty(shape, dtype=x.dtype, device="meta")
    return as_node(recorder, "module.call", out, (x,), {"module": path})


def _gradient(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    """``torch.autograd.grad(loss, tensors)``."""
    from interpd_client.nnsight.gradients import gradients

    outputs, inputs = args
    return tuple(gradients(recorder, outputs, kwargs.get("grad_outputs"), list(inputs)))


def _untouched(recorder: "Recorder", func: Any, args: Args, kwargs: Kwargs) -> Any:
    if kwargs.get("training", args[2] if len(args) > 2 else True):
        raise CannotRecord("dropout draws random numbers; call `.eval()` on the module, as the service's own model is")
    return args[0]


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "__rsub__": _swapped("torch.sub"),
    "__rdiv__": _swapped("torch.div"),
    "__rtruediv__": _swapped("torch.div"),
    "__rfloordiv__": _swapped("torch.floor_divide"),
    "__rmod__": _swapped("torch.remainder"),
    "__rpow__": _swapped("torch.pow"),
    "__rmatmul__": _swapped("torch.matmul"),
    "add": _scaled("torch.add"),
    "sub": _scaled("torch.sub"),
    "div": _divided,
    "divide": _divided,
    "true_divide": _divided,
    **{name: _bitwise("torch.logical_and") for name in ("__and__", "__rand__", "bitwise_and")},
    **{name: _bitwise("torch.logical_or") for name in ("__or__", "__ror__", "bitwise_or")},
    **{name: _bitwise("torch.logical_xor") for name in ("__xor__", "__rxor__", "bitwise_xor")},
    **{name: _bitwise("torch.logical_not") for name in ("__invert__", "bitwise_not")},
    "clamp": _clamped,
    "clip": _clamped,
    "clamp_min": lambda recorder, func, args, kwargs: torch.clamp(args[0], min=args[1]),
    "clamp_max": lambda recorder, func, args, kwargs: torch.clamp(args[0], max=args[1]),
    "maximum": _extremes("torch.maximum"),
    "minimum": _extremes("torch.minimum"),
    "max": _argument_first("torch.max"),
    "min": _argument_first("torch.min"),
    "where": _where,
    "masked_fill": _filled,
    "softmax": _softmax("torch.softmax"),
    "log_softmax": _softmax("torch.log_softmax"),
    "median": _median,
    "aminmax": _aminmax,
    "std_mean": _with_mean(torch.std),
    "var_mean": _with_mean(torch.var),
    "einsum": _einsum,
    **{name: _joined for name in ("cat", "concat", "concatenate")},
    "stack": _stacked,
    "zeros_like": _alike(0.0),
    "ones_like": _alike(1.0),
    "empty_like": _alike(0.0),
    "full_like": _full_like,
    "gather": _indices_first("torch.gather"),
    "index_select": _indices_first("torch.index_select"),
    "take_along_dim": _indices_first("torch.take_along_dim"),
    "scatter": _scattered,
    "scatter_add": _scattered,
    "embedding": _embedded,
    "one_hot": _one_hot,
    "layer_norm": _normed("torch.layer_norm"),
    "rms_norm": _normed("torch.rms_norm"),
    "relu": _activation("torch.relu"),
    "silu": _activation("torch.silu"),
    "interpd::module": _applied,
    "grad": _gradient,
    "dropout": _untouched,
}
