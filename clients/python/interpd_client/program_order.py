"""A warning where the order of the program suggests what the forward pass does not do."""

import warnings

from interpd.graph.ir import Graph
from interpd.graph.late_writes import described, late_writes
from interpd.graph.schema import Manifest
from interpd_client.places import Places


class ProgramOrder(UserWarning):
    """A write changes a value that the program read before it.

    The order of the program counts at one and the same site only; between two sites the forward pass decides.
    """


def warn_of_late_writes(graph: Graph, manifest: Manifest, places: Places) -> None:
    """Warns at the user's line of each write that changes a returned value which was read above it."""
    for pair in late_writes(graph, manifest):
        read, write = places.nodes[pair.read], places.nodes[pair.write]
        message = f"{described(pair, graph)} (read at {read.shown})"
        warnings.warn_explicit(ProgramOrder(message), None, write.file, write.line)
