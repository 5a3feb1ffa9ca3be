"""What people type of torch that graphs call otherwise: other names, numpy's keywords, forms without ``dim``.

A graph knows one name and one form of each operation; here the others become that form.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from interpd.graph.builtin import BUILTIN_OPS

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
Form: TypeAlias = tuple[str, Args, Kwargs]
"""Operation, positional arguments, keywords."""

VECTOR_NORM = "torch.linalg.vector_norm"

_FUNCTIONAL = (
    *("cosine_similarity", "cross_entropy", "gelu", "kl_div", "layer_norm", "linear", "log_softmax", "normalize"),
    *("one_hot", "relu", "rms_norm", "sigmoid", "silu", "softmax", "softplus", "tanh"),
)

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        **{f"torch.nn.functional.{name}": f"torch.{name}" for name in _FUNCTIONAL},
        "torch.view": "torch.reshape",
        "torch.clip": "torch.clamp",
        "torch.mm": "torch.matmul",
        "torch.mv": "torch.matmul",
        "torch.concat": "torch.cat",
        "torch.concatenate": "torch.cat",
        "torch.swapaxes": "torch.transpose",
        "torch.swapdims": "torch.transpose",
        "torch.subtract": "torch.sub",
        "torch.multiply": "torch.mul",
        "torch.divide": "torch.div",
        "torch.negative": "torch.neg",
        "torch.absolute": "torch.abs",
        "torch.special.expit": "torch.sigmoid",
    }
)
"""torch's other names of operations."""

KEYWORDS: Mapping[str, str] = MappingProxyType({"axis": "dim", "keepdims": "keepdim"})
"""numpy's keywords, which torch takes too."""


def operation(name: str) -> str | None:
    """The operation or form that a name of torch stands for, ``None`` for a name that graphs do not know."""
    name = ALIASES.get(name, name)
    return name if name in BUILTIN_OPS or name in _FORMS else None


def all_names() -> tuple[str, ...]:
    """Every name that ``operation`` knows."""
    return (*BUILTIN_OPS, *ALIASES, *_FORMS)


def in_one_form(op: str, args: Args, kwargs: Kwargs) -> Form:
    """A call as graphs know it. Raises ``TypeError`` for a form that they have not."""
    op = ALIASES.get(op, op)
    if not op.startswith("torch."):
        return op, args, kwargs
    if kwargs.keys() & KEYWORDS.keys():
        kwargs = _renamed(op, kwargs)
    form = _FORMS.get(op)
    return (op, args, kwargs) if form is None else form(op, args, kwargs)


def _renamed(op: str, kwargs: Kwargs) -> Kwargs:
    schema = BUILTIN_OPS.get(op)
    taken = {param.name for param in schema.params} if schema is not None else set(KEYWORDS.values())
    renamed: Kwargs = {}
    for name, value in kwargs.items():
        new = KEYWORDS.get(name, name) if KEYWORDS.get(name) in taken else name
        if new in kwargs and new != name:
            raise TypeError(f"{op}() got {new!r} twice: {name!r} means the same")
        renamed[new] = value
    return renamed


def _extreme(op: str, args: Args, kwargs: Kwargs) -> Form:
    """``max(x)`` is the greatest element, ``max(x, y)`` the greater of two values."""
    kind = op.removeprefix("torch.")
    other = kwargs.get("other", args[1] if len(args) > 1 else None)
    if other is not None and not isinstance(other, (int, np.integer)):
        return f"torch.{kind}imum", args, kwargs
    if len(args) == 1 and "dim" not in kwargs:
        return f"torch.a{kind}", args, kwargs
    return op, args, kwargs


def _squeeze(op: str, args: Args, kwargs: Kwargs) -> Form:
    """``squeeze(x)`` loses every dimension of size 1; which these are must be known."""
    if len(args) != 1 or "dim" in kwargs:
        return op, args, kwargs
    sizes: tuple[int | None, ...] = args[0].shape
    if None in sizes:
        raise TypeError(
            f"which dimensions of {args[0].type} have size 1 is not known before the prompt is tokenised; "
            "name those that shall go: `x.squeeze(0)`"
        )
    ones = tuple(place for place, size in enumerate(sizes) if size == 1)
    # a value without dimensions of size 1 stays as it is, and any of its dimensions says so
    return op, args, {"dim": ones or -1}


def _spread(op: str, args: Args, kwargs: Kwargs) -> Form:
    """``std(x, dim, unbiased)``: torch's older spelling of ``correction``."""
    if len(args) == 2 and isinstance(args[1], bool):
        args, kwargs = args[:1], {**kwargs, "unbiased": args[1]}
    elif len(args) > 2 and isinstance(args[2], bool):
        args = (*args[:2], int(args[2]), *args[3:])
    if "unbiased" in kwargs:
        kwargs = dict(kwargs)
        kwargs["correction"] = int(kwargs.pop("unbiased"))
    return op, args, kwargs


def _norm(op: str, args: Args, kwargs: Kwargs) -> Form:
    """``norm(x, p, dim)`` of vectors. Raises ``TypeError`` where torch would take the norm of a matrix."""
    kwargs = dict(kwargs)
    if "p" in kwargs:
        kwargs["ord"] = kwargs.pop("p")
    if len(args) > 1:
        args, kwargs["ord"] = (args[0], *args[2:]), args[1]
    if len(args) > 1:
        args, kwargs["dim"] = (args[0], *args[2:]), args[1]
    order = kwargs.pop("ord", None)
    if order == "fro":
        order = None
    dim = kwargs.get("dim")
    several = isinstance(dim, (tuple, list)) and len(dim) > 1
    of_matrix = op == "torch.linalg.norm" and order is not None and (several or (dim is None and _rank(args) != 1))
    if isinstance(order, str) or of_matrix:
        raise TypeError(f"graphs have norms of vectors only, not {op}(..., {order!r}) of a matrix; name one dim")
    return VECTOR_NORM, args, kwargs if order is None else {**kwargs, "ord": order}


def _rank(args: Args) -> int | None:
    return getattr(args[0], "ndim", None) if args else None


_FORMS: Mapping[str, Callable[[str, Args, Kwargs], Form]] = MappingProxyType(
    {
        "torch.max": _extreme,
        "torch.min": _extreme,
        "torch.squeeze": _squeeze,
        "torch.std": _spread,
        "torch.var": _spread,
        "torch.norm": _norm,
        "torch.linalg.norm": _norm,
    }
)
