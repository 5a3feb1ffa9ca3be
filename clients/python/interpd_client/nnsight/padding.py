"""Operations on values whose tensors have padded positions: those that treat every position for itself."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.ir import Arg
from interpd_client.nnsight.tensor import Recorded, part_of, recorded_in
from interpd_client.nnsight.views import Padding, padded

if TYPE_CHECKING:
    from interpd_client.nnsight.recorder import Recorder

ELEMENTWISE = frozenset(
    name
    for name, schema in BUILTIN_OPS.items()
    if schema.shape_rule
    in (
        *(
            "arithmetic",
            "subtraction",
            "division",
            "integer_division",
            "power",
            "masked_fill",
            "comparison",
            "test",
            "negation",
            "same",
            "square",
        ),
        *("float_unary", "float_only", "clamp", "where", "lerp", "to", "like"),
    )
)
ALONG_ONE = frozenset(
    f"torch.{name}"
    for name in (
        *("softmax", "log_softmax", "normalize", "cumsum", "cumprod", "topk", "sort", "argsort"),
        *("sum", "mean", "std", "var", "logsumexp", "amax", "amin", "argmax", "argmin", "max", "min", "median"),
        *("linalg.vector_norm", "any", "all", "count_nonzero", "prod", "kthvalue", "quantile"),
    )
)
ON_THE_LAST = frozenset({"torch.linear", "torch.matmul", "module.call", "torch.layer_norm", "torch.rms_norm"})


def arguments(
    recorder: "Recorder", op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any
) -> tuple[list[Arg], dict[str, Arg], Padding | None]:
    """The arguments of a node, and the padding of its outputs. Raises ``CannotRecord`` where positions would mix."""
    found = _found(args, kwargs)
    if not found:
        given = [recorder.argument(arg) for arg in args]
        return given, {name: recorder.argument(value) for name, value in kwargs.items()}, None
    ((place, (padding, size)),) = found.items() if len(found) == 1 else _refused(found)
    shape = (out if isinstance(out, Tensor) else out[0]).shape
    left = _left(op, args, kwargs, place)
    if left is None or len(shape) < left or shape[-left] != size:
        raise padded(padding)

    def ref(value: Any) -> Any:
        if isinstance(value, Recorded):
            return _lined_up(recorder, value, place, padding)
        if isinstance(value, (list, tuple)):
            return tuple(ref(item) for item in value)
        if isinstance(value, Tensor) and value.ndim >= place and value.shape[-place] != 1:
            return _lined_up(recorder, recorder.from_user(value), place, padding)
        return recorder.argument(value)

    # what a value is multiplied by or scaled with has no positions
    beside = recorder.argument if op in ON_THE_LAST else ref
    given = [ref(arg) if number == 0 else beside(arg) for number, arg in enumerate(args)]
    return given, {name: beside(value) for name, value in kwargs.items()}, Padding(len(shape) - left, padding.count)


def _found(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[int, tuple[Padding, int]]:
    """By place of a padded dimension, counted from the end: its padding, and its size."""
    parts = [(tensor._shadow.shape, part_of(tensor).padding) for tensor in recorded_in((args, dict(kwargs)))]
    return {len(shape) - one.dim: (one, shape[one.dim]) for shape, one in parts if one is not None}


def _refused(found: Mapping[int, tuple[Padding, int]]) -> Iterator[Any]:
    raise padded(next(iter(found.values()))[0])


def _lined_up(recorder: "Recorder", tensor: Recorded, place: int, padding: Padding) -> Arg:
    """A value without the padded positions, where it has that dimension."""
    part = part_of(tensor)
    if part.padding is not None:
        if part.padding.count != padding.count:
            raise padded(part.padding)
        return part.ref
    if tensor._shadow.ndim < place or tensor._shadow.shape[-place] == 1:
        return part.ref
    index = (Ellipsis, slice(padding.count, None), *[slice(None)] * (place - 1))
    return recorder.node("tensor.getitem", part.ref, recorder.index(index))


def _left(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int) -> int | None:
    """Where the padded dimension stands in the outcome, counted from the end; ``None`` where it does not survive."""
    tensors = list(recorded_in((args, dict(kwargs))))
    if op in ELEMENTWISE or op in ("tensor.detach",):
        return place
    if op in ON_THE_LAST:
        normalised = len(args[1] if len(args) > 1 else kwargs.get("normalized_shape", ())) if "norm" in op else 1
        is_left = isinstance(args[0], Recorded) and part_of(args[0]).padding is not None
        others = [tensor for tensor in tensors[1:] if tensor._shadow.ndim > 2 or part_of(tensor).padding is not None]
        is_last = place <= normalised
        return None if is_last or not is_left or others else place
    if op in ALONG_ONE:
        return _left_of_reduction(op, args, kwargs, place, tensors[0]._shadow.ndim)
    return None


def _left_of_reduction(
    op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, n_dims: int
) -> int | None:
    at = 2 if op in ("torch.topk", "torch.kthvalue", "torch.quantile", "torch.linalg.vector_norm") else 1
    default = -1 if op in ("torch.topk", "torch.sort", "torch.argsort", "torch.kthvalue") else None
    dim = kwargs.get("dim", args[at] if len(args) > at else default)
    if dim is None:
        return None
    dims = {one % n_dims for one in ((dim,) if isinstance(dim, int) else dim)}
    if n_dims - place in dims:
        return None
    keeps = op in (
        *("torch.softmax", "torch.log_softmax", "torch.normalize", "torch.cumsum", "torch.cumprod"),
        *("torch.topk", "torch.sort", "torch.argsort"),
    )
    keepdim = kwargs.get("keepdim", args[at + 1] if len(args) > at + 1 and isinstance(args[at + 1], bool) else False)
    behind = sum(one > n_dims - place for one in dims)
    return place if keeps or keepdim else place - behind
