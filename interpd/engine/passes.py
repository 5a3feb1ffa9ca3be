"""One forward pass that several requests share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interpd.engine import rows
from interpd.engine.interpreter import Execution, Spot
from interpd.engine.model_access import ModelAccess
from interpd.engine.nnsight_driver import Item, Visit, visits_of
from interpd.engine.planning import Program, Step
from interpd.engine.rows import Frame, Row
from interpd.engine.runs import Run
from interpd.errors import CallerError, DeviceOutOfMemory, InternalError, InterpdError
from interpd.graph.order import READ, WRITE


@dataclass(slots=True)
class Share:
    """One request in a pass."""

    run: Run
    execution: Execution
    steps: tuple[Step, ...]


class SharedPass:
    """What a pass shows to all that share it, visit by visit."""

    def __init__(self, shares: Sequence[Share], frame: Frame) -> None:
        self._executions = [share.execution for share in shares]
        self._frame = frame

    def on_visit(self, visit: Visit, tensors: dict[Item, Tensor]) -> Mapping[Item, Tensor]:
        """The tensors that were written to."""
        spot = Spot(tensors, self._frame.n_pos)
        for execution in self._executions:
            execution.visit(visit, spot, self._frame)
        return spot.changed


def run_plain_pass(access: ModelAccess, runs: Sequence[Run], *, eager: bool) -> None:
    """Runs the next pass of each of ``runs`` as one. Raises what the model's forward raises."""
    shares = _shares(runs)
    prompts = [run.program.tokens[invoke].ids for run in runs for invoke in _invokes(run)]
    ids = padded_right(prompts, access.device)
    mask = length_mask([len(prompt) for prompt in prompts], ids.shape[1], access.device)
    steps = [(share.run.program, step, share.execution.rows) for share in shares for step in share.steps]
    frame = with_kept_logits(access, Frame(ids.shape[1]), steps)
    visits = visits_of(place for share in shares for place in _places(share))
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False, **keep_argument(frame, access.device)}
    access.resident.set_attention(eager)
    access.driver.run(
        inputs, visits, SharedPass(shares, frame).on_visit, grad=any(run.needs_grad for run in runs), stop=True
    )
    deepest = n_layers_run(access, [step for share in shares for step in share.steps])
    for share in shares:
        with torch.set_grad_enabled(share.run.needs_grad):
            share.execution.finish()
        own = sum(row.n_pos for row in share.execution.rows.values())
        share.run.used.count_pass(own, deepest, len(runs))
        share.run.take(share.execution)


def _invokes(run: Run) -> tuple[int, ...]:
    return run.program.invokes_of_pass(run.pass_index)


def _shares(runs: Sequence[Run]) -> list[Share]:
    shares, index = [], 0
    for run in runs:
        own_rows: dict[int, Row] = {}
        for invoke in _invokes(run):
            n_tokens = len(run.program.tokens[invoke].ids)
            own_rows[invoke] = Row(index, n_tokens, n_tokens)
            index += 1
        steps = run.program.steps_inside(run.pass_index)
        shares.append(Share(run, run.execution(steps, own_rows), steps))
    return shares


def _places(share: Share) -> Iterable[Any]:
    order = share.run.program.order
    last = max(order.invokes[invoke].last_order for invoke in share.execution.rows)
    present = [step for step in share.steps if step.invoke in share.execution.rows]
    return share.run.program.places(present, last)


def n_layers_run(access: ModelAccess, steps: Iterable[Step]) -> int:
    """How many layers a pass runs that ends behind the deepest of these sites."""
    deepest = max((step.binding.site.layer for step in steps if step.binding is not None), default=-1)
    return min(deepest + 1, access.resident.info.n_layers)


def padded_right(ids: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Token ids ``[batch pos]`` with padding behind the shorter rows."""
    n_pos = max(map(len, ids))
    return torch.tensor([[*row, *([0] * (n_pos - len(row)))] for row in ids], dtype=torch.int64, device=device)


def length_mask(lengths: Sequence[int], n_pos: int, device: torch.device) -> Tensor | None:
    """The mask ``[batch pos]`` of rows that are padded on the right; ``None`` where nothing is padded."""
    if all(length == n_pos for length in lengths):
        return None
    return (torch.arange(n_pos, device=device) < torch.tensor(lengths, device=device)[:, None]).long()


def keep_argument(frame: Frame, device: torch.device) -> dict[str, Tensor]:
    """The argument that makes the model compute logits at some positions only."""
    if frame.kept is None:
        return {}
    return {"logits_to_keep": torch.tensor(frame.kept, dtype=torch.int64, device=device)}


def with_kept_logits(
    access: ModelAccess, frame: Frame, steps: Iterable[tuple[Program, Step, Mapping[int, Row]]], *, last: bool = False
) -> Frame:
    """``frame`` with the positions at which anybody needs logits, when these are some only and can be told.

    Args:
        access: The model.
        frame: The pass.
        steps: What runs, with the rows of its request.
        last: Whether the last position is needed in any case.
    """
    final = access.resident.bindings.get("ln_final")
    if final is None or not access.can_keep_logits:
        return frame
    needed = {frame.n_pos - 1} if last else set()
    for program, step, own_rows in steps:
        if step.binding is None or step.invoke not in own_rows or step.binding.location.order <= final.location.order:
            continue
        if step.binding.site.name != rows.LOGITS:
            return frame
        row = own_rows[step.invoke]
        positions = step.params.get("positions") if step.op == READ else None
        if positions is None or step.index in program.grad_sources:
            positions = range(row.n_pos)
        needed.update(row.first(frame) + place for place in rows.own_positions(tuple(positions), row.n_pos))
    return frame if not needed or len(needed) == frame.n_pos else replace(frame, kept=tuple(sorted(needed)))


def blamed_on(error: Exception, program: Program) -> InterpdError:
    """What a request is told whose pass failed although it ran alone."""
    if isinstance(error, InterpdError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return DeviceOutOfMemory(f"the pass needs more memory than the device has: {error}")
    cause = f"the model's forward pass raised {type(error).__name__}: {error}"
    written = sorted({str(step.params["site"]) for step in program.steps if step.op == WRITE})
    if written:
        return CallerError(f"with writes at {', '.join(map(repr, written))} in force, {cause}")
    return InternalError(cause)
