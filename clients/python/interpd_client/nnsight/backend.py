"""The backend that nnsight hands a block to: it runs it once on recorded tensors and sends the graph."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nnsight
import torch
import transformers
from nnsight.intervention.editing import EditingTracer
from nnsight.intervention.interleaver import EarlyStopException
from nnsight.intervention.tracer import InterleavingTracer, ScanningTracer
from nnsight.tracing import backend as tracing_backend
from nnsight.tracing.tracer import Tracer, save
from nnsight.tracing.util import filter_traceback
from torch import nn

from interpd.graph.ir import Graph, Prompt
from interpd.graph.run import Tokens
from interpd.graph.schema import Manifest
from interpd_client.client import Client
from interpd_client.model import Model
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.generation import Plan, plan_of
from interpd_client.nnsight.homes import Homes
from interpd_client.nnsight.inputs import Batch, batch_of, flags_of
from interpd_client.nnsight.layout import layout_of
from interpd_client.nnsight.passes import Pass, Row
from interpd_client.nnsight.recorder import Recorder
from interpd_client.nnsight.results import Block, LoggedScope, Sender, settle
from interpd_client.nnsight.taker import Taker
from interpd_client.nnsight.tokens import GeneratedIds
from interpd_client.places import is_passed_over, pass_over, user_place
from interpd_client.recording import Recording
from interpd_client.result import Result

pass_over(torch.__file__, nnsight.__file__, transformers.__file__)

_here = threading.local()


class Backend(tracing_backend.Backend):
    """Runs blocks of nnsight code on a model of an interpd daemon.

    with model.trace("Elena Marsh was born in", backend=Backend(client, "facts")):
        h = model.transformer.h[3].output.save()

    Args:
        client: Connected to the daemon.
        model: The name of the model there, which is the one that the block's own model is; or ``client.model(name)``.
        timeout_s: Seconds until a run is given up; by default the client's.
        reproducible: Whether runs are alone at a fixed shape, never beside other requests.
        progress: Whether runs show what they are doing; by default the client's way.
    """

    def __init__(
        self,
        client: Client,
        model: str | Model,
        *,
        timeout_s: float | None = None,
        reproducible: bool = False,
        progress: bool | None = None,
    ) -> None:
        self._model = client.model(model) if isinstance(model, str) else model
        connection = self._model._connection
        timeout_s = connection.timeout_s if timeout_s is None else timeout_s
        self._sender = Sender(connection, timeout_s, reproducible, progress)
        self._tokens: dict[str, Tokens] = {}
        self.result: Result | None = None
        """What the last run brought beside the saved tensors: cost, provenance, tokens, generated text."""
        self.graph: Graph | None = None
        """The graph of the last block that was sent."""

    def __call__(self, tracer: Tracer) -> None:
        """Runs the block of a trace, a generation, a scan, an edit or a session."""
        assert tracer.info is not None, "nnsight captures a block before it asks for its run"
        try:
            self._run(tracer)
        except BaseException as error:
            # what is left of the traceback is the user's own code
            kept = getattr(error, "__intervention_tb__", None) or error.__traceback__
            vars(error).pop("__intervention_tb__", None)
            raise error.with_traceback(filter_traceback(kept, _is_users)) from error.__cause__

    def _run(self, tracer: Tracer) -> None:
        assert tracer.info is not None, "nnsight captures a block before it asks for its run"
        if isinstance(tracer, EditingTracer):
            # an edit is only kept here; traces replay it
            tracer.execute(tracer.info.code)
        elif isinstance(tracer, InterleavingTracer):
            self._trace(tracer)
        elif type(tracer) is Tracer:
            self._session(tracer)
        else:
            raise CannotRecord(f"blocks of a {type(tracer).__name__} cannot be sent to a service")

    def _trace(self, tracer: InterleavingTracer) -> None:
        with _mounted_save():
            session: Session | None = getattr(_here, "session", None)
            own = session is None
            session = session or Session(self)
            envoy, info = tracer.envoy, tracer.info
            assert info is not None, "nnsight captures a block before it asks for its run"
            session.take(envoy)
            recorder = session.recorder
            session.block.frames.append(info.frame.f_locals)
            envoy.__dict__["interleave"] = lambda fn, *args, **kwargs: session.interleave(envoy, fn, *args, **kwargs)
            try:
                with recorder:
                    # a scan's own execute would run the model on fake tensors
                    _execute(tracer, info.code, lambda: self._settle(session, tracer) if own else None)
            finally:
                envoy.__dict__.pop("interleave", None)

    def _settle(self, session: "Session", tracer: Tracer) -> None:
        sender = None if isinstance(tracer, ScanningTracer) else self._sender
        with torch._C.DisableTorchFunction():
            settle(session.recorder, session.block, sender)
        self.result, self.graph = session.recorder.result, session.recorder.graph

    def _session(self, tracer: Tracer) -> None:
        info = tracer.info
        assert info is not None, "nnsight captures a block before it asks for its run"
        if getattr(_here, "session", None) is not None:
            raise CannotRecord("a session cannot stand inside another one")
        session = Session(self)
        with _mounted_save(), session.entered():
            tracer.execute(info.code)
        if session.has_recorded:
            # what was pushed to the user's frame is exchanged there, object by object
            session.block.frames.append(info.frame.f_locals)
            self._settle(session, tracer)

    def tokens(self, text: str) -> Tokens:
        """The tokens of a text, asked from the service once."""
        if text not in self._tokens:
            self._tokens[text] = self._model.tokenize(text)
        return self._tokens[text]

    @property
    def manifest(self) -> Manifest:
        """What the model offers."""
        return self._model.manifest


def _execute(tracer: InterleavingTracer, code: Any, settle_now: Any) -> None:
    """nnsight's own ``execute``; what it pushes to the user's frame is settled before."""
    envoy = tracer.envoy
    walk = envoy.__dict__["interleave"]

    def interleave(fn: Any, *args: Any, **kwargs: Any) -> Any:
        out = walk(fn, *args, **kwargs)
        settle_now()
        return out

    envoy.__dict__["interleave"] = interleave
    InterleavingTracer.execute(tracer, code)


class Session:
    """What one request records: of one trace, or of all traces of a session."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.block = Block()
        self._recorder: Recorder | None = None
        self._module: nn.Module | None = None
        self._n_passes = 0

    @property
    def recorder(self) -> Recorder:
        """What takes the operations; there once a trace has begun."""
        assert self._recorder is not None, "a trace takes the model first"
        return self._recorder

    @property
    def has_recorded(self) -> bool:
        """Whether any trace ran."""
        return self._recorder is not None

    def take(self, envoy: Any) -> None:
        """Binds the request to the model of a trace. Raises ``CannotRecord`` for one that is not the service's."""
        module = envoy._module
        if envoy.parent is not None:
            raise CannotRecord(f"the service runs whole models, not {envoy.path!r} alone: trace the model itself")
        if self._module is not None and module is not self._module:
            raise CannotRecord("one session runs one model")
        if self._recorder is None:
            manifest = self._backend.manifest
            check_same_model(module, manifest)
            place = user_place()
            recording = Recording(manifest, self._tokenize, begun_at=place)
            self._module, self._recorder = module, Recorder(recording, module)

    def _tokenize(self, prompt: Prompt) -> Tokens:
        assert prompt.text is not None, "prompts of ids are known without asking"
        return self._backend.tokens(prompt.text)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, traces without a backend of their own belong to this session."""
        plain = tracing_backend.Backend.__call__

        def call(backend: tracing_backend.Backend, tracer: Tracer) -> None:
            joins = type(backend) is tracing_backend.Backend and isinstance(tracer, InterleavingTracer)
            if joins and not isinstance(tracer, EditingTracer) and getattr(_here, "session", None) is self:
                self._backend(tracer)
            else:
                plain(backend, tracer)

        tracing_backend.Backend.__call__ = call  # type: ignore[method-assign]
        _here.session = self
        try:
            yield
        finally:
            _here.session = None
            tracing_backend.Backend.__call__ = plain  # type: ignore[method-assign]

    def interleave(self, envoy: Any, fn: Any, *args: Any, batcher: Any = None, **kwargs: Any) -> Any:
        """What ``Envoy.interleave`` does, with a simulated pass in the place of the model."""
        interleaver = envoy.interleaver
        batcher.add(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            name = kind_of(fn)
            this, plan = self._pass(envoy, batch_of(batcher, fn), name)
        ids = None if plan is None else GeneratedIds(self.recorder, this, plan)
        interleaver.batcher = Taker(batcher, interleaver, this)
        interleaver.mediators = envoy._edits + interleaver.mediators
        mediators = list(interleaver.mediators)
        self._watch(mediators, this)
        result = None
        try:
            with self.recorder.modules(), interleaver:
                result = this.run(interleaver, ids)
                if ids is not None:
                    result = ids.passed_through(envoy)
                interleaver.handle("result", result)
            interleaver.check_dangling_mediators()
        except EarlyStopException:
            pass
        finally:
            this.end()
            self.block.caches += [cache for mediator in mediators for cache in mediator.caches]
            interleaver.cancel()
        return result

    def _watch(self, mediators: list[Any], this: Pass) -> None:
        for mediator in mediators:
            if this.n_steps and not mediator.copy:
                mediator.lcls = LoggedScope(dict(mediator.lcls), mediator.lcls.shared, mediator.lcls.glbls)
            self.block.scopes.append(mediator.lcls)
        if this.n_steps:
            this.on_serve = lambda mediator, step: self.block.note(self.recorder, mediator, step)
            self.block.rows = tuple(row.invoke for row in this.rows)

    def _pass(self, envoy: Any, batch: Batch, name: str) -> tuple[Pass, Plan | None]:
        module, recording = envoy._module, self.recorder.recording
        plan = None
        if name == "generate":
            self._refuse_company()
            plan = plan_of(module, batch.rest, len(batch.texts[0].ids) + batch.texts[0].padding)
            recording.generation = plan.options
        elif recording.generation is not None:
            self._refuse_company()
        self._n_passes += 1
        flags = _generation_flags(module) if plan is not None else flags_of(batch.rest)
        layout = layout_of(module, "input_ids" if plan is not None else batch.keyword, flags)
        homes = Homes(recording.manifest, layout, generates=plan is not None)
        rows = self._rows(batch)
        this = Pass(self.recorder, layout, homes, rows, plan.options.max_new_tokens if plan else 0, envoy.path)
        if plan is not None:
            this.kept_out = (plan.end_ids, plan.min_new_tokens)
        return this, plan

    def _refuse_company(self) -> None:
        if self._n_passes:
            raise CannotRecord("a session holds several traces or one generation: run the generation by itself")

    def _rows(self, batch: Batch) -> tuple[Row, ...]:
        recording, rows = self.recorder.recording, []
        for text in batch.texts:
            prompt = Prompt(token_ids=text.ids)
            if text.text is not None:
                seen = self._backend.tokens(text.text).ids
                if tuple(seen) != text.ids:
                    raise CannotRecord(
                        f"your tokenizer makes {list(text.ids)} of {text.text!r} and that of the service "
                        f"{list(seen)}: the models are not the same; give token ids, or the service's tokenizer"
                    )
                prompt = Prompt(text=text.text)
            recording.prompts.append(prompt)
            rows.append(Row(len(recording.prompts) - 1, text.ids, text.padding))
            recording.know_tokens(rows[-1].invoke, text.ids)
        return tuple(rows)


def kind_of(fn: Any) -> str:
    """The name of what a trace runs. Raises ``CannotRecord`` for what is neither a forward nor a generation."""
    name = fn if isinstance(fn, str) else getattr(fn, "__name__", str(fn))
    if name not in ("__call__", "_call", "forward", "generate"):
        raise CannotRecord(f"the service runs forwards and generations, not {name!r}")
    return name


def _generation_flags(module: nn.Module) -> dict[str, Any]:
    """What transformers adds to the arguments of a forward that generates."""
    import inspect

    takes = inspect.signature(type(module).forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in takes else {}


def check_same_model(module: nn.Module, manifest: Manifest) -> None:
    """Raises ``CannotRecord`` where the user's model has not the weights of the service's by name and shape."""
    info = manifest.model
    own = {name: tuple(tensor.shape) for name, tensor in module.named_parameters(remove_duplicate=False)}
    theirs = {name: tuple(dim.size for dim in kind.dims) for name, kind in manifest.parameters.items()}
    for name, shape in own.items():
        if theirs.get(name, shape) != shape:
            raise CannotRecord(
                f"your {type(module).__name__} is not the model {info.name!r} of the service ({info.architecture}): "
                f"{name!r} has shape {list(shape)} here and {list(theirs[name])} there"
            )
    missing = next((name for name in own if name not in theirs), None)
    if missing is not None and type(module).__name__ != info.architecture:
        raise CannotRecord(
            f"your {type(module).__name__} is not the model {info.name!r} of the service, a {info.architecture}: "
            f"there is no {missing!r} there"
        )


@contextmanager
def _mounted_save() -> Iterator[None]:
    """``.save()`` on every object, while the block runs, also where nnsight was imported without that."""
    from nnsight import _c

    if _c.mount is None or hasattr(object, "save"):
        yield
        return
    _c.mount(save, "save")
    try:
        yield
    finally:
        _c.unmount("save")


def _is_users(frame: Any) -> bool:
    return not is_passed_over(frame.f_code.co_filename)
