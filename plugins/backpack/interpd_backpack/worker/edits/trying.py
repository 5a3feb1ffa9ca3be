"""``backpack.dry_run``: which words each sense speaks more for and against under an edit."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.worker.edits.artifacts import SenseEdit
from interpd_backpack.worker.edits.compiling import Topics, check_base
from interpd_backpack.worker.edits.composing import edited_senses, wide
from interpd_backpack.worker.lexicon import Lexicon
from interpd_backpack.worker.topics.scoring import SensePeaks

CHUNK = 256
"""Senses whose logits are computed at a time."""


@dataclass(frozen=True)
class Moved:
    """The senses that an edit changes, by token and sense; a token is here once for each sense of it."""

    token_ids: Int64[Tensor, " token"]
    senses: Int64[Tensor, " token"]
    norms: Float32[Tensor, " token"]
    """Of the sense vectors before."""
    changes: Float32[Tensor, " token"]
    """Norms of what is added to them."""
    more_ids: Int64[Tensor, "token k"]
    """The tokens whose logits rise most, at weight 1."""
    more: Float32[Tensor, "token k"]
    """By how much."""
    less_ids: Int64[Tensor, "token k"]
    """The tokens whose logits fall most."""
    less: Float32[Tensor, "token k"]


@method("backpack.dry_run")
def dry_run(
    ctx: MethodContext, *, edit: SenseEdit, tokens: tuple[int, ...] = (), k: int = 5, peaks: SensePeaks | None = None
) -> Moved:
    """What an edit does to the words that senses speak for and against, without a text.

    Args:
        edit: For this model.
        tokens: Whose senses are looked at; none: those that the edit names as changed.
        k: Words at each end.
        peaks: What ``backpack.peaks`` kept, for edits with topics.

    Raises:
        CallerError: The edit is of another model or damaged, or names no token and none was given.
    """
    meant, lexicon = edit.edit(), Lexicon(ctx)
    check_base(ctx, meant)
    if not 1 <= k <= lexicon.n_tokens:
        raise CallerError(f"k is {k}, expected 1 to {lexicon.n_tokens}")
    ids = sorted({*tokens} or {token.id for token in meant.tokens})
    if not ids:
        raise CallerError(f"the edit {meant.name!r} names no token that it changes: say which tokens to look at")
    if beyond := [id_ for id_ in ids if not 0 <= id_ < lexicon.n_tokens]:
        raise CallerError(f"token {beyond[0]} is not in the vocabulary of {lexicon.n_tokens} tokens")
    # in the dtype in which the model has them, so that what does not move there does not move here
    before = lexicon.senses(ids)
    change = wide(edited_senses(meant, ids, lexicon, Topics(ctx, peaks))) - wide(before)
    place, sense = change.any(-1).nonzero(as_tuple=True)
    more, less = _ends(ctx, lexicon, change[place, sense], k)
    return Moved(
        torch.tensor(ids, device=lexicon.device)[place],
        sense,
        wide(before)[place, sense].norm(dim=-1).float(),
        change[place, sense].norm(dim=-1).float(),
        more.indices,
        more.values.float(),
        less.indices,
        less.values.float(),
    )


def _ends(ctx: MethodContext, lexicon: Lexicon, changes: Tensor, k: int) -> tuple[torch.return_types.topk, ...]:
    """The k largest and the k smallest logits of vectors, padding rows of the vocabulary left out."""
    rows = wide(lexicon.unembedding)[: lexicon.n_tokens]
    found: list[list[torch.return_types.topk]] = [[], []]
    for part in changes.split(CHUNK) if len(changes) else (changes,):
        logits = part @ rows.T
        for end, largest in zip(found, (True, False), strict=True):
            end.append(logits.topk(k, dim=-1, largest=largest))
        ctx.raise_if_cancelled()
    return tuple(
        torch.return_types.topk((torch.cat([one.values for one in end]), torch.cat([one.indices for one in end])))
        for end in found
    )
