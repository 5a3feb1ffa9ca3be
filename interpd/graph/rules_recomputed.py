"""The rule about values that a method has computed anew in each of its passes.

A pass of a method is one of its own prompt. What is read there, and what follows from that by operations, can be
computed again; what it takes from elsewhere stays as it is. So a value is refused that would have to change with the
method's passes and cannot: one that comes from another method, from a gradient, or through another prompt.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from interpd.errors import Violation
from interpd.graph.ir import Node, Ref
from interpd.graph.order import GRAD, OF_TOKENS, READ, WRITE
from interpd.graph.subject import Subject


def not_recomputable(subject: Subject) -> Iterator[Violation]:
    """Recomputed ports of methods whose value cannot be computed again in a pass of the method."""
    plan = subject.plan
    asked = list(_asked(subject))
    if not asked or plan is None or plan.conflicts:
        return
    flow = _Flow(subject)
    for index, place, ref in asked:
        if index in subject.bad or subject.types[ref.node] is None:
            continue
        if message := flow.obstacle(ref.node, subject.graph.nodes[index].invoke):
            port = subject.schema(index).inputs[place]
            yield subject.fault("PORT_MISMATCH", index, f"inputs[{place}]", f"port {port.name!r} {message}")


def _asked(subject: Subject) -> Iterator[tuple[int, int, Ref]]:
    """(node, place of the port, what it is given) of all recomputed ports."""
    for index, node in subject.sound():
        for place, port in enumerate(subject.schema(index).inputs[: len(node.inputs)]):
            arg = node.inputs[place] if port.recomputed else None
            yield from ((index, place, ref) for ref in (arg if isinstance(arg, tuple) else (arg,)) if type(ref) is Ref)


@dataclass
class _Flow:
    """Of each node, as sets of bits, which prompts' passes change its value, and for which of them it is stuck."""

    subject: Subject
    moved: list[int] = field(init=False)
    """The prompts that it depends on."""
    stuck: list[int] = field(init=False)
    """The prompts that it depends on in a way that a pass of theirs cannot follow."""
    culprit: list[int] = field(init=False)
    """The node at which that begins; -1: nowhere."""

    def __post_init__(self) -> None:
        subject, plan = self.subject, self.subject.plan
        assert plan is not None, "the order is planned before"
        nodes = subject.graph.nodes
        self.moved, self.stuck, self.culprit = [0] * len(nodes), [0] * len(nodes), [-1] * len(nodes)
        # of each prompt what its writes have brought: (moved, stuck, culprit)
        streams = [(0, 0, -1)] * len(subject.request.prompts)
        # in the order in which they run, as writes reach reads
        for index in sorted(range(len(nodes)), key=lambda i: (plan.nodes[i].pass_index, plan.nodes[i].order, i)):
            if subject.types[index] is not None:
                self._visit(index, nodes[index], streams)

    def _visit(self, index: int, node: Node, streams: list[tuple[int, int, int]]) -> None:
        moved, stuck, culprit = 0, 0, -1
        for ref in self.subject.refs[index]:
            moved |= self.moved[ref.node]
            stuck |= self.stuck[ref.node]
            culprit = self.culprit[ref.node] if culprit < 0 else culprit
        own, (written, lost, there) = 1 << node.invoke, streams[node.invoke]
        if node.op == WRITE:
            streams[node.invoke] = (written | moved, lost | stuck, culprit if there < 0 else there)
        elif node.op == READ:
            moved, culprit = written | own, there
            stuck = moved & ~own | lost
        elif self.subject.schema(index).is_method:
            moved |= written | own
            stuck = moved
        elif node.op == GRAD:
            stuck = moved
        elif node.op in OF_TOKENS:
            moved |= own
        self.moved[index], self.stuck[index] = moved, stuck
        self.culprit[index] = culprit if culprit >= 0 or not stuck else index

    def obstacle(self, index: int, invoke: int) -> str:
        """Why a pass of a prompt cannot compute the value of a node anew; empty when it can."""
        name, others = self.subject.name(index), self.moved[index] & ~(1 << invoke)
        if self.stuck[index] >> invoke & 1:
            return f"is recomputed in each pass, but {name} comes {self._way(self.culprit[index])}"
        if others and others == self.moved[index]:
            prompt = (others & -others).bit_length() - 1
            text = f"is recomputed in each pass of prompt {invoke}, but {name} is a value of prompt {prompt}"
            return f"{text}: give the method the invoke of the value"
        return ""

    def _way(self, culprit: int) -> str:
        node, name = self.subject.graph.nodes[culprit], self.subject.name(culprit)
        if node.op == READ:
            return f"through prompt {node.invoke} ({name}), which a pass of another prompt does not run"
        what = "the gradient" if node.op == GRAD else f"the method {node.op}"
        return f"from {what} {name}, which a pass does not run again"
