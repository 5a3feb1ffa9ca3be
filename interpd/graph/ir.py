"""The intervention graph: typed data that says what to read, change, compute and return.

Flat and language neutral. A graph is a list of nodes; a node names an operation and refers to the outputs of
*earlier* nodes by their place in the list, so a valid list is already in an order in which it can run. Values
are immutable: a read keeps what it saw, a write puts a new value in force from its point of the forward pass
on. Reads and writes at one site act in the order of the list.

Every invoke (prompt) is one row: the graph sees each site as if its prompt ran alone, unpadded, with a batch
dimension of one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union

from interpd.graph.types import TensorData


@dataclass(frozen=True, slots=True)
class Ref:
    """The output of another node."""

    node: int
    output: int = 0
    """Which output port, for operations that return several (``torch.topk``)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """``start:stop:step`` inside an index. Each part is a constant integer or absent."""

    start: int | None = None
    stop: int | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Dots:
    """``...`` inside an index."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A large constant that was uploaded before, named by the SHA-256 of its content."""

    digest: str
    """Hexadecimal SHA-256 over dtype, shape and bytes: ``interpd.graph.digest.blob_digest``."""
    dtype: str
    shape: tuple[int, ...]


Arg = Union[None, bool, int, float, str, Ref, Slice, Dots, TensorData, Blob, tuple["Arg", ...]]
"""What may stand in a node's inputs and params: a reference, a constant, or a tuple of these."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Which steps of a generation a read or write applies to: ``start <= step < stop``.

    Step 0 is the prefill (all prompt positions); step k > 0 feeds back the k-th generated token (one position).
    """

    start: int = 0
    stop: int | None = None
    """``None``: until the generation ends."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a graph."""

    op: str
    """``family.verb``: ``site.read``, ``torch.softmax``, ``sae.encode``."""
    inputs: tuple[Arg, ...] = ()
    """Positional arguments: values (references) and constants."""
    params: Mapping[str, Arg] = field(default_factory=dict)
    """Keyword constants and artifact names."""
    version: int = 1
    invoke: int = 0
    """Which prompt a ``site.*`` or method node belongs to. Other nodes may use values of several invokes."""
    steps: Steps | None = None
    """For ``site.*`` nodes of a generation; ``None``: every step."""
    label: str = ""
    """A name for messages; ``nodes[17]`` when empty."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes, and which of their outputs to return under which name."""

    nodes: tuple[Node, ...]
    outputs: Mapping[str, Ref]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One invoke: exactly one of text, chat messages and token ids.

    For an encoder-decoder model that is the source, and at most one of ``target_text`` and ``target_ids`` says what the
    decoder is given. Its positions are the model's decoder start token and then the target, so that the logits at
    position j predict target token j and the last ones the token after it.
    """

    text: str | None = None
    messages: tuple[tuple[str, str], ...] | None = None
    """(role, content) pairs, rendered with the tokenizer's chat template."""
    token_ids: tuple[int, ...] | None = None
    add_special_tokens: bool = True
    """Whether the tokenizer adds its own special tokens (texts only; a chat template brings its own). A target gets no
    end token: it would end what is to be continued."""
    add_generation_prompt: bool | None = None
    """Whether the turn of the assistant is opened after the messages; ``None``: unless the last one is its own."""
    continue_final_message: bool = False
    """Whether the last message is left open, to be continued (messages only)."""
    target_text: str | None = None
    target_ids: tuple[int, ...] | None = None
    """The target as it is, without the decoder start token."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How to continue the prompts. N new tokens take N forward passes; the last token is never fed back."""

    max_new_tokens: int
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    """0: no limit."""
    top_p: float = 1.0
    seed: int | None = None
    """Each prompt samples from a generator of its own, so its tokens do not depend on who shares the pass."""
    stop_strings: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    seeds: tuple[int, ...] = ()
    """One for each prompt, in place of ``seed``: equal ones draw equal numbers, so that two texts differ by what was
    written to one of them and not by chance."""


def references(arg: Arg) -> Iterator[Ref]:
    """Every reference inside ``arg``, in order."""
    if isinstance(arg, Ref):
        yield arg
    elif isinstance(arg, tuple):
        for item in arg:
            yield from references(item)


def node_references(node: Node) -> Iterator[Ref]:
    """Every reference of ``node``: inputs first, then params."""
    for arg in node.inputs:
        yield from references(arg)
    for arg in node.params.values():
        yield from references(arg)


def distinct_references(node: Node) -> tuple[Ref, ...]:
    """Every reference of the inputs of ``node`` once, without recursion; nested ones last."""
    todo: list[Arg] = list(node.inputs)
    found: list[Ref] = []
    for arg in todo:
        if isinstance(arg, Ref):
            found.append(arg)
        elif isinstance(arg, tuple):
            todo.extend(arg)
    if len(found) < 2 or (len(found) == 2 and found[0] != found[1]):
        return tuple(found)
    return tuple(dict.fromkeys(found))


def node_name(graph: Graph, index: int) -> str:
    """How messages name a node: ``node 'feat'`` or ``nodes[17]``."""
    label = graph.nodes[index].label
    return f"node {label!r}" if label else f"nodes[{index}]"
