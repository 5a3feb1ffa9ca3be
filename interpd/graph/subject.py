"""A request under check: what is asked, what the model offers, and what the rules have found out so far."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from interpd.errors import Violation
from interpd.graph.ir import Graph, Node, Ref, distinct_references, node_name
from interpd.graph.names import Suggestions
from interpd.graph.order import OrderPlan
from interpd.graph.run import Lengths, RunRequest
from interpd.graph.schema import Manifest, OpSchema
from interpd.graph.types import TensorType

Types = tuple[TensorType, ...] | None
"""Types of a node's outputs; ``None`` where the node, or one that it uses, is bad."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of validity. Rules run in the order of their table; a later one may rely on what earlier ones left."""

    codes: tuple[str, ...]
    broken: Callable[["Subject"], Iterable[Violation]]
    """Every violation of the rule."""
    final: bool = False
    """When it is broken, nothing else is looked at."""


class Subject:
    """What rules read and fill in."""

    def __init__(self, request: RunRequest, manifest: Manifest, lengths: Sequence[Lengths]) -> None:
        self.request = request
        self.graph: Graph = request.graph
        self.manifest = manifest
        self.lengths = tuple(lengths)
        """Positions of each prompt, as far as they are known."""
        self.n_steps = max(request.generation.max_new_tokens, 1) if request.generation else 0
        """Steps of the generation; 0 without one."""
        self.suggestions = Suggestions()
        self.bad: set[int] = set()
        """Nodes that broke a rule; what depends on them is not looked at again."""
        self.types: list[Types] = []
        """Of the prompt's pass (step 0)."""
        self.decode_types: list[Types] = []
        """Of later steps; empty outside generations."""
        self.plan: OrderPlan | None = None
        self.notes: list[str] = []
        self._refs: list[tuple[Ref, ...]] | None = None

    @property
    def refs(self) -> list[tuple[Ref, ...]]:
        """The references of each node. Nesting is bounded before anybody asks."""
        if self._refs is None:
            self._refs = [distinct_references(node) for node in self.graph.nodes]
        return self._refs

    def schema(self, index: int) -> OpSchema:
        """The operation of a node that is not bad."""
        return self.manifest.ops[self.graph.nodes[index].op]

    def name(self, index: int) -> str:
        """How messages name a node."""
        return node_name(self.graph, index)

    def sound(self, *ops: str) -> Iterator[tuple[int, Node]]:
        """Nodes that are not bad, of the given operations or of all."""
        for index, node in enumerate(self.graph.nodes):
            if index not in self.bad and (not ops or node.op in ops):
                yield index, node

    def fault(self, code: str, index: int, where: str, message: str) -> Violation:
        """A violation of one node, which is bad from now on."""
        self.bad.add(index)
        return Violation(code, f"graph.nodes[{index}]{'.' if where else ''}{where}", message)
