"""Writes that stand later in the list than a read which they change all the same.

A pass runs forward, so the list orders reads and writes at one and the same site only; between two sites the forward
pass decides. ``[read logits, write layers.2]`` returns the logits with the write in force: allowed, but seldom meant
by whoever put the read first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interpd.graph.ir import Graph, Ref, Steps, distinct_references, node_name
from interpd.graph.order import READ, WRITE
from interpd.graph.schema import Manifest

MOST_SPANS = 64
"""Different spans of steps looked at per prompt, so that a hostile list costs no more than its length."""


@dataclass(frozen=True, slots=True)
class LateWrite:
    """A pair of nodes by their places in the list."""

    read: int
    write: int


def late_writes(graph: Graph, manifest: Manifest, refs: Sequence[tuple[Ref, ...]] | None = None) -> Iterator[LateWrite]:
    """For each write the deepest read that stands before it, lies behind it in the pass and returns something.

    Counted are reads of the same prompt at common steps whose value reaches an output without passing through a
    write. The graph must be free of violations. ``refs``: of each node, when they are known.
    """
    returned = _returned(graph, [distinct_references(node) for node in graph.nodes] if refs is None else refs)
    deepest: dict[int, dict[Steps, tuple[int, int]]] = {}
    for index, node in enumerate(graph.nodes):
        if node.op not in (READ, WRITE):
            continue
        spans = deepest.setdefault(node.invoke, {})
        steps, order = node.steps or Steps(), manifest.sites[str(node.params["site"])].order
        if node.op == WRITE:
            changed = max((found for span, found in spans.items() if _meet(span, steps)), default=(-1, -1))
            if changed[0] > order:
                yield LateWrite(changed[1], index)
        elif index in returned and (steps in spans or len(spans) < MOST_SPANS):
            spans[steps] = max(spans.get(steps, (-1, -1)), (order, index))


def described(pair: LateWrite, graph: Graph) -> str:
    """A sentence about a late write, with what to do."""
    write, read = graph.nodes[pair.write].params["site"], graph.nodes[pair.read].params["site"]
    return (
        f"the write at {write!r} also changes {node_name(graph, pair.read)}, which stands before it and is read at "
        f"{read!r}: a pass runs forward, and the order of the program counts at one and the same site only; write "
        "before you read, or give the prompt a second time for the value without the write"
    )


def _meet(one: Steps, other: Steps) -> bool:
    """Whether two spans have a step in common."""
    return (one.stop is None or other.start < one.stop) and (other.stop is None or one.start < other.stop)


def _returned(graph: Graph, refs: Sequence[tuple[Ref, ...]]) -> set[int]:
    """Nodes whose value reaches an output. References never lead through a write, which has no value."""
    waiting = [ref.node for ref in graph.outputs.values()]
    found: set[int] = set()
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting += [ref.node for ref in refs[index]]
    return found
