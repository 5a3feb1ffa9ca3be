"""The sum of senses by their weights, which is all that the predictions are made of."""

from typing import Any

from torch import Tensor, nn

from interpd_backpack.model.weighting import SenseMemory


class SenseMixing(nn.Module):
    """o: the weighted sum of the senses.

    Whatever the senses of a row need comes in as arguments here, behind the blocks of the transformer, so that rows
    that were moved between the blocks find theirs.

    Args:
        config: Of the Backpack.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.output_scale = OutputScale(config.sense_output_scale)

    def forward(
        self,
        hidden: Tensor,
        embeds: Tensor,
        token_ids: Tensor | None,
        attention_mask: Tensor | None,
        *,
        parts: Any,
        memory: SenseMemory,
    ) -> Tensor:
        """The mix ``[batch, pos, d_model]``.

        Args:
            hidden: Last states of the transformer, ``[batch, pos, d_model]``.
            embeds: Embeddings of the tokens, ``[batch, pos, d_model]``.
            token_ids: Whose embeddings they are, or were.
            attention_mask: Zero for padding, those before included.
            parts: Has ``sense_weight_net``, ``sense_network`` and ``sense_table``.
            memory: Keys and senses of the positions before.
        """
        weights = parts.sense_weight_net(hidden, attention_mask, memory)
        memory.weights = weights
        known = parts.sense_table.known(embeds, token_ids)
        return self.output_scale(mixed_senses(weights, memory.senses(parts.sense_network(embeds, known))))


class OutputScale(nn.Module):
    """The factor of the sum of senses; a module, so that methods can ask for it.

    Args:
        factor: 1 as published, 1/k in other checkpoints.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, mixed: Tensor) -> Tensor:
        """``factor * mixed``."""
        return mixed if self.factor == 1.0 else mixed * self.factor


def mixed_senses(weights: Tensor, senses: Tensor) -> Tensor:
    """``sum_lj weights[b,l,i,j] senses[b,l,j]``, ``[batch, pos, d_model]``.

    Args:
        weights: ``[batch, sense, query, key]``.
        senses: ``[batch, sense, key, d_model]``.
    """
    if weights.shape[2] == 1:
        return (weights @ senses).sum(1)
    # one product over all senses and positions, in the order in which the senses lie in memory
    if senses.is_contiguous():
        return weights.transpose(1, 2).flatten(2) @ senses.flatten(1, 2)
    return weights.permute(0, 2, 3, 1).flatten(2) @ senses.transpose(1, 2).flatten(1, 2)
