"""Step functions of the model's own prediction."""

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.scoring.filtering import nucleus
from interpd_attribution.worker.scoring.registry import step_function
from interpd_attribution.worker.scoring.step import Step, log_probabilities_of, logits_of, probabilities_of


@step_function("logit")
def logit(step: Step) -> Tensor:
    """The token's logit."""
    return logits_of(step.logits, step.ids)


@step_function("probability")
def probability(step: Step, *, logprob: bool = False) -> Tensor:
    """The token's probability, or its logarithm in nats."""
    return probabilities_of(step.logits, step.ids, logprob)


@step_function("entropy")
def entropy(step: Step) -> Tensor:
    """The entropy of the prediction, in nats."""
    logarithms = step.logits.log_softmax(-1)
    return -(logarithms.exp() * logarithms).sum(-1)


@step_function("crossentropy")
def crossentropy(step: Step) -> Tensor:
    """How unexpected the token is, ``-log p`` in nats."""
    return -log_probabilities_of(step.logits, step.ids)


@step_function("perplexity")
def perplexity(step: Step, *, base: float = torch.e) -> Tensor:
    """``base`` to the power of the cross-entropy in nats: with e, its default, one over the token's probability.

    Inseq raises 2 to the power of nats: ``perplexity(base=2.0)`` gives its numbers.
    """
    if base <= 0:
        raise CallerError(f"perplexity: base is {base}, expected a positive number")
    return torch.as_tensor(base, dtype=step.logits.dtype) ** -log_probabilities_of(step.logits, step.ids)


@step_function("top_p_size", differentiable=False)
def top_p_size(step: Step, *, top_p: float) -> Tensor:
    """How many of the likeliest tokens have more than ``top_p`` of the probability together."""
    return nucleus(step.logits, top_p, least=1).sum(-1).to(step.logits.dtype)


@step_function("mc_dropout_prob_avg")
def mc_dropout_z_score(step: Step, *, n_mcd_steps: int = 5, logprob: bool = False, seed: int = 0) -> Tensor:
    """How far the probability lies from its mean under dropout, in standard deviations of that: a z-score.

    Its name says average, and Inseq's documentation too; this is what Inseq computes. The passes with dropout are
    constants of a gradient. Gal and Ghahramani 2016 (arXiv:1506.02142).
    """
    if not 2 <= n_mcd_steps <= 1000:
        raise CallerError(f"mc_dropout_prob_avg: n_mcd_steps is {n_mcd_steps}, expected 2 to 1000")
    if step.dropped is None:
        raise CallerError("mc_dropout_prob_avg: dropout is not offered here")
    drawn = probabilities_of(step.dropped(range(seed, seed + n_mcd_steps)), step.ids, logprob)
    deviation = drawn.std(0)
    if not bool((deviation > 0).all()):
        raise CallerError("mc_dropout_prob_avg: passes with dropout give equal numbers; the model has no dropout")
    return (probabilities_of(step.logits, step.ids, logprob) - drawn.mean(0)) / deviation


STEP_FUNCTIONS = (logit, probability, entropy, crossentropy, perplexity, top_p_size, mc_dropout_z_score)
