"""What is attributed: exact token ids, the tokens whose prediction is explained, and the positions that may explain it.

Everything is ids and positions; no text is tokenised again. A decoder-only model has one side, the whole sequence
(prompt and continuation). An encoder-decoder model has the source and what its decoder is given, start token first.
Positions of both sides are counted through: source, then target.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext


@dataclass(frozen=True)
class Side:
    """What one stack of the model is given."""

    site: str
    """Where its token embeddings are."""
    ids: Tensor
    """``[pos]``."""
    first: int
    """Which of all positions its first one is."""

    @property
    def positions(self) -> slice:
        """Its positions among all."""
        return slice(self.first, self.first + len(self.ids))


@dataclass(frozen=True)
class Sequence:
    """Token ids, and which of them are attributed tokens: those of the target from ``start`` up to ``stop``."""

    source: Side | None
    """``None`` for a decoder-only model."""
    target: Side
    start: int
    stop: int

    @property
    def sides(self) -> tuple[Side, ...]:
        """In the order of their positions."""
        return (self.target,) if self.source is None else (self.source, self.target)

    @property
    def n_positions(self) -> int:
        """Of both sides."""
        return self.target.positions.stop

    @property
    def n_steps(self) -> int:
        """How many tokens are attributed."""
        return self.stop - self.start

    @property
    def predicting(self) -> tuple[int, ...]:
        """The position of the target whose logits predict each attributed token."""
        return tuple(range(self.start - 1, self.stop - 1))

    @property
    def ids(self) -> Tensor:
        """The attributed tokens, ``[step]``."""
        return self.target.ids[self.start : self.stop]

    def sees(self) -> Tensor:
        """Whether a position comes before an attributed token, so that it may explain it: ``[step position]``."""
        last = torch.tensor(self.predicting) + self.target.first
        return torch.arange(self.n_positions) <= last[:, None]


def sequence_of(ctx: MethodContext, start: int, stop: int | None, *, needs_steps: bool = True) -> Sequence:
    """The sequence of the method's prompt.

    Args:
        ctx: Of the method.
        start: The first attributed position of the target; negative ones count from the end.
        stop: The position behind the last one; ``None``: the end.
        needs_steps: Whether there must be an attributed token; what a value of the graph is made of may be one token
            that nothing predicts.

    Raises:
        CallerError: There is no such position, or nothing before it that could predict it.
    """
    if ctx.target_ids is None:
        source, target = None, Side("embed", ctx.input_ids[0], 0)
    else:
        source = Side("encoder.embed", ctx.input_ids[0], 0)
        target = Side("decoder.embed", ctx.target_ids[0], len(source.ids))
    for side in (source, target):
        if side is not None and side.site not in ctx.session.sites:
            raise CallerError(f"model {ctx.session.info.name!r} has no site {side.site!r}: it cannot be attributed")
    length = len(target.ids)
    first = start + length if start < 0 else start
    end = length if stop is None else stop + length if stop < 0 else stop
    least = 1 if needs_steps or length > 1 else 0
    if not 1 <= first <= end - least <= length - least:
        raise CallerError(
            f"the attributed positions are {start} to {'the end' if stop is None else stop} of {length}: expected a "
            f"start from 1 to {length - 1}, and a stop behind it up to {length}; position 0 is predicted by nothing"
        )
    return Sequence(source, target, first, end)
