"""What one request records: of one trace, or of all traces of ``with model.session():``."""

import inspect
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from nnsight.intervention.editing import EditingTracer
from nnsight.intervention.interleaver import EarlyStopException
from nnsight.intervention.tracer import InterleavingTracer
from nnsight.tracing import backend as tracing_backend
from nnsight.tracing.tracer import Tracer
from torch import nn

from interpd.graph.ir import Prompt
from interpd.graph.run import Tokens
from interpd.graph.schema import Manifest
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.generation import Plan, plan_of
from interpd_client.nnsight.homes import Homes
from interpd_client.nnsight.inputs import Batch, batch_of, flags_of
from interpd_client.nnsight.layout import layout_of
from interpd_client.nnsight.passes import Pass, Row
from interpd_client.nnsight.recorder import Recorder
from interpd_client.nnsight.results import Block, LoggedScope
from interpd_client.nnsight.taker import Taker
from interpd_client.nnsight.tokens import GeneratedIds
from interpd_client.places import user_place
from interpd_client.recording import Recording

_here = threading.local()


class Service(Protocol):
    """What a session asks of its backend."""

    @property
    def manifest(self) -> Manifest:
        """What the model offers."""
        ...

    def tokens(self, text: str) -> Tokens:
        """The tokens of a text."""
        ...

    def __call__(self, tracer: Tracer) -> None:
        """Runs the block of a trace."""
        ...


def current() -> "Session | None":
    """The session whose block is running in this thread."""
    return getattr(_here, "session", None)


_plain = tracing_backend.Backend.__call__


def _joining(backend: tracing_backend.Backend, tracer: Tracer) -> None:
    """nnsight's own way to run a block, except that traces inside a session of ours belong to it."""
    session = current()
    is_trace = isinstance(tracer, InterleavingTracer) and not isinstance(tracer, EditingTracer)
    if session is not None and is_trace and type(backend) is tracing_backend.Backend:
        session.service(tracer)
    else:
        _plain(backend, tracer)


class Session:
    """One request while it is recorded.

    Args:
        service: Runs it.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.block = Block()
        self._recorder: Recorder | None = None
        self._module: nn.Module | None = None
        self._n_passes = 0
        self._whole: ExitStack | None = None

    @property
    def recorder(self) -> Recorder:
        """What takes the operations; there once a trace has begun."""
        assert self._recorder is not None, "a trace takes the model first"
        return self._recorder

    @property
    def has_recorded(self) -> bool:
        """Whether any trace ran."""
        return self._recorder is not None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, traces without a backend of their own belong to this session."""
        # nnsight gives a trace inside a session no other sign; without a session it does what it did
        tracing_backend.Backend.__call__ = _joining  # type: ignore[method-assign]
        _here.session = self
        try:
            with ExitStack() as self._whole:
                yield
        finally:
            _here.session = None

    @contextmanager
    def recording(self, envoy: Any) -> Iterator[None]:
        """Inside, functions of torch are recorded; in a session from the first trace to its end.

        Raises ``CannotRecord`` for a model that is not the service's.
        """
        is_first = self._recorder is None
        self._take(envoy)
        if self._whole is None:
            with self.recorder:
                yield
            return
        if is_first:
            self._whole.enter_context(self.recorder)
        yield

    def _take(self, envoy: Any) -> None:
        module = envoy._module
        if envoy.parent is not None:
            raise CannotRecord(f"the service runs whole models, not {envoy.path!r} alone: trace the model itself")
        if self._module is not None and module is not self._module:
            raise CannotRecord("one session runs one model")
        if self._recorder is None:
            manifest = self.service.manifest
            check_same_model(module, manifest)
            recording = Recording(manifest, self._tokenize, begun_at=user_place())
            self._module, self._recorder = module, Recorder(recording, module)

    def _tokenize(self, prompt: Prompt) -> Tokens:
        assert prompt.text is not None, "prompts of ids are known without asking"
        return self.service.tokens(prompt.text)

    def interleave(self, envoy: Any, fn: Any, *args: Any, batcher: Any = None, **kwargs: Any) -> Any:
        """What ``Envoy.interleave`` does, with a simulated pass in the place of the model."""
        interleaver = envoy.interleaver
        batcher.add(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            kind = kind_of(fn)
            this, plan = self._pass(envoy, batch_of(batcher, fn), kind)
        ids = None if plan is None else GeneratedIds(self.recorder, this, plan, envoy)
        interleaver.batcher = Taker(batcher, interleaver, this)
        interleaver.mediators = envoy._edits + interleaver.mediators
        mediators = list(interleaver.mediators)
        self._watch(mediators, this)
        result = None
        try:
            with self.recorder.modules(), interleaver:
                result = this.run(interleaver, ids)
                interleaver.handle("result", result if ids is None else ids.result())
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

    def _pass(self, envoy: Any, batch: Batch, kind: str) -> tuple[Pass, Plan | None]:
        module, recording = envoy._module, self.recorder.recording
        plan = None
        if self._n_passes and (kind == "generate" or recording.generation is not None):
            raise CannotRecord("a session holds several traces or one generation: run the generation by itself")
        if kind == "generate":
            plan = plan_of(module, batch.rest, batch.length)
            recording.generation = plan.options
        self._n_passes += 1
        flags = _generation_flags(module) if plan is not None else flags_of(batch.rest)
        layout = layout_of(module, "input_ids" if plan is not None else batch.keyword, flags)
        homes = Homes(recording.manifest, layout, generates=plan is not None)
        rows = self._rows(batch)
        this = Pass(self.recorder, layout, homes, rows, plan.options.max_new_tokens if plan else 0, envoy.path)
        if plan is None:
            this.arguments = batch.arguments
        else:
            this.kept_out = (plan.end_ids, plan.min_new_tokens)
        return this, plan

    def _rows(self, batch: Batch) -> tuple[Row, ...]:
        recording, rows = self.recorder.recording, []
        for text in batch.texts:
            prompt = Prompt(token_ids=text.ids)
            if text.text is not None:
                seen = self.service.tokens(text.text).ids
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
    takes = inspect.signature(type(module).forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in takes else {}


OF_LIBRARIES = ("transformers", "accelerate", "peft", "torch", "nnsight")
"""Whose hooks on modules are no change of what a model computes."""


def check_same_model(module: nn.Module, manifest: Manifest) -> None:
    """Raises ``CannotRecord`` for a model with other weights, by name and shape, with own hooks, or with two sides."""
    if getattr(getattr(module, "config", None), "is_encoder_decoder", False):
        raise CannotRecord(
            f"{type(module).__name__} has an encoder and a decoder, and blocks of nnsight code are recorded for models "
            "of one side only; `client.model(...).trace(source, target=...)` gives both sides their prompt"
        )
    for path, part in module.named_modules():
        for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values()):
            if str(getattr(hook, "__module__", "")).partition(".")[0] not in OF_LIBRARIES:
                raise CannotRecord(
                    f"{path or 'the model'!r} has a forward hook ({hook!r}), which the service cannot run: remove it, "
                    "and write in the block what it does"
                )
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
