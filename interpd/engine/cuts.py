"""Where a pass of a method may be cut in two: between blocks, where the stream is all that goes on.

A method that records gradients needs not hold the whole of a pass: it passes each part by itself, beginning with the
stream that the part before has left. Nothing else may lead from one part to the other. That the model's own code has
nothing, the proof for ``Boundaries`` has shown; what the graph leads past a cut is known from its nodes.
"""

from collections.abc import Sequence

from interpd.engine.binding import Binding
from interpd.engine.blame import Misuse
from interpd.engine.method_plan import MethodPlan
from interpd.engine.method_request import PassRequest, argument_of
from interpd.engine.model_access import ModelAccess
from interpd.engine.nnsight_driver import LeftOut
from interpd.engine.planning import Program, Step
from interpd.engine.resident import ResidentModel
from interpd.graph.ir import Ref
from interpd.graph.order import AFTER, READ, WRITE
from interpd.plugin.annotations import Recomputed
from interpd.plugin.method import Begin


def cuts_of(access: ModelAccess, program: Program, step: Step, handles: Sequence[Recomputed]) -> tuple[str, ...]:
    """The sites at which passes of a method may be cut, in forward order.

    Args:
        access: The model.
        program: The graph.
        step: The method.
        handles: The recomputed ports whose values are wanted.
    """
    spans = _spans(program, step, handles)
    return tuple(
        binding.site.name
        for binding in _between_blocks(access.resident)
        if not any(first <= binding.location.order < last for first, last in spans)
    )


def _between_blocks(resident: ResidentModel) -> list[Binding]:
    """The sites between blocks, and that behind the last one."""
    at = {}
    for binding in resident.bindings.values():
        if binding.view is None and not binding.folded:
            # canonical names come first
            at.setdefault(binding.location, binding)
    if resident.boundaries.behind:
        # what follows the blocks takes up more than the stream: gradients would lack its other way
        return []
    return [at[place] for place in resident.boundaries.places[1:] if place in at]


def _spans(program: Program, step: Step, handles: Sequence[Recomputed]) -> list[tuple[int, int]]:
    """From where to where the graph leads something past the stream: ``order`` of a read, and of what is made of it."""
    writes = [one for one in program.steps if one.op == WRITE and one.invoke == step.invoke]
    ends = [(one.index, one.plan.order) for one in writes]
    ends += [(one.node, AFTER) for handle in handles if isinstance(one := argument_of(step, handle), Ref)]
    spans = []
    for node, last in ends:
        reads = [one.plan.order for one in program.steps_again(step.invoke, [node]) if one.op == READ]
        if reads:
            spans.append((min(reads), last))
    return spans


def check_begin(request: PassRequest, cuts: Sequence[str]) -> None:
    """Raises ``Misuse`` for a pass that cannot begin where it should."""
    begins = [site for site, edit in request.edits.items() if isinstance(edit, Begin)]
    if len(begins) > 1:
        raise Misuse(f"a pass begins at one site, got {', '.join(map(repr, begins))}")
    begin = request.begin
    if begin not in cuts:
        raise Misuse(f"a pass cannot begin at {begin!r}; it can at one of cuts(values): {', '.join(cuts) or 'none'}")


def left_out(resident: ResidentModel, plan: MethodPlan, begin: str | None) -> LeftOut | None:
    """The blocks before the beginning of a pass; ``None`` where they have to run, because somebody looks at them."""
    if begin is None:
        return None
    stream, *outputs = resident.boundaries.places
    cut = resident.bindings[begin].location
    before = [place for place in outputs if place.order <= cut.order]
    # a block that returns more than its stream is not ours to imitate
    if any(place.item is not None for place in before) or any(
        stream.order < place.order < cut.order for place in plan.places
    ):
        return None
    return LeftOut(stream, tuple(place.path for place in before))
