"""The greatest flow between two nodes of a network, by Dinic's algorithm."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Node = TypeVar("Node", bound=Hashable)

NOTHING = 1e-12
"""A capacity below this is none: capacities are shares, and this is rounding."""


class Network(Generic[Node]):
    """Directed edges with capacities. The flow of one question leaves no trace in the next."""

    def __init__(self) -> None:
        self._numbers: dict[Node, int] = {}
        self._edges: list[list[int]] = []
        """Of each node the numbers of its edges; the reverse of edge ``n`` is ``n ^ 1``."""
        self._ends: list[int] = []
        self._capacities: list[float] = []

    @property
    def n_edges(self) -> int:
        """Edges that carry something."""
        return len(self._ends) // 2

    def add(self, start: Node, end: Node, capacity: float) -> None:
        """An edge; one that carries nothing is left out."""
        one, other = self._number(start), self._number(end)
        if capacity <= NOTHING:
            return
        for here, there, size in ((one, other, capacity), (other, one, 0.0)):
            self._edges[here].append(len(self._ends))
            self._ends.append(there)
            self._capacities.append(size)

    def maximum(self, start: Node, end: Node) -> float:
        """The greatest flow from ``start`` to ``end``, which are two nodes."""
        source, sink = self._number(start), self._number(end)
        left, total = list(self._capacities), 0.0
        while (levels := self._levels(source, sink, left))[sink] >= 0:
            nexts = [0] * len(self._edges)
            while (found := self._push(source, sink, left, levels, nexts)) > 0:
                total += found
        return total

    def _number(self, node: Node) -> int:
        if node not in self._numbers:
            self._numbers[node] = len(self._edges)
            self._edges.append([])
        return self._numbers[node]

    def _levels(self, source: int, sink: int, left: list[float]) -> list[int]:
        """How many edges each node is from the source; -1: out of reach, or no nearer than the sink."""
        levels, front = [-1] * len(self._edges), [source]
        levels[source] = 0
        while front and levels[sink] < 0:
            following = []
            for node in front:
                for edge in self._edges[node]:
                    end = self._ends[edge]
                    if left[edge] > NOTHING and levels[end] < 0:
                        levels[end] = levels[node] + 1
                        following.append(end)
            front = following
        return levels

    def _push(self, source: int, sink: int, left: list[float], levels: list[int], nexts: list[int]) -> float:
        """What goes along one more way that leads a level up with each edge; 0: there is none."""
        way: list[int] = []
        node = source
        while node != sink:
            edges, at = self._edges[node], nexts[node]
            while at < len(edges):
                edge = edges[at]
                if left[edge] > NOTHING and levels[self._ends[edge]] == levels[node] + 1:
                    break
                at += 1
            nexts[node] = at
            if at < len(edges):
                way.append(edges[at])
                node = self._ends[edges[at]]
            elif way:
                # a dead end: the edge that led here is done with
                node = self._ends[way.pop() ^ 1]
                nexts[node] += 1
            else:
                return 0.0
        amount = min(left[edge] for edge in way)
        for edge in way:
            left[edge] -= amount
            left[edge ^ 1] += amount
        return amount
