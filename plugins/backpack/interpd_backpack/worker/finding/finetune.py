"""``backpack.finetune``: vectors added to a few senses, so that a model does what examples show."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interpd.graph.names import artifact_name_problem
from interpd.sdk import CallerError, MethodContext, method
from interpd_backpack.finding.settings import BACKGROUND, TRAIN, Settings
from interpd_backpack.worker.finding.ball import Ball
from interpd_backpack.worker.finding.caching import Caching
from interpd_backpack.worker.finding.checkpoint import Checkpoint, digest_of, packed, unpacked
from interpd_backpack.worker.finding.items import items_of
from interpd_backpack.worker.finding.training import Training


@dataclass(frozen=True)
class Finetuned:
    """Vectors for pairs of a token and a sense, and what they do."""

    tokens: Int64[Tensor, " pair"]
    senses: Int64[Tensor, " pair"]
    scores: Float64[Tensor, " pair"]
    """What the selector gave each pair, less the background's part: the greatest over examples."""
    delta: Float64[Tensor, "pair d_model"]
    """What is added."""
    history: Float64[Tensor, "_ _"]
    """``[epoch 4]``, the beginning included: mean loss of the examples, mean KL of the steps, ratio of NLLs, rate."""
    chosen: Float64[Tensor, " 3"]
    """The epoch that was taken, the share of its vectors, the ratio of NLLs with it."""
    before: Float64[Tensor, "item 2"]
    """log p of the first and the second suffix of each item, summed over tokens; 0 where there is no second."""
    after: Float64[Tensor, "item 2"]


@method("backpack.finetune", version=1, paper="arXiv:2402.06155")
def finetune(
    ctx: MethodContext,
    ids: Int64[Tensor, " token"],
    items: Int64[Tensor, "item _"],
    *,
    settings: str,
    checkpoint: str = "",
    resume: Checkpoint | None = None,
) -> Finetuned:
    """Sense finetuning: vectors added to selected (token, sense) pairs, everything else as it is.

    All passes of the transformer are at the beginning. The prediction at each position is then a closed form of what
    is added, and so are the gradients. The outcome is inside the degradation ball: the NLL of the held-out texts (of
    the background where there are none) grows by ``radius`` at the most. After each epoch the table ``history`` so far
    is told. What the graph writes is in force.

    Args:
        ids: Token ids of all items, one behind the other.
        items: ``[item 4]``: what it is for (0 example, 1 background, 2 held out, 3 evaluation, 4 hard negative), and
            the numbers of tokens of its prefix, its first suffix and its second one. A text is a prefix of one token
            and a suffix.
        settings: JSON of ``interpd_backpack.finding.settings.Settings``.
        checkpoint: Under this name an artifact is kept after each epoch; empty: none.
        resume: Such an artifact, of the same settings, items and model: training goes on where it stood, and ends
            with the same bits when the same device runs the same passes.
    """
    asked = Settings.from_json(settings)
    if checkpoint and (problem := artifact_name_problem(checkpoint)):
        raise CallerError(f"checkpoint: {problem}")
    caching = Caching(ctx, items_of(ids, items, asked), asked)
    digest = digest_of(asked.to_json(), ids, items, ctx.session.info.revision)
    pairs, state = (caching.selected(), None) if resume is None else unpacked(resume, digest)
    cache = caching.cache(pairs)
    ball = Ball(cache.held_out(), caching.unembedding, ctx.raise_if_cancelled)
    training = Training(
        asked,
        cache.of(TRAIN),
        [one.rows for one in cache.of(BACKGROUND)],
        ball,
        unembedding=caching.unembedding,
        breathe=ctx.raise_if_cancelled,
    )
    state = training.begin() if state is None else state
    while state.n_epochs < asked.n_epochs:
        state = training.epoch(state)
        if checkpoint:
            ctx.save_artifact(checkpoint, packed(pairs, state, digest))
        loss, _, ratio, _ = state.history[-1]
        ctx.partial("history", torch.tensor(state.history, dtype=torch.float64))
        ctx.progress(state.n_epochs, asked.n_epochs, f"epoch {state.n_epochs}: loss {loss:.4g}, NLL x {ratio:.6f}")
    outcome = training.outcome(state)
    return Finetuned(
        pairs.tokens,
        pairs.senses,
        pairs.scores,
        outcome.delta.double(),
        torch.tensor(state.history, dtype=torch.float64, device=ids.device),
        torch.tensor([outcome.epoch, outcome.share, outcome.ratio], dtype=torch.float64, device=ids.device),
        caching.outcomes(cache, torch.zeros_like(outcome.delta)),
        caching.outcomes(cache, outcome.delta),
    )
