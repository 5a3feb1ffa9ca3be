"""When each node of a graph can run: forward order inside a pass, and which prompt runs in which pass.

A forward pass visits the sites in ascending ``SiteSchema.order``. Inside one prompt (invoke) a write may use only
values that exist when the pass arrives at its site. Between prompts there is freedom: when prompt B's write at an
early site uses a value that prompt A reads at a late one, B runs in a later pass than A. ``plan_order`` turns the
uses between prompts into edges of weight 0 ("not before") or 1 ("in a later pass") and gives every prompt the
longest path that leads to it; a cycle with a positive weight has no solution and is a SITE_ORDER conflict.

In a generation every pass index stands for a whole generation: prompts of pass index 1 begin when those of pass
index 0 have ended. Inside one, all prompts step together, and time is (step, order).

The checker reports ``OrderPlan.conflicts``; the engine runs plans that have none.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from interpd.errors import Violation
from interpd.graph.ir import Node, Ref, Steps, distinct_references, node_name
from interpd.graph.run import RunRequest
from interpd.graph.schema import Manifest

BEFORE = -1
"""``order`` of what is known before any forward pass: constants, weights, token ids, and what follows from these."""

AFTER = 1 << 40
"""``order`` of what is known only after a pass: gradients, outputs of methods, and what follows from these."""

READ, WRITE, GRAD = "site.read", "site.write", "site.grad"

PREFIX = "tokens.prefix_ids"
"""In a generation it has a value at each step, known when the step begins; otherwise it is known before any pass."""

OF_TOKENS = ("tokens.ids", PREFIX)
"""What depends on the tokens of a prompt themselves."""

_FIRST = 0
"""The order of what is known when a pass begins."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """When one node runs."""

    pass_index: int
    """The pass (for a generation: the generation) in which it runs; 0 for what is known before any pass."""
    order: int
    """The ``SiteSchema.order`` at which it runs: for a read or write that of its site, for a pure operation the latest
    of its inputs'; ``BEFORE`` or ``AFTER`` outside the forward pass. Nodes of equal time run in list order."""
    stage: int = 0
    """0: during the pass (or before it). n > 0: after it, behind n gradients or methods on the longest way."""
    steps: Steps | None = None
    """Of a generation: at which steps the node runs, with ``stop`` never ``None`` (clipped to the new tokens). A pure
    operation inherits its inputs' steps. ``None``: outside generations, and for what is known before any pass."""
    stacked: bool = False
    """Whether it has a value per step: as an output it comes back with a leading ``step`` axis."""

    @property
    def ready(self) -> tuple[int, int, int]:
        """(pass, first step, order) from which the value exists; compare lexicographically."""
        return (self.pass_index, self.steps.start if self.steps else 0, self.order)


@dataclass(frozen=True, slots=True)
class InvokePlan:
    """What one prompt needs of the forward pass."""

    pass_index: int
    last_order: int
    """Order of the deepest site that it touches: the pass may stop after it. ``BEFORE``: it needs no pass at all;
    ``AFTER``: the whole model (generations)."""
    last_layer: int
    """The layer of that site; ``n_layers`` behind the last block, -1 before the first."""
    reads: tuple[int, ...] = ()
    """Its ``site.read`` nodes."""
    writes: tuple[int, ...] = ()
    """Its ``site.write`` nodes, in the order in which they act where their sites are one."""


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """When everything of a request runs."""

    nodes: tuple[NodePlan, ...]
    invokes: tuple[InvokePlan, ...]
    n_passes: int
    """Successive passes (generations) of the request; one more than the greatest pass index."""
    needs_grad: bool = False
    """Whether the request takes gradients, so that its passes record them."""
    conflicts: tuple[Violation, ...] = ()
    """SITE_ORDER and BAD_STEPS; empty for a request that passed the checker."""


@dataclass(frozen=True, slots=True)
class _Need:
    """The latest moment of one prompt that a value needs: (step, order), and the node that is the reason."""

    step: int
    order: int
    node: int

    @property
    def time(self) -> tuple[int, int]:
        """(step, order), to compare."""
        return (self.step, self.order)


@dataclass(frozen=True, slots=True)
class _Edge:
    """``write`` (of prompt ``later``) uses ``node`` (of prompt ``earlier``)."""

    earlier: int
    later: int
    weight: int
    write: int
    node: int


def plan_order(
    request: RunRequest,
    manifest: Manifest,
    skip: Collection[int] = (),
    refs: Sequence[tuple[Ref, ...]] | None = None,
) -> OrderPlan:
    """When everything of ``request`` runs; impossible orders are listed in ``conflicts``.

    Every reference must point to an earlier node and every site must exist, except in the nodes of ``skip``
    (the checker's bad nodes), which are taken to be constants. ``refs``: of each node, when they are known.
    """
    refs = [distinct_references(node) for node in request.graph.nodes] if refs is None else refs
    planner = _Planner(request, manifest, frozenset(skip), refs)
    planner.collect()
    passes = planner.assign_passes()
    return planner.finish(passes)


class _Planner:
    """Walks the list once, keeping for each value what it needs of each prompt."""

    def __init__(
        self, request: RunRequest, manifest: Manifest, skip: frozenset[int], refs: Sequence[tuple[Ref, ...]]
    ) -> None:
        self.graph = request.graph
        self.refs = refs
        self.manifest = manifest
        self.skip = skip
        self.n_invokes = len(request.prompts)
        self.n_steps = request.generation.max_new_tokens if request.generation else 0
        self.needs: list[dict[int, _Need]] = []
        self.steps: list[tuple[Steps | None, bool]] = []
        self.edges: dict[tuple[int, int], _Edge] = {}
        self.conflicts: list[Violation] = []
        self.needs_grad = False

    def collect(self) -> None:
        """Fills ``needs`` and ``steps`` of all nodes, and the edges between prompts."""
        for index, node in enumerate(self.graph.nodes):
            inputs = () if index in self.skip else tuple([ref.node for ref in self.refs[index]])
            steps, stacked = self._steps(index, node, inputs)
            self.steps.append((steps, stacked))
            needs = self._merged(inputs)
            if index not in self.skip:
                needs = self._own_needs(index, node, needs, steps.start if steps else 0)
            self.needs.append(needs)

    def _merged(self, inputs: tuple[int, ...]) -> dict[int, _Need]:
        """The needs of all inputs. Values share one dict as long as nothing new comes in, which keeps this fast."""
        merged = self.needs[inputs[0]] if inputs else {}
        shared = True
        for source in inputs[1:]:
            if self.needs[source] is merged:
                continue
            for invoke, need in self.needs[source].items():
                known = merged.get(invoke)
                if known is None or (need is not known and need.time > known.time):
                    if shared:
                        merged, shared = dict(merged), False
                    merged[invoke] = need
        return merged

    def _own_needs(self, index: int, node: Node, needs: dict[int, _Need], step: int) -> dict[int, _Need]:
        if node.op == READ:
            return {node.invoke: _Need(step, self._site_order(node), index)}
        if node.op == WRITE:
            self._constrain(index, node, needs, step)
            return {node.invoke: _Need(step, self._site_order(node), index)}
        if node.op == PREFIX and self.n_steps:
            return {node.invoke: _Need(step, _FIRST, index)}
        if node.op == GRAD:
            self.needs_grad = True
            return {invoke: _Need(0, AFTER, index) for invoke in needs}
        schema = self.manifest.ops.get(node.op)
        if schema is not None and schema.is_method:
            return {invoke: _Need(0, AFTER, index) for invoke in (*needs, node.invoke)}
        return needs

    def _site_order(self, node: Node) -> int:
        return self.manifest.sites[str(node.params["site"])].order

    def _constrain(self, index: int, node: Node, needs: dict[int, _Need], step: int) -> None:
        """Takes what the write ``index`` needs of each prompt as an edge, or as a conflict inside its own prompt."""
        now = (step, self._site_order(node))
        for invoke, need in needs.items():
            too_late = need.time > now
            if invoke != node.invoke:
                key = (invoke, node.invoke)
                if key not in self.edges or too_late > self.edges[key].weight:
                    self.edges[key] = _Edge(invoke, node.invoke, int(too_late), index, need.node)
            elif too_late:
                self._conflict("SITE_ORDER", index, self._too_late(index, need))

    def _too_late(self, write: int, need: _Need) -> str:
        site = self.graph.nodes[write].params["site"]
        source = self.graph.nodes[need.node]
        head = f"write at {site!r} uses {node_name(self.graph, need.node)}"
        if need.order == AFTER:
            return f"{head} ({source.op}), which is known only after the pass: write it in a prompt of its own"
        if source.op == READ:
            head = f"{head}, read at {source.params['site']!r}"
        if need.step and need.step > (self.steps[write][0] or Steps()).start:
            return f"{head} at step {need.step}: a generation runs forward, so write at step {need.step} or later"
        return f"{head}: a pass runs forward, so split this into two passes (give the prompt twice)"

    def _conflict(self, code: str, index: int, message: str) -> None:
        self.conflicts.append(Violation(code, f"graph.nodes[{index}]", message))

    def _steps(self, index: int, node: Node, inputs: tuple[int, ...]) -> tuple[Steps | None, bool]:
        if not self.n_steps or index in self.skip:
            return None, False
        inherited, stacked = self._inherited_steps(index, inputs)
        if node.op not in (READ, WRITE, PREFIX):
            return inherited, stacked
        # what runs once in a generation is at step 0; steps beyond it are refused by name
        only = node.op != PREFIX and self.manifest.sites[str(node.params["site"])].prefill_only
        asked = node.steps or Steps(0, 1 if only else None)
        stop = self.n_steps if asked.stop is None else min(asked.stop, self.n_steps)
        own = Steps(asked.start, stop)
        many = asked.stop is None or asked.stop - asked.start > 1
        if stacked and (own != inherited or not many):
            self._conflict(
                "BAD_STEPS",
                index,
                f"write at {_span(own)} uses a value of {_span(inherited)}: give both the same steps",
            )
        return own, many

    def _inherited_steps(self, index: int, inputs: tuple[int, ...]) -> tuple[Steps | None, bool]:
        """The steps of a pure operation: those of its per-step inputs, else the last single step among them."""
        many, single = None, None
        for source in inputs:
            steps, stacked = self.steps[source]
            if steps is None:
                continue
            if not stacked:
                single = steps if single is None or steps.start > single.start else single
            elif many is None:
                many = steps
            elif many != steps:
                text = f"values of {_span(many)} and of {_span(steps)} meet in {node_name(self.graph, index)}"
                self._conflict("BAD_STEPS", index, f"{text}: give both reads the same steps")
        if many is None:
            return single, False
        if single is not None and single.start > many.start:
            text = f"{node_name(self.graph, index)} runs at {_span(many)} but needs a value made at {_span(single)}"
            self._conflict("BAD_STEPS", index, f"{text}: start the reads at step {single.start}")
        return many, True

    def assign_passes(self) -> list[int]:
        """The pass index of each prompt: the longest path to it. Cycles of positive weight become conflicts."""
        edges = dict(self.edges)
        while True:
            passes = [0] * self.n_invokes
            why: dict[int, _Edge] = {}
            for _ in range(self.n_invokes + 1):
                changed = _relax(edges.values(), passes, why)
                if changed is None:
                    return passes
            cycle = _cycle_through(changed, why)
            self._conflict("SITE_ORDER", cycle[0].write, self._waiting(cycle))
            for edge in cycle:
                del edges[edge.earlier, edge.later]

    def _waiting(self, cycle: list[_Edge]) -> str:
        names = " and ".join(f"prompts[{invoke}]" for invoke in sorted({edge.later for edge in cycle}))
        uses = []
        for edge in cycle:
            source = self.graph.nodes[edge.node]
            site = source.params.get("site")
            of = f"read at {site!r}" if source.op == READ else source.op
            write = f"write at {self.graph.nodes[edge.write].params['site']!r} in prompts[{edge.later}]"
            uses.append(f"{write} uses {node_name(self.graph, edge.node)} ({of} in prompts[{edge.earlier}])")
        return f"{names} wait for each other, so no sequence of passes exists: {'; '.join(uses)}"

    def finish(self, passes: list[int]) -> OrderPlan:
        """The plan, once every prompt has its pass."""
        nodes: list[NodePlan] = []
        # most nodes share their needs with another, and then the whole plan
        plans: dict[tuple[int, Steps | None, bool], NodePlan] = {}
        for index, (steps, stacked) in enumerate(self.steps):
            key = (id(self.needs[index]), steps, stacked)
            plan = plans.get(key)
            if plan is None:
                pass_index, order = _last_time(self.needs[index], passes)
                stage = self._stage(index, nodes, pass_index) if order == AFTER else 0
                plan = NodePlan(pass_index, order, stage, steps, stacked)
                if order != AFTER:
                    plans[key] = plan
            nodes.append(plan)
        return OrderPlan(
            tuple(nodes),
            tuple(self._invoke(passes)),
            max(passes, default=0) + 1,
            self.needs_grad,
            tuple(self.conflicts),
        )

    def _stage(self, index: int, nodes: list[NodePlan], pass_index: int) -> int:
        before = [nodes[ref.node] for ref in self.refs[index]]
        stage = max((source.stage for source in before if source.pass_index == pass_index), default=0)
        return stage + 1 if index in {need.node for need in self.needs[index].values()} else stage

    def _invoke(self, passes: list[int]) -> Iterator[InvokePlan]:
        reads: list[list[int]] = [[] for _ in passes]
        writes: list[list[int]] = [[] for _ in passes]
        last: list[tuple[int, int]] = [(BEFORE, -1)] * len(passes)
        for index, node in enumerate(self.graph.nodes):
            if index in self.skip or node.op not in (READ, WRITE):
                continue
            (reads if node.op == READ else writes)[node.invoke].append(index)
            site = self.manifest.sites[str(node.params["site"])]
            last[node.invoke] = max(last[node.invoke], (site.order, site.layer))
        for invoke, pass_index in enumerate(passes):
            order, layer = (AFTER, self.manifest.model.n_layers) if self.n_steps else last[invoke]
            yield InvokePlan(pass_index, order, layer, tuple(reads[invoke]), tuple(writes[invoke]))


def _last_time(needs: dict[int, _Need], passes: list[int]) -> tuple[int, int]:
    """(pass, order) of the last of ``needs``."""
    if len(needs) == 1:
        ((invoke, need),) = needs.items()
        return passes[invoke], need.order
    pass_index = max([passes[invoke] for invoke in needs], default=0)
    last = max([need.time for invoke, need in needs.items() if passes[invoke] == pass_index], default=(0, BEFORE))
    return pass_index, last[1]


def _relax(edges: Collection[_Edge], passes: list[int], why: dict[int, _Edge]) -> int | None:
    """One round of longest paths; the last prompt that moved, ``None`` when all are settled."""
    changed = None
    for edge in edges:
        least = passes[edge.earlier] + edge.weight
        if passes[edge.later] < least:
            passes[edge.later] = least
            why[edge.later] = edge
            changed = edge.later
    return changed


def _cycle_through(start: int, why: dict[int, _Edge]) -> list[_Edge]:
    """The edges of the cycle that feeds ``start``, following the reasons backwards."""
    seen: dict[int, int] = {}
    path: list[_Edge] = []
    invoke = start
    while invoke not in seen:
        seen[invoke] = len(path)
        path.append(why[invoke])
        invoke = why[invoke].earlier
    return path[seen[invoke] :]


def _span(steps: Steps | None) -> str:
    if steps is None:
        return "no step"
    if steps.stop == steps.start + 1:
        return f"step {steps.start}"
    return f"steps {steps.start}..{(steps.stop or 0) - 1}"
