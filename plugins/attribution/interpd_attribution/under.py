"""Writes that are in force while a sequence is attributed: of a function, or of a trace that was not run."""

from collections.abc import Iterator
from typing import Any

from interpd.errors import CallerError
from interpd.graph.ir import Graph, Node, node_references
from interpd.graph.order import WRITE
from interpd_attribution.sequences import Exact
from interpd_client import Model, Trace

AT_THE_END = "positions counted from the end ([:, -1]) are others in the whole sequence than in the prompt alone"


def opened(model: Model, exact: Exact, under: Any, options: dict[str, Any]) -> Trace:
    """A trace of the sequence with the writes of ``under`` recorded.

    Raises ``CallerError`` for a trace of another prompt, and for one of the prompt alone that counts from its end.
    """
    if under is None or not isinstance(under, Trace):
        t = model.trace(exact.prompt, **options)
        if under is not None:
            under(t)
        return t
    _check_prompt(model, exact, under)
    return under.again(exact.prompt, **options)


def record(under: Any, g: Any) -> None:
    """Records writes in a generation. Raises ``CallerError`` where they do not mean the same there."""
    if under is None:
        return
    if isinstance(under, Trace):
        raise CallerError("a trace is recorded over one prompt and continues nothing: give generated, or a function")
    under(g)
    if counts_from_end(g.request.graph):
        raise CallerError(f"{AT_THE_END}, and at each step of a generation: give generated")


def counts_from_end(graph: Graph) -> bool:
    """Whether what a graph writes names positions by their distance from the end."""
    return any(_is_from_end(place) for node in _of_writes(graph) for place in _places(node))


def _check_prompt(model: Model, exact: Exact, under: Trace) -> None:
    prompts = under.request.prompts
    if len(prompts) != 1:
        raise CallerError(
            f"the trace has {len(prompts)} prompts: with several, record the sequence among them and call "
            "model.attribute.node(prompt, ...) there"
        )
    tokens = model.tokenize(prompts[0])
    own = (tokens.target or tokens).ids
    is_other = exact.has_encoder and tokens.ids != exact.source.ids
    if is_other or exact.target_ids[: len(own)] != own:
        raise CallerError(
            "the trace is of another prompt than what is attributed: record it over the same, or give a function"
        )
    if len(own) < len(exact.target_ids) and counts_from_end(under.request.graph):
        raise CallerError(f"{AT_THE_END}: record the trace over the whole sequence, or give a function")


def _of_writes(graph: Graph) -> Iterator[Node]:
    """The writes and what they are made of; what is only looked at is not in force."""
    needed: set[int] = set()
    for number in reversed(range(len(graph.nodes))):
        node = graph.nodes[number]
        if node.op == WRITE or number in needed:
            needed.update(ref.node for ref in node_references(node))
            yield node


def _places(node: Any) -> Iterator[Any]:
    """What a node names positions with: they are the second axis of sites."""
    if node.op in ("tensor.getitem", "tensor.setitem"):
        index = node.inputs[1] if len(node.inputs) > 1 else node.params.get("index")
        if isinstance(index, tuple) and len(index) > 1:
            yield index[1]
    yield node.params.get("positions")


def _is_from_end(place: Any) -> bool:
    if isinstance(place, slice):
        return any(isinstance(at, int) and at < 0 for at in (place.start, place.stop))
    if isinstance(place, tuple):
        return any(map(_is_from_end, place))
    return isinstance(place, int) and not isinstance(place, bool) and place < 0
