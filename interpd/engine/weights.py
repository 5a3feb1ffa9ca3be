"""The weights of a resident model, watched while a plugin's code runs: everybody's numbers are made of them.

The session hands out copies, so this finds only what reaches the model by another way, such as a plugin that built it.
Writes through ``.data`` or numpy leave no trace in torch's version counters and are not seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from interpd.errors import OpFailed


class Weights:
    """Parameters and buffers of ``model``."""

    def __init__(self, model: nn.Module) -> None:
        named = (*model.named_parameters(), *model.named_buffers())
        self._tensors: tuple[tuple[str, Tensor], ...] = tuple(named)
        self.blame: tuple[str, OpFailed] | None = None
        """(run id, what it did), once the weights were changed: nothing that is computed from then on is right."""

    @contextmanager
    def watched(self, run_id: str, what: str) -> Iterator[None]:
        """Raises ``OpFailed`` when ``what``, which runs meanwhile for the run, changes a weight."""
        before = self._versions()
        try:
            yield
        finally:
            after = self._versions()
            if after != before:
                pairs = zip(self._tensors, before, after, strict=True)
                changed = [name for (name, _), old, new in pairs if old != new]
                error = OpFailed(f"{what} changed the model's weights in place: {_listed(changed)}")
                self.blame = self.blame or (run_id, error)
                raise error

    def _versions(self) -> list[int]:
        return [tensor._version for _, tensor in self._tensors]


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
