"""An edit of a Backpack, carried over to a larger model with the same tokens (Hewitt et al. 2024, section 6).

``log p = log p_large + beta (log p_edited - log p_unedited) + const``: what the edit changes in the Backpack's
predictions is added to the larger model's. The weights of senses do not depend on senses, so that the two predictions
of the Backpack come from one pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.finding.solving import Numbers

BETAS = tuple(round(1 - 0.1 * number, 1) for number in range(10))
"""1, .9, ... .1, as published."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits or log probabilities at the same positions, ``[row token]`` each; of more tokens the first ones count."""

    large: Numbers
    unedited: Numbers
    edited: Numbers

    def __post_init__(self) -> None:
        shapes = {np.shape(one)[0] for one in (self.large, self.unedited, self.edited) if np.ndim(one) == 2}
        if len(shapes) != 1 or not all(np.ndim(one) == 2 for one in (self.large, self.unedited, self.edited)):
            raise CallerError("expected logits [row token] of the same rows for all three models")
        if np.shape(self.unedited) != np.shape(self.edited):
            raise CallerError("the edited and the unedited model have other tokens: they are one Backpack")


@dataclass(frozen=True, eq=False)
class Transfer:
    """How much of an edit a larger model bears."""

    beta: float
    """0: none of those tried stays inside the ball."""
    ratio: float
    """NLL of the texts over what it was."""


def transferred(predictions: Predictions, beta: float) -> Numbers:
    """Log probabilities of the larger model with ``beta`` times the edit's change, ``[row token]``.

    Tokens that only one of the models has (rows of padding) are left out: the first ones, which both have, count.
    """
    n_tokens = min(predictions.large.shape[1], predictions.edited.shape[1])
    large, unedited, edited = (
        _log_softmax(np.asarray(one, dtype=np.float64)[:, :n_tokens])
        for one in (predictions.large, predictions.unedited, predictions.edited)
    )
    return _log_softmax(large + beta * (edited - unedited))


def best_beta(
    predictions: Predictions, targets: Sequence[int], *, radius: float, betas: Sequence[float] = BETAS
) -> Transfer:
    """The first of ``betas`` with which the larger model stays inside the degradation ball.

    Args:
        predictions: At the positions of held-out texts.
        targets: The tokens that come there.
        radius: epsilon: by which share the NLL may grow.
        betas: Tried in this order; falling, as published.
    """
    rows = np.asarray(targets, dtype=np.int64)
    if rows.shape != (len(predictions.large),):
        raise CallerError(f"expected {len(predictions.large)} targets, one for each row, got {list(rows.shape)}")

    def nll(beta: float) -> float:
        return -float(transferred(predictions, beta)[np.arange(len(rows)), rows].sum())

    base = nll(0.0)
    for beta in betas:
        ratio = nll(beta) / base
        if ratio <= 1 + radius:
            return Transfer(float(beta), ratio)
    return Transfer(0.0, 1.0)


def _log_softmax(logits: Numbers) -> Numbers:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
