"""What is minimised: the mean negative log-likelihood of the next token."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from interpd_backpack.model import BackpackForCausalLM

IGNORED = -100
"""Label of padding."""


def next_token_loss(model: PreTrainedModel, ids: Tensor, labels: Tensor | None = None) -> Tensor:
    """The mean over the tokens, a number with its graph.

    Args:
        model: A Backpack or any other causal language model.
        ids: ``[batch, pos]``, padded on the right.
        labels: The same, with -100 where nothing is to be learned; ``ids`` themselves when left out.
    """
    logits = next_token_logits(model, ids[:, :-1])
    wanted = (ids if labels is None else labels)[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)


def next_token_logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Logits ``[batch, pos, d_vocab]``, equal to the model's own.

    Of a Backpack, the senses are computed once for each token that occurs in the batch, not once for each occurrence:
    the sense network is most of its weights, and a batch repeats its tokens many times.

    Args:
        model: A Backpack or any other causal language model, without dropout: positions share their senses.
        ids: ``[batch, pos]``, right-padded if at all.
    """
    if not isinstance(model, BackpackForCausalLM):
        return model(input_ids=ids, use_cache=False).logits
    parts: Any = model.backpack
    used, place = ids.unique(return_inverse=True)
    weights = parts.sense_weight_net(parts.gpt2_model(input_ids=ids, use_cache=False).last_hidden_state)
    senses = parts.sense_network(parts.embeddings()(used)[None])[0].transpose(0, 1)
    told = F.embedding(place, senses.flatten(1)).unflatten(-1, senses.shape[1:])
    mixed = weights.permute(0, 2, 3, 1).flatten(2) @ told.flatten(1, 2)
    return model.lm_head(mixed * model.config.sense_output_scale)
