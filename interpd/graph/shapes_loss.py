"""Types of distances between distributions. ``reduction`` is torch's: ``none`` keeps a number for each element."""

from interpd.graph.dims import Call, Refusal, broadcast, same_size
from interpd.graph.promotion import FLOATS, result_dtype
from interpd.graph.types import Dim, TensorType


def kl_div(call: Call) -> TensorType:
    """Broadcast floats; a batch mean needs a batch."""
    values = [call.floating(0), call.floating(1)]
    dims, reduction = broadcast(values), call.params["reduction"]
    if reduction == "batchmean" and not values[0].dims:
        raise Refusal(f"{values[0]} has no first dimension to count as the batch", "inputs[0]")
    return TensorType(result_dtype(values), dims if reduction == "none" else ())


def cross_entropy(call: Call) -> TensorType:
    """Logits with classes in dimension 1 (0 of a vector); classes without that dimension, or probabilities with it."""
    logits = call.floating(0)
    if not logits.dims:
        raise Refusal(f"wants at least 1 dimension, got {logits}", "inputs[0]")
    place = min(1, len(logits.dims) - 1)
    kept = (*logits.dims[:place], *logits.dims[place + 1 :])
    target = call.tensor(1)
    is_probable = target.dtype in FLOATS
    if is_probable:
        _fits(target, logits.dims, logits, 1)
        if call.params["ignore_index"] >= 0:
            raise Refusal("ignores classes, which probabilities have not", "params.ignore_index", "BAD_PARAM")
    else:
        _fits(call.indices(1), kept, logits, 1)
    if len(call.inputs) > 2 and call.inputs[2] is not None:
        _fits(call.tensor(2), (logits.dims[place],), logits, 2)
    if not 0 <= call.params["label_smoothing"] <= 1:
        got = call.params["label_smoothing"]
        raise Refusal(f"wants 0 <= label_smoothing <= 1, got {got}", "params.label_smoothing", "BAD_PARAM")
    return TensorType(logits.dtype, kept if call.params["reduction"] == "none" else ())


def _fits(value: TensorType, dims: tuple[Dim, ...], logits: TensorType, index: int) -> None:
    """Refuses what has other sizes than ``dims``, or another floating dtype than the logits."""
    if value.dtype in FLOATS and value.dtype != logits.dtype and "float" not in (value.dtype, logits.dtype):
        raise Refusal(f"wants {logits.dtype} like the logits, got {value}: cast it with tensor.to", f"inputs[{index}]")
    if index == 2 and value.dtype not in FLOATS:
        raise Refusal(f"wants {logits.dtype} like the logits, got {value}: cast it with tensor.to", f"inputs[{index}]")
    sizes = tuple(dim.size for dim in dims)
    got = tuple(dim.size for dim in value.dims)
    if len(got) != len(sizes) or not all(same_size(a, b) for a, b in zip(got, sizes, strict=True)):
        wanted = f"[{' '.join(map(str, dims))}]"
        raise Refusal(f"wants {wanted} for logits {logits}, got {value}", f"inputs[{index}]")
