"""By how much an edit moves the vectors that logits are made of."""

from collections.abc import Callable

import torch
from torch import Tensor

from interpd_backpack.edits import ALL, Edit, Topic
from interpd_backpack.worker.edits.composing import TopicFactors, edited_senses
from interpd_backpack.worker.effects.seen import Seen, wide
from interpd_backpack.worker.lexicon import Lexicon

Weigh = Callable[[Tensor, Tensor], Tensor]
"""(weights ``[sense key]`` at the last position of a text, its tokens ``[key]``) -> the weights under an edit."""


def shift(seen: Seen, edit: Edit, lexicon: Lexicon, topic_factors: TopicFactors) -> Tensor:
    """``[item d_model]`` for an edit of senses: each token that it changes counts once, with all weight it has."""
    places = changed_places(seen.tokens, edit)
    ids = seen.tokens[places]
    if not len(ids):
        return torch.zeros_like(seen.before_head)
    # both in the dtype that a pass has them in, so that the difference is what a pass would see
    moved = wide(edited_senses(edit, ids, lexicon, topic_factors)) - wide(lexicon.senses(ids))
    return seen.scale * torch.einsum("mlu,uld->md", seen.mass[:, :, places], moved)


def weighed_shift(
    seen: Seen, edit: Edit, lexicon: Lexicon, topic_factors: TopicFactors, weigh: Weigh
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(``[item d_model]``, the weights of each item) for an edit that changes weights, too."""
    own, edited = wide(lexicon.senses(seen.tokens)), wide(edited_senses(edit, seen.tokens, lexicon, topic_factors))
    shifts, weights = [], []
    for ids, before in zip(seen.ids, seen.weights, strict=True):
        places, after = torch.searchsorted(seen.tokens, ids), weigh(before, ids)
        moved = torch.einsum("lj,jld->d", after, edited[places]) - torch.einsum("lj,jld->d", before, own[places])
        shifts.append(seen.scale * moved)
        weights.append(after)
    return torch.stack(shifts), tuple(weights)


def changed_places(tokens: Tensor, edit: Edit) -> Tensor:
    """Which of some tokens an edit may change, as places among them."""
    if any(isinstance(one, Topic) or getattr(one, "tokens", None) == ALL for one in edit.operations):
        return torch.arange(len(tokens), device=tokens.device)
    named = tokens.new_tensor([token.id for token in edit.tokens])
    return torch.isin(tokens, named).nonzero()[:, 0]


def is_of_senses(edit: Edit) -> bool:
    """Whether an edit changes senses alone: neither weights of positions, nor by the text so far, nor logits."""
    return all(_is_of_senses(one) for one in edit.operations)


def _is_of_senses(operation: object) -> bool:
    fades = getattr(operation, "anneal", False)
    of_positions = getattr(operation, "positions", None) is not None
    return not fades and not of_positions and getattr(operation, "negative_only", None) is None
