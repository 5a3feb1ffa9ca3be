"""``backpack.surprisals``: -log p of every token of some texts."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from interpd.sdk import CallerError, MethodContext, Session, method

MIX, HEAD = "sense_mix", "lm_head"
"""Where the unembedding begins in a Backpack: logits are made of it piece by piece."""

POSITIONS = 4096
"""Positions of one pass, padding included, where logits are made piece by piece."""

LOGITS = 1 << 24
"""Logits that are held at once: 64 MiB in float32, 128 MiB in float64."""


@method("backpack.surprisals", version=1)
def surprisals(
    ctx: MethodContext, ids: Int64[Tensor, "row pos"], *, lengths: tuple[int, ...]
) -> Float64[Tensor, "row pos"]:
    """-log p of each token given those before it, in nats; 0 at first tokens and behind the end of a row.

    Any causal language model is taken, not Backpacks alone. The writes of the graph are in force, so that the same
    node under an edit measures the edited model. Rows are passed together, longest first, and never influence one
    another; probabilities are normalised in float64 over all logits of the model, padding of the vocabulary included,
    as in the published evaluations.

    Args:
        lengths: Tokens of each row; what is behind is padding.
    """
    _check(ctx.session, ids, lengths)
    found = torch.zeros(ids.shape, dtype=torch.float64)
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    done = 0
    while done < len(order):
        rows = order[done : done + _rows_of_pass(ctx.session, lengths[order[done]])]
        longest = lengths[rows[0]]
        if longest > 1:
            part = ids[rows, :longest].to(ctx.session.device)
            found[rows, 1:longest] = _measured(ctx.session, part, [lengths[row] for row in rows]).cpu()
        done += len(rows)
        ctx.progress(done, len(order), "texts")
    behind = torch.arange(ids.shape[1])[None] >= torch.tensor(lengths)[:, None]
    return found.masked_fill(behind, 0.0).to(ctx.session.device)


def _check(session: Session, ids: Tensor, lengths: tuple[int, ...]) -> None:
    if len(lengths) != len(ids):
        raise CallerError(f"there are {len(ids)} rows and {len(lengths)} lengths")
    if not all(1 <= length <= ids.shape[1] for length in lengths):
        raise CallerError(f"lengths are {min(lengths)} to {max(lengths)}, expected 1 to {ids.shape[1]}")
    most = session.info.max_positions
    if most and max(lengths, default=0) > most:
        raise CallerError(
            f"a row has {max(lengths)} tokens, the model takes {most}; cut the text into windows of so many"
        )


def _site(session: Session) -> str:
    """Where to read: the mix, unless the graph writes behind it."""
    is_behind = any(name == "logits" or name.startswith(HEAD) for name in session.written)
    return MIX if MIX in session.sites and not is_behind else "logits"


def _rows_of_pass(session: Session, longest: int) -> int:
    if _site(session) == MIX:
        return max(1, POSITIONS // longest)
    return max(1, min(POSITIONS, LOGITS // session.info.sizes.get("d_vocab", 1)) // longest)


def _measured(session: Session, ids: Tensor, lengths: list[int]) -> Tensor:
    """``[row pos]`` for all tokens but the first."""
    site = _site(session)
    values = session.forward(ids, reads=[site], lengths=lengths)[site][:, :-1]
    targets, flat = ids[:, 1:].reshape(-1), values.reshape(-1, values.shape[-1])
    if site == "logits":
        return _surprisal(flat, targets).view(ids.shape[0], -1)
    size = max(1, LOGITS // session.info.sizes.get("d_vocab", 1))
    parts = [
        _surprisal(session.call(HEAD, flat[at : at + size]), targets[at : at + size])
        for at in range(0, len(flat), size)
    ]
    return torch.cat(parts).view(ids.shape[0], -1)


def _surprisal(logits: Tensor, targets: Tensor) -> Tensor:
    chosen = logits.gather(-1, targets[:, None])[:, 0].double()
    # in float32, a sum over 50,000 tokens would cost the last digits that small edits are seen in
    return torch.logsumexp(logits.double(), -1) - chosen
