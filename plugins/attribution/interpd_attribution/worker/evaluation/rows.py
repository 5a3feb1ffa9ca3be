"""Rows of inputs of which some features are removed: each is passed once, whoever asks for it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Points, Problem


class Rows:
    """The target's scores where features are replaced by those of a baseline; the mean over several baselines."""

    def __init__(self, problem: Problem, baselines: Tensor) -> None:
        self._problem, self._baselines = problem, baselines
        of = problem.features.of[problem.positions]
        self._of, self._has_feature = of.clamp(min=0), of >= 0
        # a feature that the baseline has, too, is removed by nothing
        differs = (baselines != problem.inputs).any(0).any(-1).cpu() & self._has_feature
        self._changes = torch.zeros(problem.features.n, dtype=torch.bool).index_fill(0, of[differs], True)
        self._number: dict[bytes, int] = {}
        self._table = torch.zeros(0, problem.columns.n, dtype=torch.float64)

    @property
    def n(self) -> int:
        """How many different rows there have been."""
        return len(self._table)

    def scores(self, masks: Sequence[Tensor]) -> list[Tensor]:
        """For each of some masks, ``[row feature]`` with true where a feature is removed: ``[row column]``."""
        masks = [mask & self._changes for mask in masks]
        keys = [[row.tobytes() for row in mask.numpy()] for mask in masks]
        new: dict[bytes, Tensor] = {}
        for mask, names in zip(masks, keys, strict=True):
            new.update({key: row for key, row in zip(names, mask, strict=True) if key not in self._number})
        self._pass(new)
        return [self._table[[self._number[key] for key in names]] for names in keys]

    def _pass(self, new: dict[bytes, Tensor]) -> None:
        if not new:
            return
        removed, n_baselines = torch.stack(list(new.values())), len(self._baselines)
        found = []
        for rows in chunks(len(removed), max(1, self._problem.rows_per_pass(grad=False) // n_baselines)):
            found.append(self._scored(removed[rows]).reshape(-1, n_baselines, self._problem.columns.n).mean(1))
            self._problem.ctx.progress(rows.stop, len(removed), "changed inputs")
        self._number.update({key: self.n + number for number, key in enumerate(new)})
        self._table = torch.cat([self._table, *found])

    def _scored(self, removed: Tensor) -> Tensor:
        """``[row baseline, column]``."""
        inputs, baselines = self._problem.inputs, self._baselines
        at = (removed[:, self._of] & self._has_feature).to(inputs.device)

        def vectors(rows: slice) -> Tensor:
            numbers = torch.arange(rows.start, rows.stop, device=inputs.device)
            own, other = at[numbers // len(baselines)], baselines[numbers % len(baselines)]
            return torch.where(own[..., None], other, inputs)

        points = Points(len(at) * len(baselines), vectors)
        return self._problem.scores(points).double().cpu()
