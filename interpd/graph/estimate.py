"""What a request will cost, as far as it can be known before it runs."""

from dataclasses import dataclass

from interpd.graph.ir import Graph
from interpd.graph.order import BEFORE
from interpd.graph.schema import Manifest
from interpd.graph.subject import Subject
from interpd.graph.types import TensorType


@dataclass(frozen=True, slots=True)
class Estimate:
    """A forecast; ``None`` where it depends on what is not known yet (token counts)."""

    n_tokens: int | None
    """Positions computed: prompts, and generated tokens but the last."""
    n_layers_run: int
    """The deepest block that runs, as a count."""
    n_passes: int
    """Forward passes, without those of methods; a generation of N tokens takes N."""
    bytes_returned: int | None
    live_bytes: int | None
    """Bytes of values alive at once at the worst moment, outputs included; the model's own memory is not."""
    least_bytes_returned: int = 0
    """What is certain: unknown sizes count as nothing."""
    least_live_bytes: int = 0
    methods: tuple[str, ...] = ()
    """Methods that run passes of their own, of which nothing is known before."""

    def __str__(self) -> str:
        parts = [self._passes()] if self.n_passes or not self.methods else []
        if self.methods:
            parts.append(f"the passes of {' and '.join(self.methods)}, which are not known before")
        if self.bytes_returned != 0 or not self.methods:
            back = self.bytes_returned
            parts.append("result size not known yet" if back is None else f"{back} bytes returned")
        return ", ".join(parts)

    def _passes(self) -> str:
        if not self.n_passes:
            return "no pass"
        passes = "1 pass" if self.n_passes == 1 else f"{self.n_passes} passes"
        layers = "1 layer" if self.n_layers_run == 1 else f"{self.n_layers_run} layers"
        tokens = "tokens not counted yet" if self.n_tokens is None else f"{self.n_tokens} tokens"
        return f"{passes} of {layers}, {tokens}"


def estimate(subject: Subject) -> Estimate:
    """The forecast of a request that has been typed and planned."""
    plan = subject.plan
    assert plan is not None, "the order is planned before"
    model, steps = subject.manifest.model, max(subject.n_steps, 1)
    pairs = list(zip(subject.lengths, plan.invokes, strict=True))
    tokens = [lengths.computed(invoke.last_layer + 1, model.n_encoder_layers) for lengths, invoke in pairs]
    known = None not in tokens
    running = [invoke for invoke in plan.invokes if invoke.last_order > BEFORE]
    prompts = sum(n or 0 for n, invoke in zip(tokens, plan.invokes, strict=True) if invoke.last_order > BEFORE)
    layers = max((min(invoke.last_layer + 1, model.n_layers) for invoke in running), default=0)
    returned, returned_known = _returned(subject)
    live, live_known = _live(subject)
    return Estimate(
        n_tokens=prompts + len(running) * (steps - 1) if known else None,
        n_layers_run=layers,
        n_passes=len({invoke.pass_index for invoke in running}) * steps,
        bytes_returned=returned if returned_known else None,
        live_bytes=live if live_known else None,
        least_bytes_returned=returned,
        least_live_bytes=live,
        methods=methods_of(subject.graph, subject.manifest),
    )


def methods_of(graph: Graph, manifest: Manifest) -> tuple[str, ...]:
    """The methods that a graph calls, each once."""
    ops = dict.fromkeys(node.op for node in graph.nodes)
    return tuple(op for op in ops if op in manifest.ops and manifest.ops[op].is_method)


def _n_values(subject: Subject, index: int) -> int:
    """How many values a node has over the steps that stay until the end."""
    node = subject.plan.nodes[index] if subject.plan else None
    if node is None or not node.stacked or node.steps is None:
        return 1
    return (node.steps.stop or 0) - node.steps.start


def _returned(subject: Subject) -> tuple[int, bool]:
    total, known = 0, True
    for ref in subject.graph.outputs.values():
        types = subject.types[ref.node]
        size = types[ref.output].n_bytes if types is not None else None
        total += (size or 0) * _n_values(subject, ref.node)
        known = known and size is not None
    return total, known


def _live(subject: Subject) -> tuple[int, bool]:
    """The greatest sum of the values between their making and their last use."""
    assert subject.plan is not None, "the order is planned before"
    n = len(subject.graph.nodes)
    ready = [node.ready for node in subject.plan.nodes]
    order = sorted(range(n), key=ready.__getitem__)
    when = [0] * n
    for time, index in enumerate(order):
        when[index] = time
    last = [0] * n
    for index, refs in enumerate(subject.refs):
        for ref in refs:
            last[ref.node] = max(last[ref.node], when[index])
    # what is an output stays to the end
    for ref in subject.graph.outputs.values():
        last[ref.node] = n
    frees = [0] * (n + 1)
    alive, most, known = 0, 0, True
    for time, index in enumerate(order):
        size = _bytes(subject.types[index])
        known = known and size is not None
        kept = size or 0
        if last[index] == n:
            kept *= _n_values(subject, index)
        alive += kept
        most = max(most, alive)
        frees[last[index] if last[index] >= time else n] += kept
        alive -= frees[time]
    return most, known


def _bytes(types: tuple[TensorType, ...] | None) -> int | None:
    total = 0
    for kind in types or ():
        size = kind.n_bytes
        if size is None:
            return None
        total += size
    return total
