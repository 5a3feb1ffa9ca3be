"""Functions of torch that are made of others, written out in terms of those that graphs have."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interpd_client.nnsight.errors import CannotRecord


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _mse_loss(input: Tensor, target: Tensor, *_: Any, reduction: str = "mean", weight: Any = None, **__: Any) -> Tensor:
    losses = (input - target) ** 2
    if weight is not None:
        raise CannotRecord("graphs have mse_loss without weight only")
    return _reduced(losses, reduction)


def _l1_loss(input: Tensor, target: Tensor, *_: Any, reduction: str = "mean", weight: Any = None, **__: Any) -> Tensor:
    if weight is not None:
        raise CannotRecord("graphs have l1_loss without weight only")
    return _reduced((input - target).abs(), reduction)


def _smooth_l1_loss(
    input: Tensor, target: Tensor, *_: Any, reduction: str = "mean", beta: float = 1.0, **__: Any
) -> Tensor:
    off = (input - target).abs()
    return _reduced(torch.where(off < beta, off**2 * (0.5 / beta), off - 0.5 * beta), reduction)


def _nll_loss(input: Tensor, target: Tensor, *rest: Any, reduction: str = "mean", **kwargs: Any) -> Tensor:
    if any(value is not None for value in rest) or kwargs.get("weight") is not None:
        raise CannotRecord("graphs have nll_loss without weights only; F.cross_entropy takes them")
    picked = torch.gather(input, 1, target.unsqueeze(1)).squeeze(1)
    return _reduced(-picked, reduction)


def _bce_with_logits(input: Tensor, target: Tensor, *_: Any, reduction: str = "mean", **kwargs: Any) -> Tensor:
    if kwargs.get("weight") is not None or kwargs.get("pos_weight") is not None:
        raise CannotRecord("graphs have binary_cross_entropy_with_logits without weights only")
    return _reduced(torch.relu(input) - input * target + torch.log1p(torch.exp(-input.abs())), reduction)


def _binary_cross_entropy(input: Tensor, target: Tensor, *_: Any, reduction: str = "mean", **kwargs: Any) -> Tensor:
    if kwargs.get("weight") is not None:
        raise CannotRecord("graphs have binary_cross_entropy without weight only")
    yes, no = torch.log(input).clamp(min=-100.0), torch.log(1 - input).clamp(min=-100.0)
    return _reduced(-(target * yes + (1 - target) * no), reduction)


def _leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return torch.where(input > 0, input, input * negative_slope)


def _elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    return torch.where(input > 0, input, torch.expm1(input.clamp(max=0.0)) * alpha)


def _softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    scaled = input * beta
    return torch.where(scaled > threshold, input, torch.log1p(torch.exp(scaled.clamp(max=threshold))) / beta)


def _logit(input: Tensor, eps: float | None = None) -> Tensor:
    x = input if eps is None else input.clamp(min=eps, max=1 - eps)
    return torch.log(x / (1 - x))


def _addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = mat1 @ mat2
    product = product if alpha == 1 else product * alpha
    return product + (input if beta == 1 else input * beta)


def _pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    return torch.linalg.vector_norm(x1 - x2 + eps, p, dim=-1, keepdim=keepdim)


def _dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    return torch.linalg.vector_norm((input - other).flatten(), p)


def _repeat(input: Tensor, *sizes: Any) -> Tensor:
    times = list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else list(sizes)
    out = input.reshape((*[1] * (len(times) - input.ndim), *input.shape))
    for dim, count in enumerate(times):
        if count != 1:
            out = torch.cat([out] * count, dim)
    return out if out is not input else input.clone()


def _tile(input: Tensor, *dims: Any) -> Tensor:
    times = list(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else list(dims)
    return _repeat(input, *[1] * (input.ndim - len(times)), *times)


def _repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None, **_: Any) -> Tensor:
    if not isinstance(repeats, int):
        raise CannotRecord("graphs repeat every slice equally often: repeats must be a plain integer")
    x, dim = (input.flatten(), 0) if dim is None else (input, dim % input.ndim)
    spread = x.unsqueeze(dim + 1)
    sizes = [-1] * spread.ndim
    sizes[dim + 1] = repeats
    return spread.expand(sizes).flatten(dim, dim + 1)


def _diff(input: Tensor, n: int = 1, dim: int = -1) -> Tensor:
    for _ in range(n):
        size = input.shape[dim]
        input = input.narrow(dim, 1, size - 1) - input.narrow(dim, 0, size - 1)
    return input


def _isclose(input: Tensor, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    other = torch.as_tensor(other) if not isinstance(other, Tensor) else other
    near = (input - other).abs() <= other.abs() * rtol + atol
    return near | (torch.isnan(input) & torch.isnan(other)) if equal_nan else near


def _nansum(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return torch.nan_to_num(input, 0.0, math.inf, -math.inf).sum(*args, **kwargs)


def _nanmean(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _nansum(input, *args, **kwargs) / (~torch.isnan(input)).to(input.dtype).sum(*args, **kwargs)


def _trace(input: Tensor) -> Tensor:
    return torch.diagonal(input).sum()


def _diag(input: Tensor, diagonal: int = 0) -> Tensor:
    if input.ndim == 2:
        return torch.diagonal(input, diagonal).clone()
    if diagonal:
        raise CannotRecord("graphs build main diagonals only: torch.diag(x)")
    return torch.eye(input.shape[0], dtype=input.dtype) * input


def _tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Any = None) -> Tensor:
    over_a, over_b = (list(range(a.ndim - dims, a.ndim)), list(range(dims))) if isinstance(dims, int) else dims
    over_a, over_b = [d % a.ndim for d in over_a], [d % b.ndim for d in over_b]
    left = [d for d in range(a.ndim) if d not in over_a]
    right = [d for d in range(b.ndim) if d not in over_b]
    size = math.prod(a.shape[d] for d in over_a)
    flat_a = a.permute(*left, *over_a).reshape(-1, size)
    flat_b = b.permute(*over_b, *right).reshape(size, -1)
    return (flat_a @ flat_b).reshape([*(a.shape[d] for d in left), *(b.shape[d] for d in right)])


def _inner(input: Tensor, other: Tensor) -> Tensor:
    return _tensordot(input, other, ([-1], [-1])) if input.ndim and other.ndim else input * other


def _pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    if mode != "constant" or min(pad, default=0) < 0:
        raise CannotRecord("graphs pad with a constant only, and cut with slices")
    for place, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim = input.ndim - 1 - place
        parts = [_block(input, dim, before, value), input, _block(input, dim, after, value)]
        input = torch.cat([part for part in parts if part is not None], dim)
    return input


def _block(like: Tensor, dim: int, size: int, value: float | None) -> Tensor | None:
    shape = list(like.shape)
    shape[dim] = size
    return torch.full(shape, value or 0.0, dtype=like.dtype) if size else None


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *dropout: float, **options: Any
) -> Tensor:
    dropout_p = options.get("dropout_p", dropout[0] if dropout else 0.0)
    is_causal = options.get("is_causal", dropout[1] if len(dropout) > 1 else False)
    scale = options.get("scale")
    if dropout_p or options.get("enable_gqa"):
        raise CannotRecord("graphs have attention without dropout, and as many key heads as query heads")
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -math.inf) if is_bool else scores + attn_mask
    return scores.softmax(-1) @ value


def _index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    shape = [1] * input.ndim
    shape[dim] = -1
    places = torch.as_tensor(index).reshape(shape).expand(source.shape)
    return torch.scatter_add(input, dim, places, source if alpha == 1 else source * alpha)


def _index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    out = input.clone()
    out[(*[slice(None)] * (dim % input.ndim), index)] = source
    return out


def _index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    out = input.clone()
    out[(*[slice(None)] * (dim % input.ndim), index)] = value
    return out


def _index_put(input: Tensor, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    if accumulate:
        raise CannotRecord("graphs put values at indices without adding them up: torch.scatter_add does that")
    out = input.clone()
    out[tuple(indices)] = values
    return out


def _vstack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t if t.ndim > 1 else t.reshape(1, -1) for t in tensors], 0)


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, *_: Any, **__: Any) -> Tensor:
    return torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, dim=-1)


_PLAIN: Mapping[str, Callable[..., Any]] = {
    "mse_loss": _mse_loss,
    "l1_loss": _l1_loss,
    "smooth_l1_loss": _smooth_l1_loss,
    "nll_loss": _nll_loss,
    "binary_cross_entropy_with_logits": _bce_with_logits,
    "binary_cross_entropy": _binary_cross_entropy,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softplus": _softplus,
    "logsigmoid": lambda input: -_softplus(-input),
    "softmin": lambda input, dim, **_: torch.softmax(-input, dim),
    "hardtanh": lambda input, min_val=-1.0, max_val=1.0, inplace=False: input.clamp(min=min_val, max=max_val),
    "logit": _logit,
    "float_power": lambda input, exponent: input.double() ** exponent,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "addmv": _addmm,
    "addcmul": lambda input, tensor1, tensor2, *, value=1: input + tensor1 * tensor2 * value,
    "addcdiv": lambda input, tensor1, tensor2, *, value=1: input + tensor1 / tensor2 * value,
    "mv": lambda input, vec: input @ vec,
    "vdot": torch.dot,
    "ger": torch.outer,
    "linalg_vecdot": lambda x, y, *, dim=-1: (x * y).sum(dim),
    "pairwise_distance": _pairwise_distance,
    "dist": _dist,
    "cdist": _cdist,
    "repeat": _repeat,
    "tile": _tile,
    "repeat_interleave": _repeat_interleave,
    "diff": _diff,
    "isclose": _isclose,
    "nansum": _nansum,
    "nanmean": _nanmean,
    "trace": _trace,
    "diag": _diag,
    "tensordot": _tensordot,
    "inner": _inner,
    "pad": _pad,
    "scaled_dot_product_attention": _attention,
    "index_add": _index_add,
    "index_copy": _index_copy,
    "index_fill": _index_fill,
    "index_put": _index_put,
    "hstack": lambda tensors: torch.cat(list(tensors), 0 if tensors[0].ndim == 1 else 1),
    "vstack": _vstack,
    "row_stack": _vstack,
    "fliplr": lambda input: torch.flip(input, (1,)),
    "flipud": lambda input: torch.flip(input, (0,)),
    "rsub": lambda input, other, *, alpha=1: other - input * alpha,
    "frac": lambda input: input - torch.trunc(input),
    "exp2": lambda input: torch.exp(input * math.log(2.0)),
    "log10": lambda input: torch.log(input) * (1 / math.log(10.0)),
    "sinh": lambda input: (torch.exp(input) - torch.exp(-input)) / 2,
    "cosh": lambda input: (torch.exp(input) + torch.exp(-input)) / 2,
    "tan": lambda input: torch.sin(input) / torch.cos(input),
    "hardsigmoid": lambda input, inplace=False: torch.clamp(input / 6 + 0.5, min=0.0, max=1.0),
    "relu6": lambda input, inplace=False: input.clamp(min=0.0, max=6.0),
    "threshold": lambda input, threshold, value, inplace=False: torch.where(input > threshold, input, value),
    "kron": lambda input, other: (input[:, None, :, None] * other[None, :, None, :]).reshape(
        input.shape[0] * other.shape[0], input.shape[1] * other.shape[1]
    ),
    "normalize": lambda input, p=2.0, dim=1, eps=1e-12, out=None: (
        input / torch.linalg.vector_norm(input, p, dim=dim, keepdim=True).clamp(min=eps)
    ),
}


def _recording(plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda recorder, func, args, kwargs: plain(*args, **kwargs)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {name: _recording(plain) for name, plain in _PLAIN.items()}
