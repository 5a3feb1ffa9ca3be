"""Rules about how values flow: forward order, steps, gradients, and what has an effect at all."""

from collections.abc import Iterator

from interpd.errors import Violation
from interpd.graph.ir import Ref, Steps
from interpd.graph.order import AFTER, GRAD, PREFIX, READ, WRITE, plan_order
from interpd.graph.promotion import FLOATS
from interpd.graph.subject import Subject
from interpd.graph.types import TensorType


def impossible_orders(subject: Subject) -> Iterator[Violation]:
    """Writes that need what comes later. Fills ``plan``."""
    subject.plan = plan_order(subject.request, subject.manifest, subject.bad, subject.refs)
    yield from subject.plan.conflicts


def varying_steps(subject: Subject) -> Iterator[Violation]:
    """Outputs with a value per step whose shape is not the same at every step; values of several prompts per step."""
    plan, generation = subject.plan, subject.request.generation
    if plan is None or generation is None:
        return
    for name, ref in subject.graph.outputs.items():
        node = plan.nodes[ref.node] if 0 <= ref.node < len(plan.nodes) else None
        if node is None or not node.stacked or ref.node in subject.bad or not _has_output(subject, ref):
            continue
        types = _types_by_step(subject, ref, node.steps or Steps())
        unknown = len(types) == 1 and node.steps != Steps(0, 1) and _grows(subject, types[0])
        if len(types) > 1 or unknown:
            change = f"changes from {types[0]} to {types[1]}" if len(types) > 1 else f"{types[0]} grows with every step"
            message = f"{subject.name(ref.node)} {change}, so its steps do not stack: choose positions first, as [-1]"
            yield Violation("BAD_STEPS", f"graph.outputs[{name!r}]", message)


def _grows(subject: Subject, kind: TensorType) -> bool:
    """Whether a value has another size at each step: only the number of keys is unknown in a decode step."""
    # a source that is not tokenised yet is unknown too, and stays as it is
    settled = all(lengths.src_pos is not None for lengths in subject.lengths)
    return any(dim.size is None and (settled or dim.name == "key_pos") for dim in kind.dims)


def _has_output(subject: Subject, ref: Ref) -> bool:
    """Whether the node has that many outputs; ``request.bad_outputs`` says it when not."""
    types = subject.types[ref.node] if ref.node < len(subject.types) else None
    return types is None or 0 <= ref.output < len(types)


def _types_by_step(subject: Subject, ref: Ref, steps: Steps) -> list[TensorType]:
    """The different types of a value over its steps: one, or those of the prompt and of a later step."""
    out: list[TensorType] = []
    both = (subject.types, steps.start == 0), (subject.decode_types, (steps.stop or 0) > 1)
    for types, runs in both:
        found = types[ref.node] if runs and ref.node < len(types) else None
        if found is not None and found[ref.output] not in out:
            out.append(found[ref.output])
    return out


def steps_across_prompts(subject: Subject) -> Iterator[Violation]:
    """Values per step of one prompt used at the steps of another that may end earlier or run later."""
    plan, generation = subject.plan, subject.request.generation
    if plan is None or generation is None or len(subject.request.prompts) < 2:
        return
    whole = generation.ignore_eos and not generation.stop_strings and not generation.stop_token_ids
    prompts: list[frozenset[int]] = []
    for index, node in enumerate(subject.graph.nodes):
        used = [prompts[ref.node] for ref in subject.refs[index]] if index not in subject.bad else []
        met = frozenset[int]().union(*used)
        if node.op in (READ, WRITE, PREFIX) and plan.nodes[index].stacked and index not in subject.bad:
            met = met | {node.invoke} if met or node.op != WRITE else met
        together = len({plan.invokes[invoke].pass_index for invoke in met}) == 1
        if len(met) > 1 and not (whole and together):
            names = " and ".join(f"prompts[{invoke}]" for invoke in sorted(met))
            message = f"{subject.name(index)} needs {names} at every step, but one may end before the other"
            yield subject.fault("BAD_STEPS", index, "", f"{message}: set ignore_eos, or choose one step")
            met = frozenset()
        prompts.append(met)


def prompts_without_rows(subject: Subject) -> Iterator[Violation]:
    """Sites whose dimension 0 is not rows, in a request of which several prompts share a pass."""
    plan, sites = subject.plan, subject.manifest.sites
    if plan is None or len(subject.request.prompts) < 2:
        return
    generates = subject.request.generation is not None
    passes = [invoke.pass_index for invoke in plan.invokes if invoke.reads or generates]
    if len(set(passes)) == len(passes):
        return
    for index, node in subject.sound():
        site = sites.get(str(node.params.get("site"))) if node.op in (READ, WRITE) else None
        if site is not None and not site.shares_pass:
            text = f"dimension 0 of {site.name!r} is not rows: give each prompt a request of its own"
            yield subject.fault("UNSUPPORTED", index, "params.site", text)


def unsupported_in_generation(subject: Subject) -> Iterator[Violation]:
    """Gradients and methods while tokens are generated."""
    if not subject.n_steps:
        return
    for index, node in subject.sound():
        if node.op == GRAD or subject.schema(index).is_method:
            what = "gradients" if node.op == GRAD else f"methods ({node.op})"
            yield subject.fault(
                "UNSUPPORTED", index, "op", f"{what} do not run in a generation: send the tokens as a prompt"
            )


def bad_targets(subject: Subject) -> Iterator[Violation]:
    """Gradients with respect to what was not read, or of what does not depend on it."""
    grads = list(subject.sound(GRAD))
    wanted: dict[int, int] = {}
    for index, node in grads:
        wrt = node.inputs[1]
        if not isinstance(wrt, Ref) or subject.graph.nodes[wrt.node].op != READ:
            message = "port 'wrt' wants the value of a site.read itself, not what was computed from it"
            yield subject.fault("BAD_TARGET", index, "inputs[1]", message)
        elif wrt.node not in subject.bad:
            wanted.setdefault(wrt.node, len(wanted))
    if not wanted or subject.plan is None or subject.plan.conflicts:
        return
    reached = _reach(subject, wanted)
    for index, node in grads:
        target, wrt = node.inputs[0], node.inputs[1]
        # a read that is not wanted is wrong itself, and has its own fault
        if index in subject.bad or subject.types[index] is None or not isinstance(wrt, Ref) or wrt.node not in wanted:
            continue
        if not isinstance(target, Ref) or not reached[target.node] >> wanted[wrt.node] & 1:
            yield subject.fault("BAD_TARGET", index, "inputs[0]", _no_way(subject, target, wrt))


def _no_way(subject: Subject, target: object, wrt: Ref) -> str:
    """Why a target has no gradient with respect to a read."""
    source = subject.name(target.node) if isinstance(target, Ref) else "a constant"
    waiting, seen = [target.node] if isinstance(target, Ref) else [], set[int]()
    while waiting:
        index = waiting.pop()
        if subject.graph.nodes[index].op == GRAD:
            other = subject.name(index)
            return f"target {source} comes from the gradient {other}, and second derivatives are not computed"
        if index not in seen:
            seen.add(index)
            waiting += [ref.node for ref in subject.refs[index]]
    return f"target {source} does not depend on {subject.name(wrt.node)}, so there is no gradient"


def _reach(subject: Subject, wanted: dict[int, int]) -> list[int]:
    """For each node a set of bits: which of the ``wanted`` reads its value may depend on, differentiably.

    Bits travel along references, through writes into the prompt's stream, and from a read to every later read of
    its prompt. Nodes are visited in the order in which they run.
    """
    plan = subject.plan
    assert plan is not None, "the order is planned before"
    nodes = subject.graph.nodes
    bits = [0] * len(nodes)
    stream = [0] * len(subject.request.prompts)
    for index in sorted(range(len(nodes)), key=lambda i: (plan.nodes[i].pass_index, plan.nodes[i].order, i)):
        if subject.types[index] is None:
            continue
        node = nodes[index]
        if node.op == READ:
            if index in wanted:
                stream[node.invoke] |= 1 << wanted[index]
            bits[index] = stream[node.invoke]
            continue
        mixed = 0
        for ref in subject.refs[index]:
            mixed |= bits[ref.node]
        if node.op == WRITE:
            stream[node.invoke] |= mixed
        elif mixed and _passes_gradients(subject, index):
            bits[index] = mixed
    return bits


def _passes_gradients(subject: Subject, index: int) -> bool:
    op, schema, types = subject.graph.nodes[index].op, subject.schema(index), subject.types[index]
    if op in (GRAD, "tensor.detach") or schema.is_method or not schema.differentiable:
        return False
    return any(kind.dtype in FLOATS or kind.dtype == "any" for kind in types or ())


def without_effect(subject: Subject) -> Iterator[Violation]:
    """Nodes that reach no output and no write, and writes after which nothing is read."""
    needed = _needed(subject)
    used = {ref.node for refs in subject.refs for ref in refs}
    for index, node in subject.sound():
        if index not in needed and index not in used:
            message = f"{subject.name(index)} ({node.op}) reaches no output and no write: return it or leave it out"
            yield subject.fault("UNUSED_NODE", index, "", message)
    yield from _writes_without_effect(subject)


def _needed(subject: Subject) -> set[int]:
    """Nodes that an output, a write, a method or a bad node (which may be mended) needs."""
    n = len(subject.graph.nodes)
    needed = {ref.node for ref in subject.graph.outputs.values() if 0 <= ref.node < n} | subject.bad
    for index in range(n - 1, -1, -1):
        node = subject.graph.nodes[index]
        schema = subject.manifest.ops.get(node.op)
        if index in needed or node.op == WRITE or (schema is not None and schema.is_method):
            needed.add(index)
            needed.update(ref.node for ref in subject.refs[index] if 0 <= ref.node < index)
    return needed


def _writes_without_effect(subject: Subject) -> Iterator[Violation]:
    if subject.n_steps or subject.plan is None or subject.plan.conflicts:
        return
    last_read: dict[int, tuple[int, int]] = {}
    for index, node in subject.sound():
        if node.op == READ:
            last_read[node.invoke] = max(last_read.get(node.invoke, (-1, -1)), (subject.plan.nodes[index].order, index))
        elif subject.schema(index).is_method:
            last_read[node.invoke] = (AFTER, index)
    if subject.bad:
        return
    for index, node in subject.sound(WRITE):
        if (subject.plan.nodes[index].order, index) > last_read.get(node.invoke, (-1, -1)):
            message = (
                f"write at {node.params['site']!r} has no effect: nothing of prompt {node.invoke} is read after it"
            )
            yield subject.fault("UNUSED_NODE", index, "", message)
