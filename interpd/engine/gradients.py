"""Gradients after a pass: one backward for all requests that shared it.

Gradients are taken with respect to *handles*: at the place of a read that somebody differentiates by, the pass
puts the row's value back as a new node of the autograd graph (``interpreter.py``). So a gradient is the derivative of
the target by what a write at that place would change, whatever other paths the model's code has, and rows of
strangers, which do not see one another, can be differentiated together: the gradient of the sum of their targets is
each one's own. Reads of one site with no write between them are one value.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from interpd.engine.planning import Program, Step
from interpd.engine.runs import Phase, Run
from interpd.errors import CallerError, DeviceOutOfMemory, InterpdError
from interpd.graph.order import READ, WRITE


def differentiate(runs: Sequence[Run]) -> None:
    """Takes all gradients that these runs wait for, round by round: one target of each run per round."""
    while waiting := [run for run in runs if run.phase is Phase.GRADIENT]:
        asking = [run for run in waiting if _may_ask(run)]
        if len(asking) > 1 and not _try_round(asking):
            for run in asking:
                _round_alone(run)
        elif len(asking) == 1:
            _round_alone(asking[0])
        for run in asking:
            run.advance()


def _may_ask(run: Run) -> bool:
    try:
        for step in run.next_gradients():
            _check(run, step)
    except InterpdError as error:
        run.fail(error)
        return False
    return True


def _check(run: Run, step: Step) -> None:
    """Raises ``CallerError`` for a target that has no gradient by this read."""
    target, wrt = step.inputs
    value = run.values.get(target)
    steps = run.program.steps
    names = f"{step.name}: {steps[target.node].name}"
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        raise CallerError(f"{names} is no float scalar, so it has no gradient", node=step.name)
    if not reaches(run.program, target.node, wrt.node):
        raise CallerError(
            f"{names} does not depend on {steps[wrt.node].name} (read at {steps[wrt.node].params['site']!r}), "
            "so it has no gradient by it",
            node=step.name,
        )


def _try_round(runs: Sequence[Run]) -> bool:
    try:
        found = _backward(runs)
    except Exception:  # somebody's graph cannot be differentiated: each is tried alone, and told
        return False
    for run in runs:
        run.put_gradients(found[run.id])
    return True


def _round_alone(run: Run) -> None:
    try:
        run.put_gradients(_backward([run])[run.id])
    except InterpdError as error:
        run.fail(error)
    except torch.OutOfMemoryError as error:
        run.fail(DeviceOutOfMemory(f"backward pass: {error}"))
    except Exception as error:  # the run of one node: its own operations are what is differentiated
        names = ", ".join(step.name for step in run.next_gradients())
        run.fail(CallerError(f"{names}: cannot be differentiated: {type(error).__name__}: {error}"))


def _backward(runs: Sequence[Run]) -> dict[str, dict[int, Tensor]]:
    """By run and node, the gradients of one round."""
    asked = {run.id: run.next_gradients() for run in runs}
    with torch.enable_grad():
        values = [run.values.get(asked[run.id][0].inputs[0]) for run in runs]
        targets = [value.sum() for value in values if value.requires_grad]
    by_id = {id(handle): handle for run in runs for step in asked[run.id] if (handle := _handle(run, step)) is not None}
    found: dict[int, Tensor | None] = {}
    if targets:
        # the graph is kept: other rounds go through it, and it is dropped with the runs' values
        gradients = torch.autograd.grad(targets, list(by_id.values()), retain_graph=True, allow_unused=True)
        found = dict(zip(by_id, gradients, strict=True))
    return {
        run.id: {step.index: _of_read(run, step, found.get(id(_handle(run, step)))) for step in asked[run.id]}
        for run in runs
    }


def _handle(run: Run, step: Step) -> Tensor:
    return run.handles[step.inputs[1].node].tensor


def _of_read(run: Run, step: Step, gradient: Tensor | None) -> Tensor:
    handle = run.handles[step.inputs[1].node]
    # this model makes the target of other values (its keys, say, and not its queries): the derivative is zero, be
    # there a path through the tensors that strangers share or not
    full = torch.zeros_like(handle.tensor) if gradient is None else gradient
    return handle.gradient(full)


def reaches(program: Program, target: int, wrt: int) -> bool:
    """Whether the value of node ``target`` can depend on what was read at ``wrt``, through values or the model."""
    source = program.steps[wrt]
    writes = [step for step in program.steps if step.op == WRITE]
    seen: set[int] = set()
    waiting = [target]
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        step = program.steps[index]
        if index == wrt or (step.op == READ and step.invoke == source.invoke and _is_before(source, step)):
            return True
        if step.op == READ:
            waiting += [write.index for write in writes if _feeds(write, step)]
        elif step.op != "tensor.detach" and step.schema.differentiable:
            waiting += step.sources
    return False


def _is_before(one: Step, other: Step) -> bool:
    return (one.plan.order, one.index) < (other.plan.order, other.index)


def _feeds(write: Step, read: Step) -> bool:
    return write.invoke == read.invoke and _is_before(write, read)
