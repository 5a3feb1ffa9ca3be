"""One accepted request on its way through its passes."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from interpd.engine.interpreter import Execution, Handle, evaluate, run_step
from interpd.engine.memory import Values
from interpd.engine.model_access import ModelAccess
from interpd.engine.planning import Program, Step
from interpd.errors import InterpdError
from interpd.graph.order import GRAD
from interpd.graph.run import Generated


class Phase(Enum):
    """What a run waits for."""

    NEW = auto()
    """To be begun."""
    PASS = auto()
    GENERATION = auto()
    """To be taken into a generation batch."""
    GENERATING = auto()
    """The next step of its batch."""
    GRADIENT = auto()
    METHOD = auto()
    ENDED = auto()


@dataclass(slots=True)
class Used:
    """What a run has used so far: the raw numbers of its ``Cost``."""

    n_tokens: int = 0
    n_layers: int = 0
    shared_with: list[int] = field(default_factory=list)
    taken_in: float = field(default_factory=monotonic)
    started: float | None = None
    plugins: dict[str, None] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], None] = field(default_factory=dict)
    """(name, digest) of each."""

    def count_pass(self, n_tokens: int, n_layers: int, n_sharing: int) -> None:
        """Counts one forward pass."""
        self.n_tokens += n_tokens
        self.n_layers = max(self.n_layers, n_layers)
        self.shared_with.append(n_sharing)


class Run:
    """A request, its values, and what it waits for.

    Args:
        program: What to run.
        access: The model.
        turn: Its place in the line.
    """

    def __init__(self, program: Program, access: ModelAccess, turn: int) -> None:
        self.program = program
        self.id = program.request.run_id
        self.turn = turn
        self.values = Values(
            program.uses, program.kept_steps, keep_all=program.has_methods or program.request.generation is not None
        )
        self.pass_index = -1
        self.phase = Phase.NEW
        self.error: InterpdError | None = None
        self.handles: dict[int, Handle] = {}
        self.generated: dict[int, Generated] = {}
        self.warnings: dict[str, str] = {}
        """By node."""
        self.used = Used()
        self._access = access
        self._pending: deque[Step] = deque()

    @property
    def access(self) -> ModelAccess:
        """The model, with the adapter that the request asked for in force."""
        return self._access

    @property
    def adapter_key(self) -> str:
        """What tells that adapter from all others; empty: it asked for none."""
        return self._access.adapter_key

    @property
    def needs_grad(self) -> bool:
        """Whether its passes record an autograd graph."""
        return self.program.order.needs_grad

    def fail(self, error: InterpdError) -> None:
        """Ends it; everything that it held is dropped."""
        self.error = self.error or error
        self.phase = Phase.ENDED
        self.forget()

    def forget(self) -> None:
        """Drops values and graphs."""
        self.values = Values(self.program.uses)
        self.handles = {}
        self._pending.clear()

    def begin(self) -> None:
        """Computes what needs no pass and takes up the first pass."""
        self._guarded(self._run_all, self.program.steps_before(0))
        self.advance()

    def advance(self) -> None:
        """Runs what follows the present pass, up to the next thing that has to be waited for."""
        while self.phase is not Phase.ENDED:
            if self._pending and not self._after_pass():
                return
            if self.phase is Phase.ENDED:
                return
            if self.pass_index + 1 == self.program.order.n_passes:
                self.phase = Phase.ENDED
                return
            self.pass_index += 1
            self._pending.extend(self.program.steps_after(self.pass_index))
            if self.program.invokes_of_pass(self.pass_index):
                self.phase = Phase.GENERATION if self.program.request.generation else Phase.PASS
                return

    def _after_pass(self) -> bool:
        """Whether all that follows the pass is done."""
        while self._pending and self.phase is not Phase.ENDED:
            step = self._pending[0]
            if step.op == GRAD:
                self.phase = Phase.GRADIENT
                return False
            if step.schema.is_method:
                self.phase = Phase.METHOD
                return False
            self._pending.popleft()
            self._guarded(self._run_all, (step,))
        return self.phase is not Phase.ENDED

    def _run_all(self, steps: tuple[Step, ...]) -> None:
        with torch.set_grad_enabled(self.needs_grad):
            for step in steps:
                run_step(
                    self._access,
                    step,
                    lambda step=step: evaluate(self._access, self.program, step, self.values),
                    self.values,
                )

    def _guarded(self, act: Any, steps: tuple[Step, ...]) -> None:
        try:
            act(steps)
        except InterpdError as error:
            self.fail(error)

    def execution(
        self, steps: tuple[Step, ...], own_rows: dict[int, Any], so_far: Mapping[int, Sequence[int]] | None = None
    ) -> Execution:
        """Its share of a pass in which ``steps`` run; ``so_far``: of a generation, as ``Execution`` takes it."""
        return Execution(self.program, self.values, steps, own_rows, self._access, so_far=so_far)

    def take(self, execution: Execution) -> None:
        """Takes over what an execution of a pass has found."""
        self.handles.update(execution.handles)
        for step in execution.missed:
            self.warnings.setdefault(
                step.name,
                f"{step.name} (write at {step.params['site']!r}) is not in force from step {self.values.step} on: "
                "the generation of a prompt that it takes values of had ended",
            )
        if execution.failed is not None:
            self.fail(execution.failed)

    def next_gradients(self) -> list[Step]:
        """The gradients of one target that come next."""
        first = self._pending[0]
        ready = [step for step in self._pending if step.op == GRAD and self.values.has(step.inputs[0].node)]
        return [step for step in ready if step.inputs[0] == first.inputs[0]]

    def put_gradients(self, found: dict[int, Tensor]) -> None:
        """Keeps gradients by node, and drops the graph after the last one."""
        done = [step for step in self._pending if step.index in found]
        self._pending = deque(step for step in self._pending if step.index not in found)
        for step in done:
            run_step(self._access, step, lambda step=step: (found[step.index],), self.values)
        if not self._has_gradients_left():
            self.handles = {}
            self.values.replace({node: _detached(outputs) for node, outputs in self.values.singles().items()})

    def _has_gradients_left(self) -> bool:
        return any(
            step.op == GRAD and (step in self._pending or step.plan.pass_index > self.pass_index)
            for step in self.program.steps
        )

    def next_method(self) -> Step:
        """The method that it waits for."""
        return self._pending[0]

    def put_method(self, outputs: tuple[Any, ...]) -> None:
        """Keeps what the method returned."""
        step = self._pending.popleft()
        run_step(self._access, step, lambda: outputs, self.values)


def _detached(outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.detach() if isinstance(value, Tensor) else value for value in outputs)
