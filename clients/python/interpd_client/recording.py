"""The graph under construction: nodes in the order in which they were written, and the user's line of each."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType

from interpd.errors import InvalidGraph, Violation
from interpd.graph.ir import Arg, Generation, Graph, Node, Prompt, Ref, Steps, node_references
from interpd.graph.run import Lengths, Tokens
from interpd.graph.schema import Manifest, OpSchema
from interpd.graph.types import TensorData, TensorType
from interpd_client.names import UnknownName, nearest_names
from interpd_client.places import Place, Places, user_place

WRITE = "site.write"
STEPPED = ("site.read", WRITE, "tokens.prefix_ids")
"""Operations that may act at some steps of a generation only."""


@dataclass(frozen=True, slots=True)
class Built:
    """A finished graph, the user's line of each of its nodes, and the large constants that it names."""

    graph: Graph
    places: Places
    blobs: Mapping[str, TensorData]


@dataclass(slots=True)
class Recording:
    """What one trace has recorded so far. Used by the thread that wrote the trace."""

    manifest: Manifest
    tokenize: Callable[[Prompt], Tokens]
    """Asks the service once per prompt, only when positions are named by text."""
    generation: Generation | None = None
    prompts: list[Prompt] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    outputs: dict[str, Ref] = field(default_factory=dict)
    saved_at: dict[str, Place] = field(default_factory=dict)
    begun_at: Place | None = None
    """The line that began the trace."""
    adapter: str = ""
    """In force in the whole trace; empty: none."""
    blobs: dict[str, TensorData] = field(default_factory=dict)
    steps: Steps | None = None
    """The steps of a generation that reads and writes now apply to."""
    frame: FrameType | None = None
    """Where the lines that are being recorded stand, where that is not the stack that records them."""
    closed: bool = False
    _n_writes: dict[tuple[int, str], int] = field(default_factory=dict)
    _tokens: dict[int, Tokens] = field(default_factory=dict)
    _thread: int = field(default_factory=threading.get_ident)

    def add(self, op: str, inputs: Sequence[Arg] = (), params: Mapping[str, Arg] | None = None, invoke: int = 0) -> int:
        """The index of a new node in normal form."""
        return self.append(Node(op, tuple(inputs), dict(params or {}), self.schema(op).version, invoke))

    def append(self, node: Node) -> int:
        """The index of a new node. Raises ``RuntimeError`` once the trace has ended, or in another thread."""
        if self.closed:
            raise RuntimeError(
                f"{node.op!r} was used after the end of its trace; move it into the `with` block, or save the value "
                f"there and read the result: `t.save(h=value)` in the block, `t.result['h']` after it"
            )
        if threading.get_ident() != self._thread:
            raise RuntimeError("a trace is written by one thread; give each thread a trace of its own")
        if node.op in STEPPED:
            node = replace(node, steps=self.steps)
        self.nodes.append(node)
        self.places.append(self.place())
        return len(self.nodes) - 1

    def place(self) -> Place:
        """The user's line that is being recorded."""
        return user_place(self.frame)

    def schema(self, op: str) -> OpSchema:
        """The schema of an operation of this model's workers. Raises ``UnknownName``."""
        schema = self.manifest.ops.get(op)
        if schema is None:
            where = f"no operation {op!r} in {self.manifest.model.name!r}"
            raise UnknownName(where, name=op, nearest=nearest_names(op, self.manifest.ops))
        return schema

    def write(self, site: str, value: Arg, invoke: int) -> None:
        """Puts ``value`` in force at ``site``."""
        self.add(WRITE, (value,), {"site": site}, invoke=invoke)
        key = (invoke, site)
        self._n_writes[key] = self._n_writes.get(key, 0) + 1

    def n_writes(self, site: str, invoke: int) -> int:
        """How many writes of this prompt at ``site`` are recorded; a read is fresh while the number stands still."""
        return self._n_writes.get((invoke, site), 0)

    def first_mention(self, read: int) -> int:
        """The first read that saw what the read ``read`` saw: same place, same steps, no write there in between."""
        node, first = self.nodes[read], read
        order = self._order(node)
        for index in range(read - 1, -1, -1):
            other = self.nodes[index]
            if other.op == WRITE and other.invoke == node.invoke and self._order(other) == order:
                break
            if (other.op, other.invoke, other.steps, other.params) == (node.op, node.invoke, node.steps, node.params):
                first = index
        return first

    def _order(self, node: Node) -> int:
        return self.manifest.sites[str(node.params["site"])].order

    def tokens(self, invoke: int) -> Tokens:
        """The tokens of one prompt, asked from the service at the first call."""
        if invoke not in self._tokens:
            self._tokens[invoke] = self.tokenize(self.prompts[invoke])
        return self._tokens[invoke]

    def learn(self, invoke: int, tokens: Tokens) -> None:
        """Takes it that these are the tokens of a prompt."""
        self._tokens[invoke] = tokens

    def know_tokens(self, invoke: int, ids: tuple[int, ...]) -> None:
        """Notes the tokens of a prompt that was tokenised before."""
        self._tokens[invoke] = Tokens(ids, (), (), "")

    def n_tokens(self) -> tuple[Lengths | None, ...]:
        """The numbers of tokens of each prompt, ``None`` where the service was not asked."""
        known = [self._tokens.get(invoke) for invoke in range(len(self.prompts))]
        return tuple(tokens.lengths if tokens else None for tokens in known)

    def type_of(self, ref: Ref) -> TensorType:
        """The type of a value, as far as it is known before the run. Raises ``InvalidGraph`` where it has none."""
        from interpd_client.checking import type_of  # the checker imports much that most traces never need here

        return type_of(self, ref)

    def save(self, name: str, ref: Ref) -> None:
        """Returns ``ref`` under ``name``. Raises ``ValueError`` for a name that is taken."""
        if name in self.outputs:
            raise ValueError(f"{name!r} is saved already, at {self.saved_at[name]}; choose another name")
        self.outputs[name] = ref
        self.saved_at[name] = user_place()
        node = self.nodes[ref.node]
        if not node.label:
            self.nodes[ref.node] = replace(node, label=name)

    def refuse(self, code: str, message: str) -> InvalidGraph:
        """The error for a rule that the line being written breaks."""
        return InvalidGraph([Violation(code, "graph", message, user_place().shown)])

    def take_over(self, other: "Recording") -> None:
        """Begins with the nodes of another recording, over prompts of its own; nothing of them is saved here."""
        self.nodes = [replace(node, label="") for node in other.nodes]
        self.places = list(other.places)
        self.blobs = dict(other.blobs)
        self._n_writes = dict(other._n_writes)

    def build(self, *, with_idle_writes: bool = True) -> Built:
        """The graph of everything that has an effect; pure nodes that nothing uses are left out.

        ``with_idle_writes``: keep writes after which nothing that is returned is read, which the checker refuses.
        """
        kept = sorted(self._needed() if with_idle_writes else self._returned())
        moved = {old: new for new, old in enumerate(kept)}
        nodes = tuple(_renumbered(self.nodes[old], moved) for old in kept)
        outputs = {name: Ref(moved[ref.node], ref.output) for name, ref in self.outputs.items()}
        places = Places(tuple(self.places[old] for old in kept), dict(self.saved_at), self.begun_at)
        return Built(Graph(nodes, outputs), places, dict(self.blobs))

    def _needed(self) -> set[int]:
        # a method may do its work (an artifact) without anything using what it returns
        waiting = [index for index, node in enumerate(self.nodes) if node.op == WRITE or self.schema(node.op).is_method]
        return self._with_sources([*waiting, *(ref.node for ref in self.outputs.values())], set())

    def _returned(self) -> set[int]:
        """What returned values are made of, and the writes that may change it."""
        needed = self._with_sources([ref.node for ref in self.outputs.values()], set())
        writes = [index for index, node in enumerate(self.nodes) if node.op == WRITE]
        while True:
            last: dict[int, tuple[int, int]] = {}
            for index in needed:
                node = self.nodes[index]
                if node.op == "site.read":
                    last[node.invoke] = max(last.get(node.invoke, (-1, -1)), (self._order(node), index))
            found = [index for index in writes if index not in needed and self._acts(index, last)]
            if not found:
                return needed
            self._with_sources(found, needed)

    def _acts(self, write: int, last_reads: Mapping[int, tuple[int, int]]) -> bool:
        node = self.nodes[write]
        # in a generation every write may change the tokens
        return self.generation is not None or (self._order(node), write) < last_reads.get(node.invoke, (-1, -1))

    def _with_sources(self, waiting: list[int], needed: set[int]) -> set[int]:
        """``needed`` with the nodes of ``waiting`` and all that they are made of."""
        while waiting:
            index = waiting.pop()
            if index not in needed:
                needed.add(index)
                waiting += [ref.node for ref in node_references(self.nodes[index])]
        return needed


def _renumbered(node: Node, moved: Mapping[int, int]) -> Node:
    inputs = tuple(_moved(arg, moved) for arg in node.inputs)
    return replace(node, inputs=inputs, params={name: _moved(arg, moved) for name, arg in node.params.items()})


def _moved(arg: Arg, moved: Mapping[int, int]) -> Arg:
    if isinstance(arg, Ref):
        return Ref(moved[arg.node], arg.output)
    return tuple(_moved(item, moved) for item in arg) if isinstance(arg, tuple) else arg
