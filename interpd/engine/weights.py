"""What everybody's numbers are made of, watched while a plugin's code runs: weights, hooks of the model, torch itself.

The session hands out copies, so this finds only what reaches the model by another way, such as a plugin that built it.
Writes through ``.data`` or numpy leave no trace in torch's version counters and are not seen.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from interpd.engine.surfaces import Surfaces
from interpd.errors import OpFailed

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Weights:
    """Parameters, buffers and hooks of ``model``.

    Args:
        model: What is watched.
        root: Of the model that ``model`` is a twin of; the blame for either falls on both.
        rewritten: Names of the buffers that the model's own passes write to; they are not watched.
    """

    def __init__(
        self, model: nn.Module, root: "Weights | None" = None, *, rewritten: Collection[str] = frozenset()
    ) -> None:
        self._root = self if root is None else root
        hooks = [getattr(module, kind) for module in model.modules() for kind in _HOOKS]
        hooks += [getattr(torch_modules, f"_global{kind}") for kind in _HOOKS]
        self._hooks: tuple[dict[int, object], ...] = tuple(hooks)
        named = (*model.named_parameters(), *model.named_buffers())
        self._tensors: tuple[tuple[str, Tensor], ...] = tuple(pair for pair in named if pair[0] not in rewritten)
        self._blame: tuple[str, OpFailed] | None = None
        self._surfaces = Surfaces()

    @property
    def blame(self) -> tuple[str, OpFailed] | None:
        """(run id, what it did), once the model was changed: nothing that is computed from then on is right."""
        return self._root._blame

    @contextmanager
    def watched(self, run_id: str, what: str) -> Iterator[None]:
        """Raises ``OpFailed`` when ``what``, which runs meanwhile for the run, changes a weight or leaves a hook.

        So it does when a name of torch means something else than before; that is put back.
        """
        before, n_hooks, pid = self._versions(), self._n_hooks(), os.getpid()
        self._surfaces.look()
        try:
            yield
        finally:
            if os.getpid() != pid:
                # a process that was forked off and comes back here would be a second engine
                os._exit(1)
            replaced = self._surfaces.put_back()
            after, n_left = self._versions(), self._n_hooks() - n_hooks
            if after != before or n_left:
                pairs = zip(self._tensors, before, after, strict=True)
                changed = [name for (name, _), old, new in pairs if old != new]
                deed = f"changed the model's weights in place: {_listed(changed)}"
                if not changed:
                    deed = f"changed the number of hooks on modules by {n_left:+d}; it must remove what it registers"
                error = OpFailed(f"{what} {deed}")
                self._root._blame = self.blame or (run_id, error)
                raise error
            if replaced:
                raise OpFailed(f"{what} changed what others use, which was put back: {_listed(replaced)}")

    def _n_hooks(self) -> int:
        return sum(map(len, self._hooks))

    def _versions(self) -> list[int]:
        return [tensor._version for _, tensor in self._tensors]


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
