"""Linear layers of a model on a CPU, laid out a second time for passes of several rows.

For a few rows, the matrix product of a CPU library spends most of its time on rearranging the weights, at every call.
A resident model can have that done once. Only passes of more than one row use the second copy: a prompt that is alone
in its pass gets the very bits of the model as its authors run it. Rows that share a pass differ from that by rounding
with either layout.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

PACKED_BYTES = 2 << 30
"""What may be spent on second copies unless told otherwise."""
_TYPICAL_ROWS = 16


class _Packed:
    """The second copy of a layer's weight."""

    def __init__(self, module: nn.Module, weight: Tensor) -> None:
        own = module.weight
        self._source, self._version = own.detach(), own._version
        self._layout = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _TYPICAL_ROWS)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Packed":
        # twins of a model share its weights
        return self

    def serves(self, module: nn.Module, x: Tensor) -> bool:
        """Whether ``module`` may use it for ``x``: several rows, no gradients, and its weight is still what it was."""
        weight = module.weight
        return (
            x.ndim == 3
            and x.shape[0] > 1
            and x.dtype == torch.float32
            and not torch.is_grad_enabled()
            and weight._version == self._version
            and weight.data_ptr() == self._source.data_ptr()
        )

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output."""
        return torch.ops.mkldnn._linear_pointwise(x, self._layout, bias, "none", [], "")


# the names of the classes are what clients see as the type of a module


class Linear(nn.Linear):
    """An ``nn.Linear`` with a second copy of its weight."""

    def forward(self, input: Tensor) -> Tensor:
        """The layer applied to ``input``."""
        packed = self.__dict__[_KEY]
        return packed(input, self.bias) if packed.serves(self, input) else super().forward(input)


class _Conv1D(Conv1D):
    """The linear layer of GPT-2, its weight transposed, with a second copy of it."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer applied to ``x``."""
        packed = self.__dict__[_KEY]
        return packed(x, self.bias) if packed.serves(self, x) else super().forward(x)


_Conv1D.__name__ = Conv1D.__name__
_KEY = "interpd_packed_weight"


def pack_weights(model: nn.Module, max_bytes: int) -> int:
    """Gives the linear layers of ``model`` a second copy of their weights; how many bytes that takes.

    Float32 on a CPU only, in the order of the modules, up to ``max_bytes``. To be called before anything wraps the
    modules.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    used = 0
    for module in model.modules():
        size = _size(module)
        if not size or used + size > max_bytes:
            continue
        is_transposed = type(module) is Conv1D
        weight = module.weight.detach()
        module.__dict__[_KEY] = _Packed(module, weight.t() if is_transposed else weight)
        module.__class__ = _Conv1D if is_transposed else Linear
        used += size
    return used


def _size(module: nn.Module) -> int:
    """Bytes of the weight of a layer that can be packed; 0 for others."""
    # exactly these: what derives from them may compute something else
    if type(module) not in (nn.Linear, Conv1D) or "forward" in module.__dict__:
        return 0
    weight = module.weight
    is_plain = weight.dtype == torch.float32 and weight.device.type == "cpu" and not weight.requires_grad
    return weight.numel() * weight.element_size() if is_plain else 0
