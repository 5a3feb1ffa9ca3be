"""An edit of a Backpack, carried over to a larger model with the same tokens (Hewitt et al. 2024, section 6).

``log p = log p_large + beta (log p_edited - log p_unedited) + const``: what the edit changes in the Backpack's
predictions is added to the larger model's. The weights of senses do not depend on senses, so that the two predictions
of the Backpack come from one pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.edits import Edit
from interpd_backpack.edits.asking import put_in_force
from interpd_backpack.finding.solving import Numbers
from interpd_client import Model

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
    return _best([(predictions, targets)], radius, betas)


def transfer(
    models: tuple[Model, Model],
    edit: Edit,
    texts: Sequence[str],
    *,
    radius: float,
    betas: Sequence[float] = BETAS,
    **run: Any,
) -> Transfer:
    """The first of ``betas`` with which a larger model bears an edit of a Backpack: on texts, one after the other.

    Args:
        models: The Backpack, and the larger model, whose tokens are the same.
        edit: Of the Backpack.
        texts: Held out; each of two tokens at least, and as long as both models take.
        radius: epsilon: by which share the NLL of the texts may grow.
        betas: Tried in this order.
        run: Options of requests.

    Raises:
        CallerError: Models whose tokens differ, an edit of another model, no texts.
    """
    if not texts or isinstance(texts, str):
        raise CallerError("expected a list of texts, one at least: they say whether the ball is left")

    def told() -> Iterable[tuple[Predictions, Sequence[int]]]:
        for text in texts:
            ids = same_tokens(models, text)
            if len(ids) < 2:
                raise CallerError(f"the text {text!r} has {len(ids)} tokens: nothing is predicted in it")
            yield predictions(models, edit, list(ids[:-1]), **run), ids[1:]

    return _best(told(), radius, betas)


def predictions(models: tuple[Model, Model], edit: Edit, prompt: str | list[int], **run: Any) -> Predictions:
    """What both models predict at each position of a prompt, the Backpack without the edit and under it.

    Args:
        models: The Backpack, and the larger model.
        edit: Of the Backpack.
        prompt: A text, or token ids.
        run: Options of requests.

    Raises:
        CallerError: Models whose tokens differ, or an edit of another model.
    """
    own, large = models
    ids = list(same_tokens(models, prompt)) if isinstance(prompt, str) else prompt
    t = own.trace(**run)
    plain, edited = t.prompt(ids), t.prompt(ids)
    put_in_force(own, edited, edit)
    t.save(plain=plain.logits[0], edited=edited.logits[0])
    other = large.trace(ids, **run)
    other.save(large=other.logits[0])
    found = t.run()
    return Predictions(other.run()["large"], found["plain"], found["edited"])


def same_tokens(models: tuple[Model, Model], text: str) -> tuple[int, ...]:
    """The tokens of a text. Raises ``CallerError`` where the models see it differently."""
    own, large = (model.tokenize(text).ids for model in models)
    if own != large:
        raise CallerError(
            f"{models[0].name!r} and {models[1].name!r} have other tokens for {text!r}, {list(own)[:8]} and "
            f"{list(large)[:8]}: an edit is carried over between models of one tokenizer"
        )
    return own


def _best(parts: Iterable[tuple[Predictions, Sequence[int]]], radius: float, betas: Sequence[float]) -> Transfer:
    totals = np.zeros(1 + len(betas))
    for given, targets in parts:
        rows = np.asarray(targets, dtype=np.int64)
        if rows.shape != (len(given.large),):
            raise CallerError(f"expected {len(given.large)} targets, one for each row, got {list(rows.shape)}")
        totals -= [transferred(given, beta)[np.arange(len(rows)), rows].sum() for beta in (0.0, *betas)]
    for beta, total in zip(betas, totals[1:], strict=True):
        ratio = float(total / totals[0])
        if ratio <= 1 + radius:
            return Transfer(float(beta), ratio)
    return Transfer(0.0, 1.0)


def _log_softmax(logits: Numbers) -> Numbers:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
