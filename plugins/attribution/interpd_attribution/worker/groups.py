"""Columns and rows of a result: which attributed tokens share a column, which positions share a feature."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError


@dataclass(frozen=True)
class Groups:
    """A partition of things into numbered groups; a thing may belong to none."""

    of: Tensor
    """The group of each thing; -1: none."""
    n: int

    @property
    def is_plain(self) -> bool:
        """Whether each thing is a group of its own, in order."""
        return self.n == len(self.of) and bool((self.of == torch.arange(self.n)).all())

    def members(self) -> Tensor:
        """``[group thing]``, 1.0 where the thing is in the group."""
        return (self.of == torch.arange(self.n)[:, None]).float()

    def summed(self, values: Tensor, dim: int) -> Tensor:
        """``values`` with the things along ``dim`` summed to groups."""
        if self.is_plain:
            return values
        kept = self.of >= 0
        index = self.of[kept].to(values.device)
        values = values.movedim(dim, 0)[kept.to(values.device)]
        return values.new_zeros(self.n, *values.shape[1:]).index_add_(0, index, values).movedim(0, dim)


def groups_of(ids: Sequence[int], n: int, what: str) -> Groups:
    """The groups that the caller numbered; each of ``n`` things its own where ``ids`` is empty.

    Raises ``CallerError`` for another count than ``n`` (of ``what``), and for numbers with gaps.
    """
    if not ids:
        return Groups(torch.arange(n), n)
    if len(ids) != n:
        raise CallerError(f"{what}: {len(ids)} group numbers for {n} of them; give one for each, -1: in no group")
    n_groups = max(ids) + 1
    missing = set(range(n_groups)) - set(ids)
    if missing or min(ids) < -1 or not n_groups:
        hint = f"{min(missing)} is missing" if missing else f"they go from {min(ids)} to {max(ids)}"
        raise CallerError(f"{what}: group numbers are 0, 1, 2 ... without gaps, or -1; {hint}")
    return Groups(torch.tensor(ids), n_groups)
