"""The backend that nnsight hands a block to: it runs it once on recorded tensors and sends the graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nnsight
import torch
import transformers
from nnsight.intervention.editing import EditingTracer
from nnsight.intervention.tracer import InterleavingTracer, ScanningTracer
from nnsight.tracing import backend as tracing_backend
from nnsight.tracing.tracer import Tracer, save
from nnsight.tracing.util import filter_traceback

from interpd.graph.ir import Graph
from interpd.graph.run import Tokens
from interpd.graph.schema import Manifest
from interpd_client.client import Client
from interpd_client.model import Model
from interpd_client.nnsight import sessions
from interpd_client.nnsight.errors import CannotRecord
from interpd_client.nnsight.results import Sender, settle
from interpd_client.nnsight.sessions import Session
from interpd_client.places import is_passed_over, pass_over
from interpd_client.result import Result

pass_over(torch.__file__, nnsight.__file__, transformers.__file__)


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
        whole, info = sessions.current(), tracer.info
        assert info is not None, "nnsight captures a block before it asks for its run"
        session = whole or Session(self)
        with _mounted_save(), session.recording(tracer.envoy):
            session.block.frames.append(info.frame.f_locals)
            with _walked(tracer.envoy, session, lambda: None if whole else self._settle(session, tracer)):
                # a scan's own execute would run the model on fake tensors
                InterleavingTracer.execute(tracer, info.code)

    def _session(self, tracer: Tracer) -> None:
        assert tracer.info is not None, "nnsight captures a block before it asks for its run"
        if sessions.current() is not None:
            raise CannotRecord("a session cannot stand inside another one")
        session, frame = Session(self), tracer.info.frame
        with _mounted_save(), session.entered():
            tracer.execute(tracer.info.code)
            if session.has_recorded:
                # what was pushed to the user's frame is exchanged there, object by object
                session.block.frames.append(frame.f_locals)
                self._settle(session, tracer)

    def _settle(self, session: Session, tracer: Tracer) -> None:
        sender = None if isinstance(tracer, ScanningTracer) else self._sender
        with torch._C.DisableTorchFunction():
            settle(session.recorder, session.block, sender)
        self.result, self.graph = session.recorder.result, session.recorder.graph

    def tokens(self, text: str) -> Tokens:
        """The tokens of a text, asked from the service once."""
        if text not in self._tokens:
            self._tokens[text] = self._model.tokenize(text)
        return self._tokens[text]

    @property
    def manifest(self) -> Manifest:
        """What the model offers."""
        return self._model.manifest


@contextmanager
def _walked(envoy: Any, session: Session, settle_now: Callable[[], None]) -> Iterator[None]:
    """Inside, what nnsight would run the model with walks through a simulated pass; then the results come."""

    def interleave(fn: Any, *args: Any, **kwargs: Any) -> Any:
        out = session.interleave(envoy, fn, *args, **kwargs)
        settle_now()
        return out

    envoy.__dict__["interleave"] = interleave
    try:
        yield
    finally:
        envoy.__dict__.pop("interleave", None)


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
