"""The engine: takes requests in, forms passes, runs them, and says what happened.

One thread calls it. Whoever has waited longest decides what the next step is (a shared pass, a step of a generation
batch, a slice of a method) and goes to the end of the line, so that long work and short take turns.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic, time

import torch

from interpd.engine.adapters import Adapters
from interpd.engine.batching import Candidate, PassClass, beyond_the_turn, bucket, one_row_only, pass_class
from interpd.engine.generation import GenerationBatch, members_of
from interpd.engine.gradients import differentiate
from interpd.engine.method_turns import MethodTurns
from interpd.engine.model_access import ModelAccess
from interpd.engine.model_config import long_from
from interpd.engine.nnsight_driver import Driver
from interpd.engine.packed_weights import PACKED_BYTES, pack_weights
from interpd.engine.passes import blamed_on, may_change_rows, row_keys, run_plain_pass
from interpd.engine.planning import make_program
from interpd.engine.resident import ResidentModel
from interpd.engine.results import done, engine_versions, plugins_of, results_of
from interpd.engine.runs import Phase, Run
from interpd.engine.store import Store
from interpd.engine.text_rules import note_on_rules
from interpd.engine.tokens import begins_twice, unknown_words
from interpd.errors import Cancelled as CancelledError
from interpd.errors import DeadlineExceeded, FeatureUnsupported, InterpdError, WorkerLost
from interpd.graph.check import check
from interpd.graph.ir import Prompt
from interpd.graph.run import Cancelled, Event, Failed, RunRequest, Started, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Limits, Manifest
from interpd.graph.types import TensorData
from interpd.plugin.registry import Registry
from interpd.telemetry import Log

MAX_BATCH_TOKENS = 8192
MAX_PREFILL_TOKENS = 2048
"""Positions of a prefill that several newcomers share while others generate; a longer one is a newcomer's alone."""

log = Log("engine")


class NnsightEngine:
    """Runs requests on one resident model: implements ``engine.plan.Engine``.

    Args:
        resident: The model.
        registry: Operations, methods and artifact kinds.
        limits: What the manifest states and the checker enforces.
        share_passes: ``False`` runs every request alone.
        max_batch_tokens: Positions of a shared pass at most, padding included; a row that prompts share counts once.
        packed_bytes: Bytes of weights on a CPU that may be kept a second time, for passes of several rows.
    """

    def __init__(
        self,
        resident: ResidentModel,
        registry: Registry,
        limits: Limits | None = None,
        *,
        share_passes: bool = True,
        max_batch_tokens: int = MAX_BATCH_TOKENS,
        packed_bytes: int = PACKED_BYTES,
    ) -> None:
        model = resident.model
        self._store = Store(registry.artifact_kinds, model.device, model.dtype, sizes=resident.info.sizes)
        # both before the model is wrapped: adapters run in copies of its modules
        pack_weights(model, packed_bytes)
        self._adapters = Adapters(resident)
        self._access = ModelAccess(resident, Driver(model), self._store)
        self._registry = registry
        self._share_passes, self._max_batch_tokens = share_passes, max_batch_tokens
        self._stateful = not resident.can_be_padded
        self._long_from = long_from(model)
        self._manifest = _manifest(resident, registry, limits or Limits())
        self._runs: dict[str, Run] = {}
        self._batches: list[GenerationBatch] = []
        self._methods = MethodTurns(self._emit, self._busy, share_passes=share_passes, max_tokens=max_batch_tokens)
        self._events: list[Event] = []
        self._turn = 0
        self.is_closed = False
        """Whether the model is anybody's again."""

    def describe(self) -> Manifest:
        """What this engine offers now."""
        return replace(self._manifest, artifacts=dict(self._store.artifacts), adapters=self._adapters.infos)

    def tokenize(self, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """The prompts as token ids, strings and offsets. Raises ``InvalidRequest``."""
        # the prompts of a sweep are few, given many times
        tokens = {prompt: self._access.resident.tokenize(prompt) for prompt in dict.fromkeys(prompts)}
        return tuple(tokens[prompt] for prompt in prompts)

    def put_blob(self, digest: str, tensor: TensorData) -> None:
        """Keeps an uploaded constant. Raises ``DataLoss`` when content and digest disagree."""
        self._store.put_blob(digest, tensor)

    def put_artifact(self, name: str, kind: str, path: str) -> ArtifactInfo:
        """Makes the safetensors file at ``path`` known under ``name``. Raises ``CallerError``."""
        return self._store.put_artifact(name, kind, path)

    def drop_artifact(self, name: str) -> None:
        """Forgets an artifact; unknown names are ignored. What runs with it now may fail."""
        self._store.drop_artifact(name)

    def put_adapter(self, info: AdapterInfo, folder: str) -> AdapterInfo:
        """Loads the adapter in ``folder``, and tests the model's sites with it. Raises ``CallerError``."""
        with self._access.weights.watched("", f"adapter {info.name!r}"):
            return self._adapters.put(info, folder)

    def drop_adapter(self, name: str) -> None:
        """Forgets an adapter; unknown names are ignored. What runs with it now goes on."""
        self._adapters.drop(name)

    def submit(self, request: RunRequest) -> None:
        """Takes a request in. Whatever is wrong with it comes back as its ``Failed`` event."""
        try:
            self._runs[request.run_id] = self._run_of(request)
        except InterpdError as error:
            self._events.append(Failed(request.run_id, error))

    def _run_of(self, request: RunRequest) -> Run:
        tokens = self.tokenize(request.prompts)
        manifest = self.describe()
        report = check(request, manifest, [prompt.lengths for prompt in tokens])
        report.raise_if_bad()
        offered = (self._registry, self._access.resident.bindings, manifest)
        program = make_program(request, tokens, report, offered, self._store)
        obstacle = one_row_only(program, stateful=self._stateful, long_from=self._long_from)
        if obstacle and any(len(program.invokes_of_pass(index)) > 1 for index in range(program.order.n_passes)):
            raise FeatureUnsupported(f"{obstacle}: give each prompt a request of its own")
        if turn := beyond_the_turn(program, self._long_from):
            raise FeatureUnsupported(turn)
        if request.generation is not None and not self._access.takes_cache:
            name = self._manifest.model.architecture
            raise FeatureUnsupported(f"{name} takes no past_key_values, so its prompts cannot be continued here")
        if request.generation is not None and not self._access.resident.goes_on_from_its_cache:
            name = self._manifest.model.architecture
            text = "keeps its state outside of past_key_values, where other prompts replace it"
            raise FeatureUnsupported(f"{name} {text}, so its prompts cannot be continued here")
        note = note_on_rules(self._access.resident) if request.generation is not None else ""
        access = self._access
        if request.adapter:
            access = access.with_adapter(self._adapters.get(request.adapter))
        run = Run(program, access, self._next_turn())
        run.used.plugins = plugins_of(run, self._registry.plugins)
        if note:
            run.warnings["generation"] = note
        for invoke, prompt in enumerate(tokens):
            resident = self._access.resident
            words = unknown_words(resident.tokenizer, prompt)
            if prompt.target is not None:
                words += unknown_words(resident.target_tokenizer, prompt.target)
            if words:
                run.warnings[f"prompt {invoke}"] = f"prompt {invoke}: the tokenizer does not know {', '.join(words)}"
            if begins_twice(resident.tokenizer, prompt):
                text = f"prompt {invoke} begins with {prompt.strings[0]!r} twice: the tokenizer adds one of its own"
                run.warnings[f"beginning {invoke}"] = f"{text} (add_special_tokens=False: it does not)"
        return run

    def cancel(self, run_id: str) -> None:
        """Ends a run before its next step; unknown ids are ignored."""
        run = self._runs.pop(run_id, None)
        self._access.artifacts_used.pop(run_id, None)
        if run is None:
            return
        self._end(run, CancelledError(f"run {run_id!r} was cancelled"))
        self._events.append(Cancelled(run_id, "running" if run.used.started else "queued"))

    @property
    def has_work(self) -> bool:
        """Whether ``step`` has anything to do."""
        return bool(self._runs or self._events or self._access.weights.blame)

    @property
    def busy_with(self) -> tuple[tuple[str, ...], str]:
        """(run ids in the current step, what runs now)."""
        return self._access.busy_with

    def step(self) -> Sequence[Event]:
        """Runs one pass, decode step or slice of a method, and returns the events it caused, in order.

        Raises ``WorkerLost`` after a step in which the weights were changed: the model has to be loaded again.
        """
        if self._access.weights.blame is not None:
            raise self._spoilt(self._access.weights.blame[1])
        with torch.no_grad():
            self._begin_new()
            self._expire()
            self._serve_oldest()
            self._differentiate()
            self._give_up_if_spoilt()
            self._end_finished()
        self._access.busy_with = ((), "")
        events, self._events = self._events, []
        for event in events:
            self._registry.tell(event)
        return events

    def _emit(self, event: Event) -> None:
        # looked up at each call: every step hands its list out and begins a new one
        self._events.append(event)

    def close(self) -> None:
        """Frees the model."""
        for run in list(self._runs.values()):
            self.cancel(run.id)
        self._batches.clear()
        self._store.close()
        # a model that was given by somebody goes back to him
        self._access.resident.attention.give_back()
        self.is_closed = True

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    def _begin_new(self) -> None:
        for run in self._runs.values():
            if run.phase is Phase.NEW:
                run.begin()

    def _expire(self) -> None:
        now = time()
        for run in self._runs.values():
            deadline = run.program.request.deadline_s
            if deadline is not None and deadline < now and run.phase is not Phase.ENDED:
                self._end(run, DeadlineExceeded(f"the deadline passed {now - deadline:.1f} s ago"))

    def _end(self, run: Run, error: InterpdError) -> None:
        run.fail(error)
        self._methods.end(run, error)

    def _give_up_if_spoilt(self) -> None:
        """Ends all runs when one changed the weights: what this step computed for them may be wrong."""
        if self._access.weights.blame is None:
            return
        culprit, error = self._access.weights.blame
        for run in list(self._runs.values()):
            self._end(run, error if run.id == culprit else self._spoilt(error))

    def _spoilt(self, cause: InterpdError) -> WorkerLost:
        name = self._manifest.model.name
        return WorkerLost(f"model {name!r} is being loaded again, because {cause.message}; try again", model=name)

    def _serve_oldest(self) -> None:
        waiting = [run for run in self._runs.values() if run.phase in (Phase.PASS, Phase.GENERATION, Phase.METHOD)]
        for batch in self._batches:
            batch.drop_ended()
        self._batches = [batch for batch in self._batches if batch.members]
        first = min([*waiting, *self._batches], key=lambda item: item.turn, default=None)
        if first is None:
            return
        if isinstance(first, GenerationBatch):
            self._join(first)
            self._step_batch(first)
        elif first.phase is Phase.METHOD:
            self._take_turn(first)
            self._methods.step(first, list(self._runs.values()))
        elif first.phase is Phase.PASS:
            self._run_pass(self._bucket(first, waiting))
        else:
            place = first.turn
            self._start_batch(self._bucket(first, waiting), place)

    def _bucket(self, first: Run, waiting: Sequence[Run]) -> list[Run]:
        """Those that share the next pass with ``first``, all of them at the end of the line now."""
        others = [run for run in waiting if run is not first and run.phase is first.phase]
        others.sort(key=lambda run: run.turn)
        candidates = [self._candidate(run) for run in others] if self._share_passes else []
        # others decode and wait for their next token meanwhile
        is_waited_for = first.phase is Phase.GENERATION and self._batches
        most = min(self._max_batch_tokens, MAX_PREFILL_TOKENS) if is_waited_for else self._max_batch_tokens
        chosen = bucket(self._candidate(first), candidates, max_tokens=most)
        runs = [self._runs[candidate.run_id] for candidate in chosen]
        for run in runs:
            self._take_turn(run)
        return runs

    def _candidate(self, run: Run) -> Candidate:
        program = run.program
        invokes = program.invokes_of_pass(run.pass_index)
        lengths = tuple(program.tokens[invoke].lengths.total or 0 for invoke in invokes)
        return Candidate(run.id, self._kind(run), lengths, row_keys(run))

    def _kind(self, run: Run) -> PassClass:
        return pass_class(run.program, stateful=self._stateful, long_from=self._long_from, adapter=run.adapter_key)

    def _take_turn(self, run: Run) -> None:
        run.turn = self._next_turn()
        if run.used.started is None:
            run.used.started = monotonic()
            self._events.append(Started(run.id, run.program.tokens))

    def _run_pass(self, runs: list[Run], *, rows_change: bool = True) -> None:
        eager = pass_class(runs[0].program).eager_attention
        before = {run.id: run.values.snapshot() for run in runs}
        self._busy(runs, "pass")
        error = _tried(lambda: run_plain_pass(runs[0].access, runs, eager=eager, rows_change=rows_change))
        if error is None:
            for run in runs:
                run.advance()
        elif len(runs) == 1 and not (rows_change and may_change_rows(runs[0])):
            runs[0].fail(blamed_on(error, runs[0].program))
        else:
            for run in runs:
                run.values = before[run.id]
                # alone and as it is: rows that change are an optimisation, which fails nobody
                self._run_pass([run], rows_change=len(runs) > 1)

    def _start_batch(self, runs: list[Run], place: int) -> None:
        """The prefill of ``runs``. Batches under way take over their place in the line, so that prefills and steps
        take turns however many wait."""
        for running in self._batches:
            running.turn = min(running.turn, place)
        members = [member for run in runs for member in members_of(run.access, run)]
        batch = GenerationBatch(runs[0].access, members, kind=self._kind(runs[0]), turn=self._next_turn())
        self._step_batch(batch)
        if self._share_passes and batch.members:
            for why in {running.reason_apart(batch) for running in self._batches if running.members} - {""}:
                log.debug("a generation does not join others", run=runs[0].id, why=why)
        self._batches.append(batch)

    def _join(self, batch: GenerationBatch) -> None:
        """Takes into ``batch`` whoever can step with it."""
        others = [other for other in self._batches if other is not batch] if self._share_passes else []
        joining = batch.joinable(others, self._max_batch_tokens)
        if not joining:
            return
        if _tried(lambda: batch.take_in(joining)) is None:
            self._batches = [one for one in self._batches if one not in joining]
        else:
            batch.apart = True

    def _step_batch(self, batch: GenerationBatch) -> None:
        batch.turn = self._next_turn()
        runs, is_prefill = batch.runs, not batch.is_under_way
        self._busy(runs, "pass")
        error = _tried(lambda: self._events.extend(batch.step()))
        if error is not None and is_prefill and batch.shares_rows and len(runs) == 1:
            # as with plain passes: rows that change fail nobody
            batch.shares_rows = False
            self._step_batch(batch)
        elif error is not None and len(runs) == 1:
            runs[0].fail(blamed_on(error, runs[0].program))
        elif error is not None:
            parts = batch.split()
            for alone in parts:
                self._batches.append(alone)
                self._step_batch(alone)
            is_guilty = any(run.error is not None for run in runs)
            for alone in parts:
                # steps are smaller than prefills: those may be shared although these cannot
                alone.apart = not is_guilty and not is_prefill

    def _differentiate(self) -> None:
        runs = [run for run in self._runs.values() if run.phase is Phase.GRADIENT]
        if runs:
            self._busy(runs, "pass")
            differentiate(runs)

    def _busy(self, runs: Sequence[Run], what: str) -> None:
        self._access.busy_with = (tuple(run.id for run in runs), what)

    def _end_finished(self) -> None:
        for run in [run for run in self._runs.values() if run.phase is Phase.ENDED]:
            del self._runs[run.id]
            run.used.artifacts = self._access.artifacts_used.pop(run.id, {})
            self._events += self._last_events(run)
            run.forget()

    def _last_events(self, run: Run) -> list[Event]:
        if run.error is not None:
            return [Failed(run.id, run.error)]
        started = [] if run.used.started else [Started(run.id, run.program.tokens)]
        try:
            results, non_finite, warnings = results_of(run)
        except InterpdError as error:
            return [*started, Failed(run.id, error)]
        facts = (self._manifest.model, self._manifest.engine, monotonic())
        return [*started, *results, done(run, results, non_finite, warnings, facts)]


def _tried(forward: Callable[[], object]) -> Exception | None:
    """What a pass raised, without the tensors that its traceback would keep alive."""
    try:
        forward()
    except Exception as error:  # a pass that failed: its requests are told apart by running each alone
        if not isinstance(error, InterpdError | torch.OutOfMemoryError):
            log.exception("a forward pass failed")
        return error.with_traceback(None)
    return None


def _manifest(resident: ResidentModel, registry: Registry, limits: Limits) -> Manifest:
    offered = {**registry.ops, **registry.methods}
    return Manifest(
        model=resident.info,
        sites=resident.sites,
        absent_sites=resident.absent_sites,
        modules=resident.modules,
        parameters=resident.parameters,
        ops={name: registered.schema for name, registered in offered.items()},
        artifact_kinds={kind: registered.schema for kind, registered in registry.artifact_kinds.items()},
        artifacts={},
        plugins=registry.plugins,
        limits=limits,
        engine=engine_versions(),
    )
