"""Which replica of a model gets the next run."""

from collections.abc import Mapping, Sequence

from interpd.worker.link import WorkerLink


def least_loaded(links: Sequence[WorkerLink], n_held: Mapping[str, int], limit: int) -> WorkerLink | None:
    """The link (by ``name`` in ``n_held``) that holds the fewest runs; ``None`` when all hold ``limit`` or more."""
    free = [link for link in links if n_held.get(link.name, 0) < limit]
    return min(free, key=lambda link: n_held.get(link.name, 0), default=None)
