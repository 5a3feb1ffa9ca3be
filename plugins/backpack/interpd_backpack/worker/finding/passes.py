"""Forward passes over many token sequences, a few rows at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from interpd.sdk import CallerError, MethodContext
from interpd_backpack.worker.lexicon import HEAD, SENSES, WEIGHTS

MIX = f"{HEAD}.input"
"""The site of o, which the logits are made of: the sum of senses, and what a model beside them adds to it."""
PAIRS = 1 << 21
"""Pairs of positions of one pass, padding included: what sense weights are made for."""


class Seen(NamedTuple):
    """What a pass gave for one sequence, padding cut off."""

    number: int
    """Which sequence."""
    values: Mapping[str, Tensor]
    """Sites by name, ``[pos ...]``, ``[sense pos ...]`` or ``[sense query key]``."""


def passes(ctx: MethodContext, sequences: Sequence[Tensor], reads: Sequence[str], what: str) -> Iterator[Seen]:
    """The values of sites for each sequence, the longest first; says how far it is.

    Args:
        ctx: Of the method.
        sequences: Token ids, each ``[pos]``.
        reads: Sites of a Backpack: those whose second axis is the sense, and those that begin with batch and pos.
        what: What the sequences are, for whoever watches.

    Raises:
        CallerError: A sequence that is empty or longer than the model's positions.
    """
    most = ctx.session.info.max_positions
    order = sorted(range(len(sequences)), key=lambda number: -len(sequences[number]))
    if order and not len(sequences[order[-1]]):
        raise CallerError(f"{what} {order[-1]} has no tokens")
    if order and most and len(sequences[order[0]]) > most:
        raise CallerError(f"{what} {order[0]} has {len(sequences[order[0]])} tokens, the model takes {most}")
    done = 0
    while done < len(order):
        longest = len(sequences[order[done]])
        rows = order[done : done + max(1, PAIRS // longest**2)]
        lengths = [len(sequences[row]) for row in rows]
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : lengths[place]] = sequences[row]
        values = ctx.session.forward(ids.to(ctx.session.device), reads=reads, lengths=lengths)
        for place, row in enumerate(rows):
            yield Seen(row, {name: _cut(name, values[name][place], lengths[place]) for name in reads})
        done += len(rows)
        ctx.progress(done, len(order), what)


def _cut(name: str, value: Tensor, length: int) -> Tensor:
    if name == WEIGHTS:
        return value[:, :length, :length]
    return value[:, :length] if name == SENSES else value[:length]


def check_in_front(ctx: MethodContext) -> None:
    """Raises ``CallerError`` where the graph writes behind the senses, so that logits are no sum over them."""
    late = [name for name in ctx.session.written if name in ("sense_mix", "logits") or name.startswith(HEAD)]
    if late:
        raise CallerError(
            f"the trace writes at {', '.join(map(repr, late))}, behind the senses (an edit with negative_only does), "
            "where what senses add to a prediction is no sum over them: leave that write out"
        )
