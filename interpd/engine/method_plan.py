"""What the passes of a method have in common that ask for the same sites and values: worked out once, not in each."""

from collections.abc import Hashable, Mapping
from functools import cached_property

from interpd.engine.binding import Binding, Location, carries_of
from interpd.engine.graph_part import GraphPart
from interpd.engine.method_request import PassRequest, binding_of
from interpd.engine.model_access import ModelAccess
from interpd.engine.nnsight_driver import Visit, visits_of
from interpd.engine.planning import Program, Step
from interpd.graph.order import BEFORE, OF_TOKENS


def plan_key(request: PassRequest) -> Hashable:
    """What two requests of a method have in common that have one plan."""
    return request.reads, tuple(request.edits), request.values, request.begin


class MethodPlan:
    """The sites, nodes and places of the passes of one kind.

    Raises ``Misuse`` for sites that do not exist, and for what is no handle of the method; ``CallerError`` for a site
    whose name is a constant of the node.

    Args:
        access: The model.
        program: The graph.
        step: The method.
        request: One that asks for them.
    """

    def __init__(self, access: ModelAccess, program: Program, step: Step, request: PassRequest) -> None:
        self._all = access.resident.bindings
        self._program = program
        self.bindings: Mapping[str, Binding] = {
            name: binding_of(self._all, name, step) for name in (*request.reads, *request.edits)
        }
        reads = [self.bindings[name] for name in request.reads]
        begin = BEFORE if request.begin is None else self._all[request.begin].location.order
        last_read = max((binding.location.order for binding in reads), default=BEFORE)
        self.graph = GraphPart(program, step, request.values, last_read, begin)
        self.steps, self.last_order = self.graph.steps, self.graph.last_order
        needed = [*reads, *(one.binding for one in self.graph.leading if one.binding is not None)]
        deepest = max((binding.site.layer for binding in needed), default=-1)
        self.n_layers = min(deepest + 1, access.resident.info.n_layers)
        """How many layers run for it."""
        self.has_tokens = any(one.op in OF_TOKENS for one in self.steps)
        """Whether a node depends on the tokens of a row themselves."""
        touched = [*self.bindings.values(), *(one.binding for one in self.steps if one.binding is not None)]
        self.eager_attention = any(binding.site.eager_attention for binding in touched)
        self.without_rows = next((binding.site.name for binding in touched if not binding.site.shares_pass), None)
        """A site whose dimension 0 is not rows."""

    @cached_property
    def uses(self) -> list[int]:
        """How many of ``steps`` use each node of the graph; what the method is given counts once more."""
        counts = [0] * len(self._program.steps)
        for source in (*(node for one in self.steps for node in one.sources), *self.graph.wanted):
            counts[source] += 1
        return counts

    @cached_property
    def given(self) -> tuple[int, ...]:
        """The nodes that these use and that do not run again."""
        again = {one.index for one in self.steps}
        return tuple(node for node, count in enumerate(self.uses) if count and node not in again)

    @cached_property
    def places(self) -> frozenset[Location]:
        """Where the pass has to come by."""
        found = {binding.location for binding in self.bindings.values()}
        for name in self.bindings:
            found.update(self._all[part].location for carry in carries_of(self._all, name) for part in carry)
        found.update(self._program.places(self.steps))
        return frozenset(place for place in found if place.order <= self.last_order)

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        """The same as visits, in the order of the pass."""
        return visits_of(self.places)
