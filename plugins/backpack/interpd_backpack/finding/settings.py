"""How senses are finetuned: what the client asks for and the worker does, as data."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from interpd.errors import CallerError

Loss = Literal["say", "avoid", "balance", "prefer"]
"""Of the log probabilities of an example's suffixes (in brackets what the published code calls it).

``say`` (good): -log p(suffix). ``avoid`` (bad): log p(suffix), so that it gets less likely. ``balance`` (balance): the
absolute difference of both. ``prefer`` (good-v-bad): log p(second) - log p(first).
"""

NEEDS_TWO = ("balance", "prefer")
"""Losses of two suffixes."""

Selector = Literal["alpha", "alpha-contrast", "gradient", "epsilon", "fisher"]
"""``alpha``: the weight of the pair, summed over all predicted positions (the reference's). ``alpha-contrast``: that of
the first suffix less that of the second (the reference's for ``prefer``). ``gradient``: the norm of the loss's
gradient by the pair's vector, which is the weight times the gradient by the mix. ``epsilon``: the absolute derivative
by a factor of the pair's vector. ``fisher``: the squared norm of the gradient, its empirical Fisher information."""

TRAIN, BACKGROUND, HELD_OUT, EVALUATION, HARD_NEGATIVES = range(5)
"""What an item of the data is for."""


@dataclass(frozen=True)
class Settings:
    """Of one sense finetuning.

    Raises ``CallerError`` for what cannot be.
    """

    loss: Loss
    selector: Selector = "alpha"
    senses_per_example: int = 10
    """Pairs of a token and a sense that each example may choose; the union of all is trained."""
    background_weight: float = 1000.0
    """lambda: what the background's mean score of a pair counts against it."""
    learning_rate: float = 0.015
    """Of Adam with betas .9 and .995; falls to 0 as a cosine, epoch by epoch."""
    kl_weight: float = 0.3
    """Of KL(p as it is || p edited), summed over the positions of one text of the background at each example."""
    n_epochs: int = 10
    accumulate: int = 5
    """Examples whose gradients are added for one step; those left at the end of an epoch make a step, too."""
    radius: float = 1e-4
    """epsilon: the NLL of the held-out texts may grow by this share at the most."""
    line_search: bool = True
    """Whether the greatest share of the last epoch's vectors inside the ball is tried, too."""
    half: bool = False
    """Whether the vectors are rounded to float16, as in the reference's files; what is measured is with that."""
    seed: int = 0
    """Of the order of examples and the texts of the background."""

    def __post_init__(self) -> None:
        for name, kind in (("loss", Loss), ("selector", Selector)):
            if getattr(self, name) not in get_args(kind):
                raise CallerError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(get_args(kind))}")
        for name in ("senses_per_example", "n_epochs", "accumulate"):
            if not (type(getattr(self, name)) is int and getattr(self, name) >= 1):
                raise CallerError(f"{name} is {getattr(self, name)!r}, expected a whole number from 1")
        for name in ("background_weight", "learning_rate", "kl_weight", "radius"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise CallerError(f"{name} is {value!r}, expected a number from 0")
        if type(self.seed) is not int or not 0 <= self.seed < 1 << 32:
            raise CallerError(f"seed is {self.seed!r}, expected a whole number from 0 below 2**32")
        if self.selector == "alpha-contrast" and not self.is_pair:
            raise CallerError(
                f"the selector 'alpha-contrast' compares two suffixes, and the loss {self.loss!r} has one"
            )

    @property
    def is_pair(self) -> bool:
        """Whether examples have two suffixes."""
        return self.loss in NEEDS_TWO

    def to_json(self) -> str:
        """All of them, always in the same order."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """What ``to_json`` wrote. Raises ``CallerError``."""
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise CallerError(f"the settings are no JSON: {error}") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(found, dict) or "loss" not in found or not found.keys() <= known:
            raise CallerError(f"expected settings with the fields {', '.join(sorted(known))}, got {text}")
        return cls(**found)
