"""Contrastive targets for the methods that expand a batch (integrated gradients and the like).

Inseq refuses its own there: it compares the contrast's batch to the expanded one. These step functions, registered
with it, take the foil's token by the length of the prefix; context and forward pass are the original's, as in Inseq's
own when inputs are not forced. What is attributed is Inseq's and Captum's work all the same.
"""

from collections.abc import Mapping

import inseq
import torch
from inseq.attr.step_functions import StepFunctionArgs
from torch import Tensor

PREFIX = "expanded_"


def _logits(args: StepFunctionArgs, foils: Mapping[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    logits = args.attribution_model.output2logits(args.forward_output)
    wanted = args.target_ids.reshape(logits.shape[0], 1)
    return logits, wanted, torch.full_like(wanted, foils[args.decoder_input_ids.shape[1]])


def contrast_logits_diff(args: StepFunctionArgs, foils: Mapping[int, int]) -> Tensor:
    """The token's logit less the foil's."""
    logits, wanted, foil = _logits(args, foils)
    return (logits.gather(-1, wanted) - logits.gather(-1, foil)).squeeze(-1)


def contrast_prob_diff(args: StepFunctionArgs, foils: Mapping[int, int]) -> Tensor:
    """The token's probability less the foil's."""
    logits, wanted, foil = _logits(args, foils)
    probabilities = logits.softmax(-1)
    return (probabilities.gather(-1, wanted) - probabilities.gather(-1, foil)).squeeze(-1)


FUNCTIONS = {"contrast_logits_diff": contrast_logits_diff, "contrast_prob_diff": contrast_prob_diff}

for name, function in FUNCTIONS.items():
    inseq.register_step_function(function, PREFIX + name)
