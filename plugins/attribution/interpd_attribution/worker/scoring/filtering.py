"""Which tokens of a vocabulary count: the likeliest ones, by their number or by the probability that they share."""

from torch import Tensor

from interpd.sdk import CallerError


def nucleus(logits: Tensor, top_p: float, least: int) -> Tensor:
    """Whether each token is among the likeliest that have at least ``top_p`` of the probability: ``[... d_vocab]``.

    ``least`` are kept in any case. What is cut off at the other end has at most ``1 - top_p`` together.
    """
    if not 0 <= top_p <= 1:
        raise CallerError(f"top_p is {top_p}, expected 0 to 1")
    order = logits.argsort(dim=-1)
    tail = logits.softmax(-1).gather(-1, order).cumsum(-1)
    kept = tail > 1 - top_p
    kept[..., -_checked(logits, least) :] = True
    return kept.new_zeros(kept.shape).scatter(-1, order, kept)


def likeliest(logits: Tensor, top_k: int) -> Tensor:
    """Whether each token is among the ``top_k`` likeliest; ties are all in."""
    return logits >= logits.topk(_checked(logits, top_k), dim=-1).values[..., -1:]


def kept_of(logits: Tensor, *, top_p: float, top_k: int, least: int) -> Tensor | None:
    """Which tokens both filters keep, ``top_p`` first; ``None``: all."""
    if top_k < 0 or least < 1:
        raise CallerError(
            f"top_k is {top_k}, expected 0 (all) or more; min_tokens_to_keep is {least}, expected 1 or more"
        )
    kept = None
    if top_p != 1.0:
        kept = nucleus(logits, top_p, least)
        logits = logits.masked_fill(~kept, float("-inf"))
    if top_k:
        best = likeliest(logits, max(top_k, least))
        kept = best if kept is None else kept & best
    return kept


def _checked(logits: Tensor, count: int) -> int:
    if not 1 <= count <= logits.shape[-1]:
        raise CallerError(f"{count} tokens to keep, expected 1 to {logits.shape[-1]}")
    return count
