"""What a step function sees: distributions over the next token, the tokens that came, and their foils."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from interpd.sdk import CallerError


@dataclass(frozen=True)
class Foil:
    """One alternative: the tokens that might have come instead, and the distributions that they are scored by."""

    logits: Tensor
    """``[row token d_vocab]``."""
    ids: Tensor
    """``[token]``."""
    share: Tensor | None = None
    """``[step token]``: how much of each token's score belongs to each step; ``None``: token i to step i."""

    def by_step(self, scores: Tensor) -> Tensor:
        """Scores of the foil's tokens, ``[row token]``, as scores of the steps, ``[row step]``."""
        return scores if self.share is None else scores @ self.share.to(scores).T


@dataclass(frozen=True)
class Step:
    """All attributed tokens of some rows at once. The score of a step may depend on that step's logits only."""

    logits: Tensor
    """``[row step d_vocab]``, float64 in a pass: what the model says of each attributed token before it comes."""
    ids: Tensor
    """``[step]``: the tokens that came."""
    foils: tuple[Foil, ...] = ()
    """Empty when nothing is contrasted."""
    has_own_context: bool = False
    """Whether the foils' distributions are those in contexts of their own, not in that of the target."""
    dropped: Callable[[Sequence[int]], Tensor] | None = None
    """Logits of passes with dropout, one for each of these seeds, ``[pass row step d_vocab]``, without gradients;
    ``None`` where there can be none."""

    def over_foils(self, score: Callable[[Foil], Tensor]) -> Tensor:
        """The mean over foils of a score of their tokens, ``[row step]``."""
        if not self.foils:
            raise CallerError("this step function contrasts with a foil: give contrast_ids")
        scores = [foil.by_step(score(foil)) for foil in self.foils]
        return sum(scores[1:], scores[0]) / len(scores)


def logits_of(logits: Tensor, ids: Tensor) -> Tensor:
    """The logits of tokens, ``[row step]``."""
    return logits.gather(-1, ids.expand(logits.shape[:-1])[..., None])[..., 0]


def log_probabilities_of(logits: Tensor, ids: Tensor) -> Tensor:
    """The log-probabilities of tokens in nats, ``[row step]``."""
    return logits_of(logits, ids) - logits.logsumexp(-1)


def probabilities_of(logits: Tensor, ids: Tensor, logprob: bool) -> Tensor:
    """The probabilities of tokens, or their logarithms in nats."""
    logarithms = log_probabilities_of(logits, ids)
    return logarithms if logprob else logarithms.exp()
