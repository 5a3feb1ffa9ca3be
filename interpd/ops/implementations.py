"""What runs behind each ``torch.*`` and ``tensor.*`` operation of ``interpd.graph.builtin``.

Inputs come as positional arguments in the order of the schema's ports, params by keyword; both already resolved to
tensors, numbers, tuples, slices and ``...``. No function changes an input in place.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from interpd.ops.indexing import INDEXING
from interpd.ops.losses import LOSSES
from interpd.ops.makers import MAKERS, NEEDS_DEVICE
from interpd.ops.pointwise import POINTWISE
from interpd.ops.reductions import REDUCTIONS

__all__ = ["IMPLEMENTATIONS", "NEEDS_DEVICE"]

IMPLEMENTATIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {**POINTWISE, **REDUCTIONS, **LOSSES, **INDEXING, **MAKERS}
)
"""Functions by operation name."""
