"""Losses of canonical examples on cached rows, and their gradients in closed form (Hewitt et al. 2024, section 3).

With ``l = log softmax(E o)[y]``, the gradient of l by o is ``E_y - sum_w p(w) E_w``, and that by the vector of a pair c
is ``A_c`` times that: no differentiation passes the transformer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from interpd_backpack.finding.settings import Loss
from interpd_backpack.worker.finding.cached import Rows

LOGITS = 1 << 24
"""Logits that are held at once."""


@dataclass(frozen=True)
class Example:
    """A canonical example, cached."""

    rows: Rows
    """Those of the first suffix, then those of the second."""
    n_first: int
    """Rows of the first suffix."""

    @property
    def means(self) -> Tensor:
        """What averages each suffix, ``[suffix row]``: rows of a suffix that is not there are zero."""
        n_rows = len(self.rows.targets)
        made = self.rows.mix.new_zeros(2, n_rows)
        made[0, : self.n_first] = 1 / self.n_first
        if n_rows > self.n_first:
            made[1, self.n_first :] = 1 / (n_rows - self.n_first)
        return made

    @property
    def sums(self) -> Tensor:
        """What sums each suffix, ``[suffix row]``."""
        return (self.means > 0).to(self.rows.mix.dtype)


def log_probabilities(rows: Rows, delta: Tensor, unembedding: Tensor) -> Tensor:
    """log p of the tokens that come, ``[row]``, with ``delta`` ``[pair d_model]`` added to the senses."""
    parts = []
    for part in _parts(rows, unembedding):
        logits = rows.part(part).moved(delta) @ unembedding.T
        parts.append(logits.log_softmax(-1).gather(1, rows.targets[part, None])[:, 0])
    return torch.cat(parts)


def example_loss(loss: Loss, first: Tensor, second: Tensor) -> Tensor:
    """The loss, from the log probabilities of both suffixes."""
    if loss == "say":
        return -first
    if loss == "avoid":
        return first
    return (first - second).abs() if loss == "balance" else second - first


def example_gradient(loss: Loss, example: Example, delta: Tensor, unembedding: Tensor) -> tuple[Tensor, Tensor]:
    """(the loss, the gradient by the mix at each row ``[row d_model]``), averaged over the tokens of each suffix."""
    rows = example.rows
    logs = (rows.moved(delta) @ unembedding.T).log_softmax(-1)
    reached = logs.gather(1, rows.targets[:, None])[:, 0]
    means = example.means
    first, second = means @ reached
    signs = _signs(loss, first, second)
    shares = signs[0] * means[0] + signs[1] * means[1]
    pulled = unembedding[rows.targets] - logs.exp() @ unembedding
    return example_loss(loss, first, second), shares[:, None] * pulled


def divergence_gradient(rows: Rows, delta: Tensor, unembedding: Tensor) -> tuple[Tensor, Tensor]:
    """(KL(p as it is || p with ``delta``), summed over rows; its gradient by ``delta``)."""
    total = rows.mix.new_zeros(())
    gradient = torch.zeros_like(delta)
    # at rows that no pair reaches nothing changes
    rows = rows.part((rows.weights != 0).any(1))
    for part in _parts(rows, unembedding):
        some = rows.part(part)
        old = (some.mix @ unembedding.T).log_softmax(-1)
        new = (some.moved(delta) @ unembedding.T).log_softmax(-1)
        total = total + (old.exp() * (old - new)).sum()
        gradient += some.weights.T @ ((new.exp() - old.exp()) @ unembedding)
    return total, gradient


def surprisal_gradients(rows: Rows, unembedding: Tensor) -> Tensor:
    """The gradient of -log p of each row's token by the mix there, ``[row d_model]``, with nothing added."""
    parts = []
    for part in _parts(rows, unembedding):
        some = rows.part(part)
        parts.append((some.mix @ unembedding.T).softmax(-1) @ unembedding - unembedding[some.targets])
    return torch.cat(parts)


def _signs(loss: Loss, first: Tensor, second: Tensor) -> tuple[float | Tensor, float | Tensor]:
    """The derivatives of the loss by the two log probabilities."""
    if loss == "balance":
        sign = torch.sign(first - second)
        return sign, -sign
    return {"say": (-1.0, 0.0), "avoid": (1.0, 0.0), "prefer": (-1.0, 1.0)}[loss]


def _parts(rows: Rows, unembedding: Tensor) -> list[slice]:
    """Slices of rows whose logits fit."""
    size = max(1, LOGITS // len(unembedding))
    return [slice(start, start + size) for start in range(0, len(rows.targets), size)]
