"""Step functions that compare what came with what might have come, or a context with another one.

With several foils each gives the mean over them.
"""

import math

from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.scoring.filtering import kept_of
from interpd_attribution.worker.scoring.registry import step_function
from interpd_attribution.worker.scoring.step import Foil, Step, log_probabilities_of, logits_of, probabilities_of


@step_function("contrast_logits", contrastive=True)
def contrast_logits(step: Step) -> Tensor:
    """The foil's logit."""
    return step.over_foils(lambda foil: logits_of(foil.logits, foil.ids))


@step_function("contrast_prob", contrastive=True)
def contrast_prob(step: Step, *, logprob: bool = False) -> Tensor:
    """The foil's probability, or its logarithm in nats."""
    return step.over_foils(lambda foil: probabilities_of(foil.logits, foil.ids, logprob))


@step_function("contrast_logits_diff", contrastive=True)
def contrast_logits_diff(step: Step) -> Tensor:
    """The token's logit less the foil's (Yin and Neubig 2022)."""
    return logits_of(step.logits, step.ids) - contrast_logits(step)


@step_function("contrast_prob_diff", contrastive=True)
def contrast_prob_diff(step: Step, *, logprob: bool = False) -> Tensor:
    """The token's probability less the foil's, or the difference of their logarithms in nats (Yin and Neubig 2022)."""
    return probabilities_of(step.logits, step.ids, logprob) - contrast_prob(step, logprob=logprob)


@step_function("pcxmi", contrastive=True)
def pcxmi(step: Step) -> Tensor:
    """Pointwise conditional cross-mutual information: ``-log2(p / p_contrast)``, in bits (Fernandes et al. 2021)."""
    return in_context_pvi(step) / math.log(2)


@step_function("in_context_pvi", contrastive=True)
def in_context_pvi(step: Step) -> Tensor:
    """Pointwise V-usable information: ``log p_contrast - log p``, in nats (Lu et al. 2023)."""
    return contrast_prob(step, logprob=True) - log_probabilities_of(step.logits, step.ids)


@step_function("kl_divergence", contrastive=True)
def kl_divergence(step: Step, *, top_k: int = 0, top_p: float = 1.0, min_tokens_to_keep: int = 1) -> Tensor:
    """The divergence KL(own || foil's context) between the two predictions, in nats.

    ``top_p`` (first) and ``top_k`` keep the likeliest tokens under the sum of the logits; both distributions are made
    to sum to one over these.
    """
    if not step.has_own_context:
        raise CallerError(
            "kl_divergence compares two contexts, but the target's foils are scored in its own: set "
            "contrast_force_inputs=True"
        )

    def divergence(foil: Foil) -> Tensor:
        if foil.share is not None:
            raise CallerError("kl_divergence compares token by token: leave contrast_start out")
        own, other = step.logits, foil.logits.expand_as(step.logits)
        kept = kept_of((own + other).detach(), top_p=top_p, top_k=top_k, least=min_tokens_to_keep)
        own, other = (_log_distribution(logits, kept) for logits in (own, other))
        terms = own.exp() * (own - other)
        return (terms if kept is None else terms * kept).sum(-1)

    return step.over_foils(divergence)


def _log_distribution(logits: Tensor, kept: Tensor | None) -> Tensor:
    """The logarithms of the distribution over the tokens that are kept; 0 for the others."""
    if kept is None:
        return logits.log_softmax(-1)
    # not left at minus infinity: infinite less infinite is no number, nor is its gradient
    return logits.masked_fill(~kept, float("-inf")).log_softmax(-1).masked_fill(~kept, 0.0)


STEP_FUNCTIONS = (
    *(contrast_logits, contrast_prob, contrast_logits_diff, contrast_prob_diff),
    *(pcxmi, in_context_pvi, kl_divergence),
)
