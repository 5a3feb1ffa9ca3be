"""A prediction as a sum over (position, sense): ``c_jl = scale * alpha_lij <direction, C(x_j)_l>``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interpd.sdk import CallerError, Session
from interpd_backpack.worker.lexicon import HEAD, SENSES, WEIGHTS, Lexicon

Quantity = Literal["logit", "difference", "log_probability"]

MIX, BEFORE_HEAD = "sense_mix", f"{HEAD}.input"
READS = (SENSES, WEIGHTS, MIX, BEFORE_HEAD, "logits")
"""What a pass is asked for."""

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.01}
"""How far the parts may miss the model's own number, as a share of the sum of their magnitudes."""


@dataclass(frozen=True)
class Parts:
    """One number of the model, taken apart. All in float64."""

    contributions: Tensor
    """``[sense pos]``"""
    says: Tensor
    """``[sense pos]``: ``<direction, C(x_j)_l>``, what a sense would add at weight 1."""
    weights: Tensor
    """``[sense pos]``: ``alpha``, as it is in force."""
    scale: Tensor
    """What the sum of the senses is multiplied with."""
    base: Tensor
    """What comes from elsewhere: the base stream of a retrofitted model, a bias of the head."""
    value: Tensor
    """The number, from the model's own logits."""

    @property
    def residual(self) -> Tensor:
        """By how much the parts miss the number."""
        return self.value - self.contributions.sum() - self.base

    @property
    def magnitude(self) -> Tensor:
        """What the residual is to be compared with."""
        return self.contributions.abs().sum() + self.base.abs() + self.value.abs()


@dataclass(frozen=True)
class Direction:
    """How a number is read off the vector before the head."""

    toward: Tensor
    """``[d_model]``"""
    bias: Tensor
    """What the head adds."""
    value: Tensor
    """The number, from the model's own logits."""
    gate: Tensor
    """What the sum of the senses is multiplied with before it is added to the base stream."""


class Directions:
    """Rows of E that predictions are read off with, in float64."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        zero = torch.zeros(1, lexicon.unembedding.shape[1], dtype=lexicon.unembedding.dtype, device=lexicon.device)
        self._biases = lexicon.logits(zero)[0].detach().double()

    def __call__(
        self, quantity: Quantity, targets: Sequence[int], against: Sequence[int], logits: Tensor
    ) -> list[Direction]:
        """How a number of each of some predictions is read off.

        Args:
            quantity: Which number.
            targets: The tokens.
            against: The other ones of differences.
            logits: The model's own, ``[prediction d_vocab]``.
        """
        rows, logits, gate = self._lexicon.unembedding, logits.double(), self._lexicon.gate
        toward, bias = rows[list(targets)].double(), self._biases[list(targets)]
        value = logits.gather(1, torch.tensor([targets], device=logits.device).T)[:, 0]
        if quantity == "difference":
            others = list(against)
            toward, bias = toward - rows[others].double(), bias - self._biases[others]
            value = value - logits.gather(1, torch.tensor([others], device=logits.device).T)[:, 0]
        elif quantity == "log_probability":
            p = logits.softmax(-1)
            toward, bias = toward - _weighted_rows(p, rows), bias - p @ self._biases
            value = value - (p * logits).sum(-1)
        return [Direction(*one, gate) for one in zip(toward, bias, value, strict=True)]


class Row:
    """One row of a pass, whose predictions are taken apart.

    Args:
        found: The values of ``READS``.
        number: Of the row.
        length: Its tokens.
    """

    def __init__(self, found: Mapping[str, Tensor], number: int, length: int) -> None:
        self._senses = found[SENSES][number, :, :length].double()
        self._weights = found[WEIGHTS][number, :, :, :length]
        self._mixed, self._before_head = found[MIX][number], found[BEFORE_HEAD][number]

    def parts(self, position: int, direction: Direction) -> Parts:
        """One number of a position's prediction, taken apart."""
        toward, gate = direction.toward, direction.gate
        weights, mixed = self._weights[:, position].double(), self._mixed[position].double()
        own = (weights[:, None] @ self._senses)[:, 0].sum(0)
        # the model's own factor, whatever the model (or a write) takes it from
        scale = (own @ mixed) / own.square().sum() if own.any() else own.new_ones(())
        says = self._senses @ toward
        base = toward @ (self._before_head[position].double() - gate * mixed) + direction.bias
        return Parts(gate * scale * weights * says, says, weights, gate * scale, base, direction.value)


def check(parts: Parts, session: Session) -> None:
    """Raises ``CallerError`` where the parts do not add up to the model's number."""
    residual, most = parts.residual.abs(), TOLERANCE[session.dtype] * parts.magnitude
    if residual <= most:
        return
    late = [name for name in session.written if name in ("sense_mix", "logits", "ln_final") or name.startswith(HEAD)]
    why = (
        f"the trace writes at {', '.join(map(repr, late))}, behind the senses: leave that write out"
        if late
        else "something behind the senses changes the logits (a cap, a rule): they are no sum over senses"
    )
    raise CallerError(
        f"the contributions add up to {float(parts.value - parts.residual):.6g}, but the model's own number is "
        f"{float(parts.value):.6g}: {why}"
    )


def _weighted_rows(p: Tensor, rows: Tensor) -> Tensor:
    """``sum_v p(v) E_v`` in float64, ``[prediction d_model]``, a part of the vocabulary at a time."""
    total = torch.zeros(len(p), rows.shape[1], dtype=torch.float64, device=rows.device)
    for part, row in zip(p.split(8192, dim=1), rows.split(8192), strict=True):
        total += part @ row.double()
    return total
