"""Writes that are in force while a sequence is attributed: of a function, or of a trace that was not run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from interpd.errors import CallerError
from interpd.graph.ir import Graph, Node, Prompt, Slice, Steps, node_references
from interpd.graph.order import WRITE
from interpd.graph.run import Tokens
from interpd_attribution.features.covering import offsets
from interpd_attribution.sequences import Exact
from interpd_client import Model, Trace
from interpd_client.recording import STEPPED

AT_THE_END = "positions counted from the end ([:, -1]) are others in the whole sequence than in the prompt alone"


def opened(model: Model, exact: Exact, under: Any, options: dict[str, Any]) -> Trace:
    """A trace of the sequence with the writes of ``under`` recorded.

    Raises ``CallerError`` for a trace of another prompt, and for one of the prompt alone that counts from its end.
    """
    if under is None or not isinstance(under, Trace):
        t = model.trace(exact.prompt, **options)
        find_texts(t, exact)
        if under is not None:
            under(t)
        return t
    _check_prompt(model, exact, under)
    t = under.again(exact.prompt, **options)
    find_texts(t, exact)
    return t


def record(under: Any, g: Any, exact: Exact) -> None:
    """Records writes in a generation. Raises ``CallerError`` where they do not mean the same there."""
    if under is None:
        return
    if isinstance(under, Trace):
        raise CallerError("a trace is recorded over one prompt and continues nothing: give generated, or a function")
    find_texts(g, exact)
    under(g)
    _at_the_prompt(g._recording.nodes, len(exact.target_ids))
    if counts_from_end(g.request.graph):
        raise CallerError(f"{AT_THE_END}, and at each step of a generation: give generated")


def written(t: Trace) -> list[str]:
    """What a trace writes, in order, a line for each: the site, and the positions where it names some."""
    nodes = t._recording.nodes
    lines = []
    for node in nodes:
        if node.op == WRITE:
            (value,) = node_references(node) or (None,)
            places = [] if value is None else [place for place in _places(nodes[value.node]) if place is not None]
            lines.append(str(node.params["site"]) + "".join(f" at {_spelled(place)}" for place in places))
    return list(dict.fromkeys(lines))


def _spelled(place: Any) -> str:
    if isinstance(place, Slice):
        return ":".join("" if at is None else str(at) for at in (place.start, place.stop))
    if isinstance(place, tuple):
        return ", ".join(map(_spelled, place))
    return str(place) if isinstance(place, int) else "positions of a value"


def _at_the_prompt(nodes: list[Node], n_prompt: int) -> None:
    """Lets writes at positions of the prompt act in its pass only, which the steps behind it remember."""
    for number in range(len(nodes)):
        if nodes[number].op != WRITE:
            continue
        chain = _made_of(nodes, number)
        changed = [list(_places(nodes[at])) for at in chain if nodes[at].op == "tensor.setitem"]
        if changed and all(places and _is_within(places[0], n_prompt) for places in changed):
            for at in chain:
                if nodes[at].op in STEPPED and nodes[at].steps is None:
                    nodes[at] = replace(nodes[at], steps=Steps(0, 1))


def _made_of(nodes: Sequence[Node], number: int) -> list[int]:
    """A node and all that it is made of."""
    found, waiting = set[int](), [number]
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting += [ref.node for ref in node_references(nodes[at])]
    return sorted(found)


def _is_within(place: Any, n: int) -> bool:
    """Whether a place names some of the first ``n`` positions, counted from the beginning."""
    if isinstance(place, Slice):
        return isinstance(place.stop, int) and 0 <= place.stop <= n and (place.start is None or place.start >= 0)
    if isinstance(place, tuple):
        return all(_is_within(one, n) for one in place)
    return isinstance(place, int) and not isinstance(place, bool) and 0 <= place < n


def find_texts(t: Trace, exact: Exact) -> None:
    """Has ``t.tokens("Marsh")`` look in the prompt as the caller wrote it: what a request is given is its ids alone.

    So a text means the same positions while a continuation is generated and when it is attributed. What a decoder is
    given is looked at as its ids decode.
    """
    recording = t._recording
    ask = recording.tokenize

    def tokenize(prompt: Prompt) -> Tokens:
        tokens = ask(prompt)
        source = _placed(exact.source)
        rest = len(tokens.ids) - len(source.ids)
        target = None if tokens.target is None else _placed(tokens.target, n_before=1)
        return replace(tokens, text=source.text, offsets=source.offsets + ((0, 0),) * rest, target=target)

    recording.tokenize = tokenize


def _placed(tokens: Tokens, n_before: int = 0) -> Tokens:
    """The tokens with their characters, where they can be found in the text, which the first ones may not be in."""
    for n in sorted({n_before, 0}, reverse=True):
        rest = replace(tokens, strings=tokens.strings[n:], offsets=tokens.offsets[n:])
        try:
            return replace(tokens, offsets=((0, 0),) * n + tuple(offsets(rest)))
        except CallerError:
            # they decode to other characters together than alone: who looks for a text is told that it has no positions
            continue
    return tokens


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
    if isinstance(place, Slice):
        return any(isinstance(at, int) and at < 0 for at in (place.start, place.stop))
    if isinstance(place, tuple):
        return any(map(_is_from_end, place))
    return isinstance(place, int) and not isinstance(place, bool) and place < 0
