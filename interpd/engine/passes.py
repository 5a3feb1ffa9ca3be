"""One forward pass that several requests share."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interpd.engine import rows
from interpd.engine.binding import Location
from interpd.engine.boundaries import Boundaries
from interpd.engine.inputs import prompt_inputs
from interpd.engine.interpreter import Execution, Spot
from interpd.engine.lineup import Lineup, Part, Stage
from interpd.engine.model_access import ModelAccess
from interpd.engine.nnsight_driver import Item, Visit, visits_of
from interpd.engine.planning import Program, Step
from interpd.engine.rows import Frame, Row, row_of
from interpd.engine.runs import Run
from interpd.errors import CallerError, DeviceOutOfMemory, InternalError, InterpdError
from interpd.graph.order import AFTER, BEFORE, READ, WRITE
from interpd.graph.run import Tokens


@dataclass(slots=True)
class Share:
    """One request in a pass."""

    run: Run
    execution: Execution
    steps: tuple[Step, ...]


class SharedPass:
    """What a pass shows to all that share it, visit by visit.

    Args:
        shares: Who shares it.
        frame: Its shape.
        lineup: How its rows change; ``None``: they do not. Its prompts are numbered in the order of ``shares``.
    """

    def __init__(self, shares: Sequence[Share], frame: Frame, lineup: Lineup | None = None) -> None:
        self._executions = [share.execution for share in shares]
        self._seats = [(execution, invoke) for execution in self._executions for invoke in execution.rows]
        self._frame = frame
        self._lineup = lineup

    def on_visit(self, visit: Visit, tensors: dict[Item, Tensor]) -> Mapping[Item, Tensor]:
        """The tensors that were written to, or whose rows have changed."""
        changed: dict[Item, Tensor] = {}
        if self._lineup is not None:
            stage, changed = self._lineup.arrive(visit, tensors)
            if stage is not None:
                self._take_places(stage)
        spot = Spot(tensors, self._frame.n_pos, changed)
        for execution in self._executions:
            execution.visit(visit, spot, self._frame)
        return spot.changed

    def _take_places(self, stage: Stage) -> None:
        for number, (execution, invoke) in enumerate(self._seats):
            if number in stage.rows:
                execution.rows[invoke] = replace(execution.rows[invoke], index=stage.rows[number])
            else:
                execution.rows.pop(invoke, None)


Seat = tuple[Run, int]
"""A prompt in a pass: its request and its number there."""


def run_plain_pass(access: ModelAccess, runs: Sequence[Run], *, eager: bool, rows_change: bool = True) -> None:
    """Runs the next pass of each of ``runs`` as one. Raises what the model's forward raises.

    Args:
        access: The model.
        runs: Who shares the pass.
        eager: Whether it runs eager attention.
        rows_change: Whether equal prompts share a row while they are equal, and rows that are done leave.
    """
    needs_grad = any(run.needs_grad for run in runs)
    seats = [(run, invoke) for run in runs for invoke in run.program.invokes_of_pass(run.pass_index)]
    lineup = _lineup(access, seats) if rows_change and not needs_grad else _fixed_lineup(len(seats))
    shares = _shares(runs, seats, lineup)
    prompts = [_tokens(seats[number]) for number in lineup.start.sources]
    steps = [(share.run.program, step, share.execution.rows) for share in shares for step in share.steps]
    frame = with_kept_logits(access, Frame(max(prompt.lengths.pos or 0 for prompt in prompts)), steps)
    places = {place for share in shares for place in _places(share)}
    places.update(lineup.places(max((place.order for place in places), default=BEFORE)))
    inputs = {**prompt_inputs(prompts, access.device), **keep_argument(frame, access.index_device)}
    own = [[share.run.program.tokens[invoke].lengths for invoke in share.execution.rows] for share in shares]
    access.resident.set_attention(eager)
    on_visit = SharedPass(shares, frame, lineup).on_visit
    access.driver.run(inputs, visits_of(places), on_visit, grad=needs_grad, stop=True)
    everything = [step for share in shares for step in share.steps]
    for share, lengths in zip(shares, own, strict=True):
        with torch.set_grad_enabled(share.run.needs_grad):
            share.execution.finish()
        deepest = n_layers_run(access, share.steps if lineup.rows_leave else everything)
        n_encoder_layers = access.resident.info.n_encoder_layers
        n_tokens = sum(one.computed(deepest, n_encoder_layers) or 0 for one in lengths)
        share.run.used.count_pass(n_tokens, deepest, len(runs))
        share.run.take(share.execution)


def _tokens(seat: Seat) -> Tokens:
    run, invoke = seat
    return run.program.tokens[invoke]


def _lineup(access: ModelAccess, seats: Sequence[Seat]) -> Lineup:
    return Lineup([_part(seat) for seat in seats], boundaries_for(access, [run for run, _ in seats]))


def boundaries_for(access: ModelAccess, runs: Iterable[Run]) -> Boundaries:
    """Where the rows of a pass of ``runs`` may change; nowhere, if one looks at what does not change with them."""
    boundaries = access.resident.boundaries
    if boundaries.stale:
        programs = {run.id: run.program for run in runs}
        if any(not boundaries.stale.isdisjoint(program.places(program.steps)) for program in programs.values()):
            return Boundaries()
    return boundaries


def _part(seat: Seat) -> Part:
    run, invoke = seat
    plan = run.program.order.invokes[invoke]
    first_write = min((run.program.steps[index].plan.order for index in plan.writes), default=AFTER)
    return Part(_key(run.program.tokens[invoke]), first_write, plan.last_order)


def _key(tokens: Tokens) -> Hashable:
    return tokens.ids if tokens.target is None else (tokens.ids, tokens.target.ids)


def row_keys(run: Run) -> tuple[Hashable, ...]:
    """For each prompt of its next pass, what it has in common with those that share its row to the end."""
    program = run.program
    invokes = program.invokes_of_pass(run.pass_index)
    has_row = run.needs_grad or program.request.generation is not None
    return tuple(
        (run.id, invoke) if has_row or program.order.invokes[invoke].writes else _key(program.tokens[invoke])
        for invoke in invokes
    )


def may_change_rows(run: Run) -> bool:
    """Whether the rows of its next pass may change although it runs alone."""
    return not run.needs_grad and len(run.program.invokes_of_pass(run.pass_index)) > 1


def _fixed_lineup(n_prompts: int) -> Lineup:
    return Lineup([Part(number) for number in range(n_prompts)], Boundaries())


def _shares(runs: Sequence[Run], seats: Sequence[Seat], lineup: Lineup) -> list[Share]:
    own_rows: dict[str, dict[int, Row]] = {run.id: {} for run in runs}
    for number, (run, invoke) in enumerate(seats):
        own_rows[run.id][invoke] = row_of(lineup.start.rows[number], _tokens((run, invoke)).lengths)
    shares = []
    for run in runs:
        steps = run.program.steps_inside(run.pass_index)
        shares.append(Share(run, run.execution(steps, own_rows[run.id]), steps))
    return shares


def _places(share: Share) -> Iterable[Location]:
    order = share.run.program.order
    last = max(order.invokes[invoke].last_order for invoke in share.execution.rows)
    present = [step for step in share.steps if step.invoke in share.execution.rows]
    return share.run.program.places(present, last)


def n_layers_run(access: ModelAccess, steps: Iterable[Step]) -> int:
    """How many layers a pass runs that ends behind the deepest of these sites."""
    deepest = max((step.binding.site.layer for step in steps if step.binding is not None), default=-1)
    return min(deepest + 1, access.resident.info.n_layers)


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
    cut = access.resident.kept_from
    if cut is None:
        return frame
    needed = {frame.n_pos - 1} if last else set()
    for program, step, own_rows in steps:
        if step.binding is None or step.invoke not in own_rows or step.binding.location.order < cut:
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
