"""The data of a sense finetuning, as it comes to the worker: flat token ids, and a table of items."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interpd.sdk import CallerError
from interpd_backpack.finding.settings import BACKGROUND, HARD_NEGATIVES, HELD_OUT, TRAIN, Settings
from interpd_backpack.worker.finding.cached import Predicted


@dataclass(frozen=True)
class Item:
    """An example, or a text."""

    use: int
    """What it is for: ``settings.TRAIN``, ..."""
    parts: tuple[Predicted, ...]
    """The first suffix behind its prefix, and the second where there is one."""


def items_of(ids: Tensor, table: Tensor, settings: Settings) -> list[Item]:
    """The items of ``table`` ``[item 4]``: use, tokens of the prefix, of the first suffix, of the second one.

    Raises:
        CallerError: Lengths that do not fit, or items that the loss cannot use.
    """
    if table.shape[1:] != (4,) or int(table[:, 1:].sum()) != len(ids) or bool((table < 0).any()):
        raise CallerError(f"the table of items is {list(table.shape)} and does not divide {len(ids)} ids")
    found, at = [], 0
    ids = ids.cpu()
    for number, (use, *lengths) in enumerate(table.tolist()):
        prefix, first, second = ids[at : at + sum(lengths)].split(lengths)
        at += sum(lengths)
        if not (len(prefix) and len(first)):
            raise CallerError(
                f"item {number} has {lengths[0]} and {lengths[1]} tokens: both its parts need one at least"
            )
        if use not in range(TRAIN, HARD_NEGATIVES + 1):
            raise CallerError(f"item {number} is for {use}, expected {TRAIN} to {HARD_NEGATIVES}")
        is_text = use in (BACKGROUND, HELD_OUT, HARD_NEGATIVES)
        if bool(len(second)) != (settings.is_pair and not is_text):
            wanted = "two suffixes" if settings.is_pair and not is_text else "one suffix"
            raise CallerError(f"item {number} does not fit the loss {settings.loss!r}: expected {wanted}")
        ends = (first, second) if len(second) else (first,)
        found.append(Item(use, tuple(Predicted(torch.cat([prefix, end]), len(prefix)) for end in ends)))
    for use, name in ((TRAIN, "example"), (BACKGROUND, "text of the background")):
        if not any(one.use == use for one in found):
            raise CallerError(f"there is no {name}")
    return found
