"""Gradients of many columns from one pass: the graph is recorded once, and gone back through for each column.

The columns of a chunk go back together (``is_grads_batched``), or one after the other where torch has no rule for that
(some attention kernels on a GPU). They do not begin at the scores: the logits of a position are made of the last stream
at that position alone, so that one way back from all scores gives the gradients there for all columns at once, and the
unembedding, the widest layer of all, is gone through once and not once per column.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_attribution.worker.memory import chunks
from interpd_attribution.worker.problem import Points, Problem, Scored


@dataclass(frozen=True)
class Gradients:
    """Gradients of some columns at some rows."""

    rows: slice
    columns: slice
    """Among those that were asked for."""
    by: tuple[Tensor, ...]
    """By each input, ``[column row ...]``."""


def gradients(problem: Problem, at: Points, columns: slice) -> Iterator[Gradients]:
    """Gradients of the target by the attributed positions' vectors at all points, chunk by chunk.

    Args:
        problem: What is attributed.
        at: Where.
        columns: Which columns.
    """
    for rows in chunks(at.n, problem.rows_per_pass(grad=True)):
        vectors = at.at(rows).detach().requires_grad_()
        scored = problem.scored(vectors, grad=True)
        yield from columnwise(problem, scored, (vectors,), rows, columns)
        # what is recorded goes before the next pass is
        del scored


def columnwise(
    problem: Problem, scored: Scored, inputs: Sequence[Tensor], rows: slice, columns: slice
) -> Iterator[Gradients]:
    """Gradients of recorded scores by ``inputs``, column chunk by column chunk."""
    if not scored.columns.requires_grad:
        raise CallerError(f"target {problem.target.text!r} has no gradient: take a method that needs none")
    n_rows, n_columns = len(scored.columns), columns.stop - columns.start
    way = _way_back(scored)
    parts = list(chunks(n_columns, problem.columns_per_gradient(n_rows)))
    for part in parts:
        chosen = slice(columns.start + part.start, columns.start + part.stop)
        by = way(inputs, chosen, part is not parts[-1])
        problem.worked((part.stop - part.start) * n_rows)
        yield Gradients(rows, part, by)


WayBack = Callable[[Sequence[Tensor], slice, bool], tuple[Tensor, ...]]
"""Gradients of some columns by inputs; whether the graph is needed again."""


def _way_back(scored: Scored) -> WayBack:
    if not scored.ends:
        return lambda inputs, columns, again: _from_scores(scored.columns, inputs, columns, again)
    values = [end.value for end in scored.ends]
    # the graph between the ends and the scores is not needed again, but what it shares with that before them is
    heads = torch.autograd.grad(scored.columns.sum(), values, retain_graph=True)

    def back(inputs: Sequence[Tensor], columns: slice, again: bool) -> tuple[Tensor, ...]:
        cotangents = [
            head * end.shares[columns, None, :, None].to(head) for head, end in zip(heads, scored.ends, strict=True)
        ]
        return vjp(values, inputs, cotangents, again)

    return back


def _from_scores(scores: Tensor, inputs: Sequence[Tensor], columns: slice, again: bool) -> tuple[Tensor, ...]:
    chosen = torch.eye(scores.shape[1], device=scores.device, dtype=scores.dtype)[columns]
    return vjp([scores], inputs, [chosen[:, None].expand(-1, len(scores), -1)], again)


def vjp(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Tensor], again: bool
) -> tuple[Tensor, ...]:
    """Products of vectors with the Jacobian of ``outputs`` by ``inputs``.

    Args:
        outputs: Values of the graph.
        inputs: What gradients are taken by.
        cotangents: For each output ``[n ...]``, n vectors of its shape.
        again: Keep the graph.

    Returns:
        For each input ``[n ...]``; zeros where an output does not depend on it.
    """
    if len(cotangents[0]) > 1:
        try:
            found = torch.autograd.grad(
                outputs, inputs, cotangents, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
            return _zeros_for_none(found, inputs, len(cotangents[0]))
        except RuntimeError as error:
            # an operation that cannot take several vectors at once: one at a time, then
            if not any(words in str(error).lower() for words in ("batching rule", "vmap")):
                raise
    rows = []
    for n in range(len(cotangents[0])):
        one = [vectors[n] for vectors in cotangents]
        keep = again or n + 1 < len(cotangents[0])
        rows.append(torch.autograd.grad(outputs, inputs, one, retain_graph=keep, allow_unused=True))
    stacked = [None if parts[0] is None else torch.stack(parts) for parts in zip(*rows, strict=True)]
    return _zeros_for_none(stacked, inputs, len(cotangents[0]))


def _zeros_for_none(found: Sequence[Tensor | None], inputs: Sequence[Tensor], n: int) -> tuple[Tensor, ...]:
    pairs = zip(found, inputs, strict=True)
    return tuple(one.new_zeros(n, *one.shape) if part is None else part for part, one in pairs)


def weighted(problem: Problem, at: Points, columns: slice, weights: Callable[[slice], Tensor]) -> Tensor:
    """The sum of the gradients at points, each with its weight: ``[column position d_model]`` in float32.

    Args:
        problem: What is attributed.
        at: Where gradients are taken.
        columns: Which columns.
        weights: Of some points: ``[row]``, or ``[row position d_model]``.
    """
    total = None
    for found in gradients(problem, at, columns):
        (by,) = found.by
        weight = weights(found.rows).to(by)
        part = torch.einsum("r,crpd->cpd" if weight.ndim == 1 else "rpd,crpd->cpd", weight, by)
        if total is None:
            total = part.new_zeros(columns.stop - columns.start, *part.shape[1:])
        total[found.columns] += part
    assert total is not None
    return total
