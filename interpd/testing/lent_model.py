"""One tiny model for many checks: each finds it as it was made, or gets another."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import nn

from interpd.testing.in_process import InProcessModel
from interpd.testing.tiny_models import TinyModel


class LentModel:
    """A model with plugins that is made when it is first needed, and again after a check that failed or changed it.

    Args:
        plugins: As for ``InProcessModel``.
        make: What makes the model; a random GPT-2 when absent.
    """

    def __init__(self, plugins: Mapping[str, ModuleType], make: Callable[[], TinyModel] | None = None) -> None:
        self._plugins, self._make = plugins, make
        self._model: InProcessModel | None = None
        self._state: dict[str, object] = {}
        self._close: weakref.finalize | None = None

    @contextmanager
    def lent(self) -> Iterator[InProcessModel]:
        """The model, for one check."""
        if self._model is None:
            self._model = InProcessModel(self._plugins, self._make() if self._make else None)
            self._state = _state(self._model.model)
            self._close = weakref.finalize(self, self._model.close)
        try:
            yield self._model
        # a check that ended in the middle, whatever ended it, may have left the model changed
        except BaseException:
            self._end()
            raise
        if not _equal(self._state, _state(self._model.model)):
            self._end()

    def _end(self) -> None:
        if self._close is not None:
            self._close()
        self._model = self._close = None


def _state(model: nn.Module) -> dict[str, object]:
    """What a method might have done to a model: weights, modes, hooks."""
    found: dict[str, object] = {f"value {name}": value.clone() for name, value in model.state_dict().items()}
    found |= {f"grad {name}": (value.requires_grad, value.grad is None) for name, value in model.named_parameters()}
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        found[f"module {name}"] = (type(module), module.training, *(tuple(one) for one in hooks))
    return found


def _equal(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other
