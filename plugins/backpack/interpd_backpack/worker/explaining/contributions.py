"""``backpack.contributions``: a prediction, taken apart by position and sense."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.worker.explaining.parts import READS, Directions, Parts, Quantity, Row, check
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.reading.senses import PAPER


@dataclass(frozen=True)
class Contributions:
    """What adds up to one number of a prediction: ``contributions`` and ``base``."""

    contributions: Float64[Tensor, "pos sense"]
    """Zero behind the position that predicts."""
    says: Float64[Tensor, "pos sense"]
    """What each sense would add at weight 1."""
    weights: Float64[Tensor, "pos sense"]
    """Sense weights, as they are in force."""
    scale: Float64[Tensor, ""]
    """The model's factor of the sum: a contribution is scale * weight * what the sense says."""
    base: Float64[Tensor, ""]
    """Of a retrofitted model the part of its base stream; otherwise a bias of the head, which is mostly none."""
    value: Float64[Tensor, ""]
    """The number, from the model's own logits."""
    residual: Float64[Tensor, ""]
    """value - contributions - base: rounding."""
    log_probability: Float64[Tensor, ""]
    """Of the target: for ``quantity="log_probability"`` value - entropy."""
    entropy: Float64[Tensor, ""]
    """Of the prediction, in nats."""
    target: Int64[Tensor, ""]
    """The token that is explained."""


@method("backpack.contributions", paper=PAPER)
def contributions(
    ctx: MethodContext, *, target: int = -1, against: int = -1, position: int = -1, quantity: Quantity = "logit"
) -> Contributions:
    """What each sense of each token adds to a prediction: ``scale * alpha_lij <E_w, C(x_j)_l>``.

    The parts add up to the model's own number, to rounding; ``residual`` is what they miss it by.

    Senses and sense weights are those of the prompt's own pass: what the trace writes there is in force.

    Args:
        target: The token; -1: the most likely one.
        against: The other token of a difference.
        position: The position that predicts, counted from the end where it is negative.
        quantity: ``logit``; ``difference``, of the logits of two tokens; ``log_probability``: the logit less the mean
            logit under the model's prediction, to which the log-probability is nearer by what all tokens have in
            common: it is this number minus the entropy.

    Raises:
        CallerError: No such position or token, or parts that do not add up, with what stands in the way.
    """
    lexicon = Lexicon(ctx)
    n = ctx.input_ids.shape[1]
    if not -n <= position < n:
        raise CallerError(f"position {position} is not there: the prompt has {n} tokens")
    position %= n
    check_tokens(lexicon, (target, against), quantity)
    found = ctx.session.forward(ctx.input_ids, reads=READS)
    logits = found["logits"][0, position]
    chosen = target if target != -1 else int(logits[: lexicon.n_tokens].argmax())
    (direction,) = Directions(lexicon)(quantity, [chosen], [against], logits[None])
    parts = Row(found, 0, n).parts(position, direction)
    check(parts, ctx.session)
    return _told(parts, logits, chosen)


def check_tokens(lexicon: Lexicon, tokens: tuple[int, ...], quantity: Quantity) -> None:
    """Raises ``CallerError`` for what is no token, and for a difference without its other token, or the reverse."""
    target, against = tokens
    for name, token in (("target", target), ("against", against)):
        if not -1 <= token < lexicon.n_tokens:
            raise CallerError(f"{name} is {token}, but tokens are 0 to {lexicon.n_tokens - 1}")
    if (quantity == "difference") != (against != -1):
        raise CallerError(
            "a difference is one of two tokens: give against"
            if quantity == "difference"
            else f"against is the other token of a difference: with quantity={quantity!r} leave it out"
        )


def _told(parts: Parts, logits: Tensor, target: int) -> Contributions:
    logs = logits.double().log_softmax(-1)
    return Contributions(
        parts.contributions.T,
        parts.says.T,
        parts.weights.T,
        parts.scale,
        parts.base,
        parts.value,
        parts.residual,
        logs[target],
        -torch.xlogy(logs.exp(), logs.exp()).sum(),
        torch.tensor(target, device=logits.device),
    )
