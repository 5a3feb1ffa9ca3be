"""A checked request made ready to run: constants as tensors, functions found, nodes in the order of the passes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from interpd.engine.binding import Binding, Location, carries_of
from interpd.engine.store import Store
from interpd.graph.check import CheckReport
from interpd.graph.ir import Arg, Blob, Dots, Ref, Slice, node_name, node_references
from interpd.graph.order import AFTER, BEFORE, GRAD, OF_TOKENS, PREFIX, READ, WRITE, NodePlan, OrderPlan
from interpd.graph.run import RunRequest, Tokens
from interpd.graph.schema import Manifest, OpSchema
from interpd.graph.types import TensorData, TensorType
from interpd.plugin.registry import Registry


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node, ready to run."""

    index: int
    name: str
    """For messages."""
    op: str
    invoke: int
    schema: OpSchema
    fn: Callable[..., Any] | None
    """``None``: the engine itself carries it out."""
    inputs: tuple[Any, ...]
    """References, and constants as the function takes them."""
    params: Mapping[str, Any]
    plan: NodePlan
    sources: tuple[int, ...]
    """The nodes whose values it uses, each once."""
    binding: Binding | None = None
    """Of a ``site.read`` or ``site.write``."""

    def runs_at(self, generation_step: int) -> bool:
        """Whether it runs in this step of a generation (step 0 of a plain pass)."""
        steps = self.plan.steps
        if steps is None:
            return generation_step == 0
        return steps.start <= generation_step < (steps.stop or 0)

    @property
    def touches_site(self) -> bool:
        """Whether it reads or writes."""
        return self.binding is not None

    @property
    def needs_row(self) -> bool:
        """Whether it runs only while its prompt has a row in the pass."""
        return self.touches_site or (self.op == PREFIX and self.plan.steps is not None)


@dataclass(frozen=True)
class Program:
    """A whole request, ready to run."""

    request: RunRequest
    tokens: tuple[Tokens, ...]
    order: OrderPlan
    outputs: Mapping[str, TensorType]
    """The type of each output as it comes back, from the checker."""
    steps: tuple[Step, ...]
    bindings: Mapping[str, Binding]
    notes: tuple[str, ...] = ()
    """Of the checker, for the caller."""

    @cached_property
    def uses(self) -> list[int]:
        """How many nodes use each node; an output counts once more."""
        counts = [0] * len(self.steps)
        for step in self.steps:
            for source in step.sources:
                counts[source] += 1
        for index in {ref.node for ref in self.request.graph.outputs.values()}:
            counts[index] += 1
        return counts

    @cached_property
    def kept_steps(self) -> frozenset[int]:
        """Stacked nodes whose values outlive their step: outputs, and what a later generation of this run uses."""
        outputs = {ref.node for ref in self.request.graph.outputs.values()}
        later = {
            source
            for step in self.steps
            for source in step.sources
            if self.steps[source].plan.pass_index < step.plan.pass_index
        }
        return frozenset(index for index in outputs | later if self.steps[index].plan.stacked)

    @cached_property
    def has_methods(self) -> bool:
        """Whether a node is a method."""
        return any(step.schema.is_method for step in self.steps)

    @cached_property
    def uses_prefixes(self) -> bool:
        """Whether a node is the tokens of a text so far."""
        return any(step.op == PREFIX for step in self.steps)

    @cached_property
    def grad_sources(self) -> frozenset[int]:
        """The reads that something is differentiated with respect to."""
        return frozenset(step.inputs[1].node for step in self.steps if step.op == GRAD)

    def invokes_of_pass(self, index: int) -> tuple[int, ...]:
        """The prompts whose forward runs in this pass: those that are read somewhere, or that generate."""
        return tuple(
            invoke
            for invoke, plan in enumerate(self.order.invokes)
            if plan.pass_index == index and (plan.reads or self.request.generation)
        )

    def steps_before(self, index: int) -> tuple[Step, ...]:
        """What needs no forward pass, for pass ``index``."""
        return tuple(step for step in self._by_pass[index] if step.plan.order == BEFORE)

    def steps_inside(self, index: int) -> tuple[Step, ...]:
        """What runs during pass ``index``, in the order in which it runs."""
        return self._inside[index]

    def steps_after(self, index: int) -> tuple[Step, ...]:
        """Gradients, methods and what follows from them, in list order."""
        return tuple(step for step in self._by_pass[index] if step.plan.order == AFTER)

    @cached_property
    def _by_pass(self) -> list[list[Step]]:
        """The nodes of each pass in the order in which they run."""
        passes: list[list[Step]] = [[] for _ in range(self.order.n_passes)]
        for step in sorted(self.steps, key=lambda step: (step.plan.order, step.index)):
            passes[step.plan.pass_index].append(step)
        return passes

    @cached_property
    def _inside(self) -> list[tuple[Step, ...]]:
        # asked for at each step of a generation
        return [tuple(step for step in steps if BEFORE < step.plan.order < AFTER) for steps in self._by_pass]

    def steps_again(self, invoke: int, wanted: Iterable[int]) -> tuple[Step, ...]:
        """Nodes and what they need, as far as that depends on a pass of that very prompt, in the order of a pass: all
        that has to run again in a pass of a method."""
        needed = set(wanted)
        for step in reversed(self.steps):
            if step.index in needed:
                needed.update(step.sources)
        own: set[int] = set()
        for step in self.steps:
            of_prompt = step.invoke == invoke and (step.touches_site or step.op in OF_TOKENS)
            if step.index in needed and (of_prompt or own.intersection(step.sources)):
                own.add(step.index)
        chosen = [self.steps[index] for index in own]
        return tuple(sorted(chosen, key=lambda step: (step.plan.order, step.index)))

    def written_sites(self, invoke: int) -> tuple[str, ...]:
        """The sites that a prompt's part of the graph writes to, each once."""
        steps = (step for step in self.steps if step.op == WRITE and step.invoke == invoke)
        return tuple(dict.fromkeys(step.binding.site.name for step in steps if step.binding is not None))

    def places(self, steps: Sequence[Step], last_order: int = AFTER) -> set[Location]:
        """Where these reads and writes take place, and where their writes are carried to, up to ``last_order``."""
        found: set[Location] = set()
        for step in steps:
            if step.binding is None:
                continue
            found.add(step.binding.location)
            if step.binding.carry and (step.op == WRITE or step.index in self.grad_sources):
                carries = carries_of(self.bindings, step.binding.site.name)
                found.update(self.bindings[name].location for carry in carries for name in carry)
        return {place for place in found if place.order <= last_order}


def make_program(
    request: RunRequest,
    tokens: tuple[Tokens, ...],
    report: CheckReport,
    offered: tuple[Registry, Mapping[str, Binding], Manifest],
    store: Store,
) -> Program:
    """The request as a program.

    Args:
        request: Checked.
        tokens: Of its prompts.
        report: Of the checker, without violations.
        offered: Where operations, sites and schemas are found.
        store: Where uploaded constants are found.

    Raises:
        BlobNotFound: A constant was never uploaded, or has been dropped.
    """
    assert report.plan is not None
    steps = tuple(_step(request, index, report.plan, offered, store) for index in range(len(request.graph.nodes)))
    return Program(request, tokens, report.plan, dict(report.outputs), steps, offered[1], report.notes)


def _step(
    request: RunRequest,
    index: int,
    order: OrderPlan,
    offered: tuple[Registry, Mapping[str, Binding], Manifest],
    store: Store,
) -> Step:
    registry, bindings, manifest = offered
    node = request.graph.nodes[index]
    schema = manifest.ops[node.op]
    found = registry.methods.get(node.op) or registry.ops.get(node.op)
    return Step(
        index=index,
        name=node_name(request.graph, index),
        op=node.op,
        invoke=node.invoke,
        schema=schema,
        fn=None if found is None else found.fn,
        inputs=tuple(_ready(arg, store) for arg in node.inputs),
        params={name: _ready(arg, store) for name, arg in node.params.items()},
        plan=order.nodes[index],
        sources=tuple({ref.node: None for ref in node_references(node)}),
        binding=bindings[str(node.params["site"])] if node.op in (READ, WRITE) else None,
    )


def _ready(arg: Arg, store: Store) -> Any:
    """A constant as functions of torch take it; references stay."""
    if isinstance(arg, TensorData):
        return store.constant(arg)
    if isinstance(arg, Blob):
        return store.blob(arg.digest)
    if isinstance(arg, Slice):
        return slice(arg.start, arg.stop, arg.step)
    if isinstance(arg, Dots):
        return ...
    if isinstance(arg, tuple):
        return tuple(_ready(item, store) for item in arg)
    return arg


def filled(arg: Any, value_of: Callable[[Ref], Any]) -> Any:
    """``arg`` with values in place of its references."""
    if isinstance(arg, Ref):
        return value_of(arg)
    if isinstance(arg, tuple) and not isinstance(arg, Tensor):
        return tuple(filled(item, value_of) for item in arg)
    return arg
