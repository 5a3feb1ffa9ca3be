"""Texts of different lengths, several to a pass, in the order in which they were given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError

POSITIONS_AT_ONCE = 1024
"""Positions of a pass: each has its logits over the whole vocabulary."""


@dataclass(frozen=True)
class Pass:
    """Some texts, padded on the right."""

    numbers: tuple[int, ...]
    """Which of the texts they are."""
    ids: Tensor
    """``[batch pos]``"""
    lengths: tuple[int, ...]


def split(ids: Sequence[int], lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """The tokens of each text. Raises ``CallerError`` for lengths that are not those of the ids."""
    if not lengths or min(lengths) < 1 or sum(lengths) != len(ids):
        raise CallerError(f"lengths are {list(lengths)}, expected those of texts of {len(ids)} tokens in all")
    found, at = [], 0
    for length in lengths:
        found.append(tuple(ids[at : at + length]))
        at += length
    return found


def passes(texts: Sequence[Sequence[int]], device: torch.device) -> Iterator[Pass]:
    """The texts in passes, those of like lengths together."""
    waiting = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    while waiting:
        longest = len(texts[waiting[0]])
        taken = 1
        while taken < len(waiting) and (taken + 1) * len(texts[waiting[taken]]) <= POSITIONS_AT_ONCE:
            longest = len(texts[waiting[taken]])
            taken += 1
        now, waiting = waiting[:taken], waiting[taken:]
        rows = [[*texts[number], *[0] * (longest - len(texts[number]))] for number in now]
        lengths = tuple(len(texts[number]) for number in now)
        yield Pass(tuple(now), torch.tensor(rows, device=device), lengths)
