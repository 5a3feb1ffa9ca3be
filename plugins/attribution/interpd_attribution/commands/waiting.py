"""How far the rows of a dataset are, on a line of standard error that is written over."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from interpd_attribution.dataset.running import Counts

Show = Callable[[Counts], None]


@contextmanager
def progress_line(args: argparse.Namespace, n_rows: int) -> Iterator[Show | None]:
    """What shows counts while the block lasts; ``None`` where nobody looks, and for one row, which shows itself."""
    from interpd_client.progress import find_screen  # the client is not needed to declare commands

    screen = find_screen(False if args.json else None) if n_rows > 1 else None
    if screen is None:
        yield None
        return
    try:
        yield lambda counts: screen.draw(f"interpd: {told(counts)}")
    finally:
        screen.clear()


def told(counts: Counts) -> str:
    """``12 of 40 rows, 1 failed, 0:31 left``"""
    parts = [f"{counts.done} of {counts.total} rows"]
    parts += [f"{counts.failed} failed"] if counts.failed else []
    if counts.left_s is not None and counts.done < counts.total:
        minutes, seconds = divmod(round(counts.left_s), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    return ", ".join(parts)
