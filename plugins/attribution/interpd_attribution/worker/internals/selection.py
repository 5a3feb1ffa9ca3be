"""Which layers and heads come back, and whether they are reduced where the model is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError

Reduce = Literal["none", "mean", "sum", "max", "min"]

_OVER: Mapping[str, Callable[[Tensor], Tensor]] = {
    "none": lambda values: values,
    "mean": lambda values: values.mean(0, keepdim=True),
    "sum": lambda values: values.sum(0, keepdim=True),
    "max": lambda values: values.amax(0, keepdim=True),
    "min": lambda values: values.amin(0, keepdim=True),
}
_PAIRS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": torch.add,
    "sum": torch.add,
    "max": torch.maximum,
    "min": torch.minimum,
}


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Layers of a stack.

    Args:
        layers: Which layers, in that order; negative numbers count from the last; empty: all.
        layers_reduce: What becomes of them; reduced, one is left.
    """

    layers: tuple[int, ...] = ()
    layers_reduce: Reduce = "none"


@dataclass(frozen=True, kw_only=True)
class Heads(Layers):
    """Layers and heads of a stack.

    Args:
        heads: Which heads of each layer, in that order; negative numbers count from the last; empty: all.
        heads_reduce: What becomes of them, before layers are reduced; reduced, one is left.
    """

    heads: tuple[int, ...] = ()
    heads_reduce: Reduce = "none"

    def of(self, values: Tensor) -> Tensor:
        """The heads of one layer, ``[head ...]``, selected and reduced."""
        chosen = chosen_of(self.heads, len(values), "heads")
        if len(chosen) != len(values) or chosen != tuple(range(len(values))):
            values = values[list(chosen)]
        return _OVER[self.heads_reduce](values)


def chosen_of(asked: Sequence[int], n: int, what: str) -> tuple[int, ...]:
    """Indices below ``n``, in order; all where none is asked for. Raises ``CallerError`` (``what``: of what)."""
    if not asked:
        return tuple(range(n))
    found = tuple(index + n if index < 0 else index for index in asked)
    wrong = [given for given, index in zip(asked, found, strict=True) if not 0 <= index < n]
    if wrong:
        raise CallerError(f"{what}: there is no {wrong[0]}, only 0 to {n - 1}")
    if len(set(found)) < len(found):
        raise CallerError(f"{what} {list(asked)}: one is named twice")
    return found


class Collected:
    """What comes of layers one by one in a pass, selected and reduced as it comes."""

    def __init__(self, asked: Layers, n_layers: int) -> None:
        self.chosen = chosen_of(asked.layers, n_layers, "layers")
        self._how = asked.layers_reduce
        self._found: dict[int, Tensor] = {}
        self._reduced: Tensor | None = None
        self._last = -1

    def add(self, layer: int, value: Tensor) -> None:
        """Takes a layer's; a layer that is not behind the one before begins a new pass."""
        if layer <= self._last:
            self._found, self._reduced = {}, None
        self._last = layer
        if self._how == "none":
            self._found[layer] = value
        else:
            self._reduced = value if self._reduced is None else _PAIRS[self._how](self._reduced, value)

    def stacked(self) -> Tensor:
        """All of them, ``[layer ...]`` in the order that was asked for."""
        if self._reduced is None:
            return torch.stack([self._found[layer] for layer in self.chosen])
        scale = len(self.chosen) if self._how == "mean" else 1
        return (self._reduced / scale)[None]
