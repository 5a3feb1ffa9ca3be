"""What a method sees of the model, and how its passes take turns with everybody else's.

A method is plain code that calls ``session.forward`` as often as it likes. It runs in a greenlet on the engine's
thread: each call hands a ``PassRequest`` to the engine, which runs that pass in a step of its own and comes back with
the values. A cancel or a deadline is raised out of the call.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor

from interpd.engine.blame import Misuse, op_failed
from interpd.engine.cuts import check_begin, cuts_of
from interpd.engine.guard import TorchState, as_tuple, changed_since, copied, describe, versions
from interpd.engine.interpreter import loaded_params
from interpd.engine.method_plan import MethodPlan, plan_key
from interpd.engine.method_request import PassRequest, check_seed, handles_of, side
from interpd.engine.method_share import MethodShare
from interpd.engine.model_access import ModelAccess
from interpd.engine.model_config import end_ids_of
from interpd.engine.planning import Step, filled
from interpd.engine.runs import Run
from interpd.engine.tensors import to_data
from interpd.engine.tokens import special_ids
from interpd.errors import CallerError, DeviceOutOfMemory, InternalError, InterpdError, OpFailed
from interpd.graph.ir import Prompt
from interpd.graph.run import ArtifactKept, Event, Progress, Result, Tokens
from interpd.graph.schema import ModelInfo, SiteSchema
from interpd.plugin.agreement import check_values
from interpd.plugin.annotations import Recomputed


class EngineSession:
    """The ``Session`` of a method (see ``plugin/method.py``)."""

    def __init__(
        self,
        access: ModelAccess,
        ask: Callable[[PassRequest], dict[str | Recomputed, Tensor]],
        written: tuple[str, ...] = (),
        cuts: Callable[[Sequence[Recomputed]], tuple[str, ...]] = lambda values: (),
    ) -> None:
        self._access, self._ask, self._cuts = access, ask, cuts
        self.written = written
        self.info: ModelInfo = access.resident.info
        self.sites: Mapping[str, SiteSchema] = access.resident.sites
        self.device: torch.device = access.device
        self.dtype: torch.dtype = access.resident.model.dtype

    def encode(self, text: str) -> Tokens:
        """The tokens of ``text``, special tokens included."""
        return self._access.resident.tokenize(Prompt(text=text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return self._access.resident.decode(int(id_) for id_ in ids)

    def special_ids(self, *, target: bool = False) -> dict[str, int]:
        """The tokenizer's special tokens: see ``plugin.method.Session.special_ids``."""
        return special_ids(self._tokenizer(target))

    def end_ids(self, *, target: bool = False) -> frozenset[int]:
        """What a text ends with: see ``plugin.method.Session.end_ids``."""
        return end_ids_of(self._access.resident.model, self._tokenizer(target))

    def _tokenizer(self, target: bool) -> Any:
        resident = self._access.resident
        return resident.target_tokenizer if target else resident.tokenizer

    def cuts(self, values: Sequence[Recomputed] = ()) -> tuple[str, ...]:
        """Where passes may begin: see ``plugin.method.Session.cuts``."""
        return self._cuts(values)

    def forward(
        self,
        input_ids: Tensor,
        *,
        reads: Sequence[str] = (),
        values: Sequence[Recomputed] = (),
        edits: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        lengths: Sequence[int] | None = None,
        grad: bool = False,
        target_ids: Tensor | None = None,
        target_lengths: Sequence[int] | None = None,
        dropout_seed: int | None = None,
    ) -> dict[str | Recomputed, Tensor]:
        """The values of sites and ports in one forward pass: see ``plugin.method.Session.forward``."""
        if isinstance(reads, str):
            raise Misuse(f"reads is the string {reads!r}; write reads=[{reads!r}]")
        if isinstance(values, Recomputed):
            raise Misuse(f"values is the handle of port {values.port!r} alone; write values=[{values.port}]")
        own, target = side(input_ids, lengths, "input_ids"), None
        if target_ids is not None:
            target = side(target_ids, target_lengths, "target_ids")
        elif target_lengths is not None:
            raise Misuse("target_lengths are those of target_ids, which were not given")
        check_seed(dropout_seed)
        request = PassRequest(own, tuple(reads), dict(edits or {}), grad, target, tuple(values), dropout_seed)
        if request.begin is not None:
            check_begin(request, self.cuts(request.values))
        return self._ask(request)

    def call(self, module: str, x: Tensor) -> Tensor:
        """``x`` put through a module of the model: its path, or a site that is a module's whole output."""
        binding = self._access.resident.bindings.get(module)
        if binding is not None and binding.view is None and binding.location.port == "output":
            module = binding.location.path
        try:
            return self._access.call(module, x)
        except (CallerError, AttributeError) as error:
            known = module in self._access.resident.modules
            raise Misuse(str(error) if known else _unknown("module", module, self._access.resident.modules)) from error

    def parameter(self, name: str, *, copy: bool = True) -> Tensor:
        """A weight or buffer of the model: see ``plugin.method.Session.parameter``."""
        try:
            value = self._access.parameter(name)
            return value.clone() if copy else value
        except AttributeError as error:
            raise Misuse(_unknown("weight", name, self._access.resident.parameters)) from error


class EngineContext:
    """The ``MethodContext`` of one call of a method (see ``plugin/method.py``)."""

    def __init__(self, task: "MethodTask", session: EngineSession) -> None:
        self._task = task
        self.session = session
        self.tokens: Tokens = task.run.program.tokens[task.step.invoke]
        self.input_ids: Tensor = task.access.ids(self.tokens.ids)
        target = self.tokens.target
        self.target_ids: Tensor | None = None if target is None else task.access.ids(target.ids)

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Tells the client how far the work is, and gives the engine a turn."""
        self._task.emit(Progress(self._task.run.id, float(done), float(total), message))
        self._task.pause()

    def partial(self, name: str, tensor: Tensor) -> None:
        """Sends an intermediate result, and gives the engine a turn."""
        self._task.emit(Result(self._task.run.id, name, to_data(tensor), ("",) * tensor.ndim, partial=True))
        self._task.pause()

    def raise_if_cancelled(self) -> None:
        """Gives the engine a turn, and ends the method when the run was cancelled or its deadline passed."""
        self._task.ask(None)

    def save_artifact(self, name: str, obj: object) -> None:
        """Keeps an artifact under ``name``."""
        try:
            info, path = self._task.access.store.save_artifact(name, obj)
        except CallerError as error:
            raise Misuse(str(error)) from error
        self._task.emit(ArtifactKept(self._task.run.id, info, str(path)))


@dataclass
class MethodTask:
    """A method under way."""

    run: Run
    step: Step
    access: ModelAccess
    emit: Callable[[Event], None]
    request: PassRequest | None = None
    """The pass that it has asked for; ``None``: only for its turn."""
    share: MethodShare | None = None
    """What it does in that pass, until it has run."""
    answer: Any = None
    error: BaseException | None = None
    """Raised out of the call that the method waits in, instead of an answer."""
    outputs: tuple[Any, ...] | None = None
    """What it returned."""
    _state: TorchState | None = None
    _held: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    """Its artifacts, as they were."""
    _plans: dict[Hashable, MethodPlan] = field(default_factory=dict)
    _greenlet: greenlet = field(init=False)

    def __post_init__(self) -> None:
        self._greenlet = greenlet(self._body)

    def resume(self) -> None:
        """Lets the method go on until it wants a pass, returns or raises.

        Raises ``InterpdError``: what the method raised, as the caller shall see it.
        """
        outside = TorchState.now()
        (self._state or outside.with_gradients()).restore()
        self._greenlet.parent = getcurrent()
        try:
            with self.access.weights.watched(self.run.id, describe(self.step.schema)):
                try:
                    self._switch()
                finally:
                    self._check_artifacts()
        except Misuse as raised:
            raise op_failed(self.step, raised) from raised
        except InterpdError as raised:
            raised.facts.setdefault("node", self.step.name)
            raise
        except torch.OutOfMemoryError as raised:
            raise DeviceOutOfMemory(f"{self.step.name} ({self.step.op}): {raised}") from raised
        # the run of one node: a method may raise anything, sys.exit() included, and only its run ends
        except BaseException as raised:
            raise op_failed(self.step, raised) from raised
        finally:
            self._state = TorchState.now()
            outside.restore()

    def _switch(self) -> None:
        error = self.error
        self.request = self.error = None
        if error is None:
            self._greenlet.switch()
        else:
            self._greenlet.throw(error)

    def prepare(self) -> None:
        """Makes the share of the pass that it has asked for; what is wrong with it, the method is told at its turn."""
        assert self.request is not None
        self.share = None
        try:
            key = plan_key(self.request)
            if key not in self._plans:
                self._plans[key] = MethodPlan(self.access, self.run.program, self.step, self.request)
            self.share = MethodShare(self.run, self.step, self.request, self._plans[key])
        except Exception as error:  # a pass that cannot be: the method is told, and may go on
            self.error = error

    def take(self, error: Exception | None) -> None:
        """Takes what has come of the pass: the share's values, or what the share raised, or the pass (``error``)."""
        assert self.share is not None
        self.error = self.share.failed or error
        self.answer = None if self.error is not None else self.share.found
        self.share = None

    def end(self, error: InterpdError) -> None:
        """Raises ``error`` out of the call that the method waits in, so that it can clean up; it gets no other turn."""
        if self._state is None:
            return
        self.error = error
        try:
            self.resume()
        except InterpdError:
            # the error itself, or what the method made of it: the run has ended either way
            return

    def ask(self, request: PassRequest | None) -> Any:
        """Called by the method: waits for its turn, and for the pass if it wants one."""
        if getcurrent() is not self._greenlet:
            raise Misuse("a method can run passes only from its own code, not from an edit of a pass")
        self.request = request
        self._greenlet.parent.switch()
        # taken, not handed over: what the method lets go of while it works is held by nobody
        answer, self.answer = self.answer, None
        return answer

    def pause(self) -> None:
        """Called by the method, an edit of a pass included: waits for its next turn where it can."""
        if getcurrent() is self._greenlet:
            self.ask(None)

    def _body(self) -> None:
        step, run = self.step, self.run
        args = [copied(filled(arg, run.values.get)) for arg in step.inputs]
        params, sizes = loaded_params(self.access, step, run.values, run.id)
        self._held = versions({f"artifact {name!r}": params[name] for name in self._artifacts})
        if step.fn is None:
            raise InternalError(f"{step.name}: nothing runs {step.op!r}")
        session = EngineSession(
            self.access,
            self.ask,
            run.program.written_sites(step.invoke),
            lambda values: cuts_of(self.access, run.program, step, values),
        )
        context = EngineContext(self, session)
        outputs = tuple(
            value.detach() if isinstance(value, Tensor) else value
            for value in as_tuple(step.fn(context, *handles_of(step, args), **params))
        )
        problems = check_values(step.schema, args, outputs, sizes)
        if problems:
            raise OpFailed(f"{describe(step.schema)} broke its declaration: {'; '.join(problems)}")
        self.outputs = outputs

    @property
    def _artifacts(self) -> dict[str, str]:
        return self.access.artifact_names(self.step.schema, self.step.params)

    def _check_artifacts(self) -> None:
        if changed := changed_since(self._held):
            for name in self._artifacts.values():
                self.access.store.forget_loaded(name)
            raise OpFailed(f"{describe(self.step.schema)} changed {', '.join(changed)} in place; copy it first")


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"no {kind} {name!r}" + (f"; nearest is {near[0]!r}" if near else "")
