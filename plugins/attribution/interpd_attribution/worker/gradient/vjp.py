"""Gradients of many columns from one pass: the graph is recorded once, and gone back through for each column.

The columns of a chunk go back together (``is_grads_batched``), or one after the other where torch has no rule for that
(some attention kernels on a GPU). They do not begin at the scores: the logits of a position are made of the last stream
at that position alone, so that one way back from all scores gives the gradients there for all columns at once, and the
unembedding, the widest layer of all, is gone through once and not once per column.

A pass that would record too much is recorded in parts, block by block (``Problem.cuts``, bounds in ``memory.py``).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import Begin, CallerError
from interpd_attribution.worker.memory import chunks, give_back
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
    if cuts := problem.cuts(columns.stop - columns.start):
        for rows in chunks(at.n, problem.request.rows_per_pass or 1):
            by, _ = in_parts(problem, at.at(rows), (), columns, cuts)
            yield Gradients(rows, slice(0, columns.stop - columns.start), (by,))
        return
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
    n_rows = len(scored.columns)
    for part, by in _along(problem, _way_back(problem, scored), inputs, columns):
        problem.worked((part.stop - part.start) * n_rows)
        yield Gradients(rows, part, by)


def _along(
    problem: Problem, way: "WayBack", inputs: Sequence[Tensor], columns: slice
) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
    """Column chunk by column chunk, which of ``columns`` these are and their gradients."""
    parts = list(chunks(columns.stop - columns.start, problem.columns_per_gradient(len(inputs[0]))))
    for part in parts:
        chosen = slice(columns.start + part.start, columns.start + part.stop)
        yield part, way(inputs, chosen, part is not parts[-1])


def in_parts(
    problem: Problem, vectors: Tensor, sites: Sequence[str], columns: slice, cuts: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients through a pass that is recorded in parts, the last one first; each is dropped before the next.

    Args:
        problem: What is attributed.
        vectors: Of the attributed positions, ``[row position d_model]``.
        sites: By which gradients are wanted as well.
        columns: Which columns.
        cuts: Where the pass is cut.

    Returns:
        The gradients by the vectors, and those by each site: ``[column row ...]``.
    """
    n_rows, order = len(vectors), [problem.session.sites[cut].order for cut in cuts]
    streams = problem.model.run(problem.context, n_rows, problem.put(vectors), reads=cuts)
    by_site: dict[str, Tensor] = {}
    by: Tensor | None = None
    for number in reversed(range(len(cuts) + 1)):
        give_back(problem.session.device)
        leaf = (streams.pop(cuts[number - 1]) if number else vectors).detach().requires_grad_()
        edits = {cuts[number - 1]: Begin(leaf)} if number else problem.put(leaf)
        own = [site for site in sites if bisect_left(order, problem.session.sites[site].order) == number]
        if by is None:
            scored = problem.scored(edits=edits, reads=own, n_rows=n_rows, grad=True)
            way, values = _way_back(problem, scored), scored.values
            del scored
        else:
            values = problem.model.run(problem.context, n_rows, edits, reads=[*own, cuts[number]], grad=True)
            way = _from_stream(values[cuts[number]], by)
        by, *others = _collected(problem, way, [leaf, *(values[site] for site in own)], columns, by)
        # of this part nothing is left when the next one is recorded
        del way, values, leaf, edits
        by_site |= zip(own, others, strict=True)
    assert by is not None
    problem.worked((columns.stop - columns.start) * n_rows)
    return by, by_site


def _from_stream(stream: Tensor, cotangents: Tensor) -> "WayBack":
    first = None

    def back(inputs: Sequence[Tensor], columns: slice, again: bool) -> tuple[Tensor, ...]:
        nonlocal first
        first = columns.start if first is None else first
        return vjp([stream], inputs, [cotangents[columns.start - first : columns.stop - first]], again)

    return back


def _collected(
    problem: Problem, way: "WayBack", inputs: Sequence[Tensor], columns: slice, used: Tensor | None
) -> list[Tensor]:
    """The gradients of all columns, ``[column row ...]``; the first ones in the place of ``used``, where they fit."""
    shapes = [(columns.stop - columns.start, *one.shape) for one in inputs]
    fits = used is not None and (used.shape, used.dtype) == (shapes[0], inputs[0].dtype)
    found = [one.new_empty(shape) for one, shape in zip(inputs[fits:], shapes[fits:], strict=True)]
    found = [used, *found] if used is not None and fits else found
    for part, by in _along(problem, way, inputs, columns):
        # the one in the place of ``used`` last: the gradient by the stream itself is a part of that
        for table, one in reversed(list(zip(found, by, strict=True))):
            table[part] = one
        del by, one
        give_back(problem.session.device)
        problem.ctx.raise_if_cancelled()
    return found


WayBack = Callable[[Sequence[Tensor], slice, bool], tuple[Tensor, ...]]
"""Gradients of some columns by inputs; whether the graph is needed again."""


def _way_back(problem: Problem, scored: Scored) -> WayBack:
    if not scored.columns.requires_grad:
        raise CallerError(f"target {problem.target.text!r} has no gradient: take a method that needs none")
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
