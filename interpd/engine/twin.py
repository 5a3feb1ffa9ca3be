"""A second module tree over the same weights, to be changed without changing the first."""

import copy

from torch import Tensor, nn

from interpd.errors import FeatureUnsupported


def twin_of(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose parameters and buffers are those of ``model``: it takes no memory for weights.

    Each parameter is an object of its own on the same storage: replacing it in the copy leaves the model alone. All
    configs are shared, those of parts of the model too, so that both run the same attention.

    Raises ``FeatureUnsupported`` for a model of a plugin's that holds what cannot be copied.
    """
    shared: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        shared[id(tensor)] = _alias(tensor)
    for module in model.modules():
        config = getattr(module, "config", None)
        shared[id(config)] = config
    try:
        return copy.deepcopy(model, shared)
    except (TypeError, RuntimeError) as error:
        raise FeatureUnsupported(f"{type(model).__name__} cannot take adapters: {error}") from error


def _alias(tensor: Tensor) -> Tensor:
    # detached tensors share the version counter, so a write to either is seen on both
    return nn.Parameter(tensor.detach(), requires_grad=False) if isinstance(tensor, nn.Parameter) else tensor.detach()


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
