"""An engine without a model: deterministic, torch-free, and able to misbehave on demand.

It stands in for ``NnsightEngine`` wherever the model does not matter: scheduler, worker, service and client tests, and
a plugin author's own. One character is one token. ``site.read`` answers from a closed formula (``activation``), the
``fake.*`` operations sleep, fail, hang and crash as their parameters say, and every run that can step steps together.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from interpd.errors import (
    DataLoss,
    DeadlineExceeded,
    FeatureUnsupported,
    InterpdError,
    InvalidRequest,
    OpFailed,
)
from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.check import check
from interpd.graph.digest import blob_digest, graph_digest
from interpd.graph.ir import Node, Prompt
from interpd.graph.run import (
    TERMINAL,
    Cancelled,
    Cost,
    Done,
    Event,
    Failed,
    Generated,
    Progress,
    Provenance,
    Result,
    RunRequest,
    Started,
    TokenGenerated,
    Tokens,
)
from interpd.graph.schema import (
    AdapterInfo,
    ArtifactInfo,
    ArtifactSchema,
    Limits,
    Manifest,
    ModelInfo,
    OpSchema,
    ParamSchema,
    PluginInfo,
    PortSchema,
    SiteSchema,
)
from interpd.graph.types import Dim, TensorData, TensorType
from interpd.worker.checkpoint import Report, no_report
from interpd.worker.options import ReplicaOptions

D_VOCAB = 128
_SCALAR = TensorType("float32", ())
_NUMBERS = TensorType("float32", (Dim("", None),))


def _op(name: str, summary: str, *params: ParamSchema, output: TensorType = _SCALAR) -> OpSchema:
    port = PortSchema("value", output)
    return OpSchema(name, 1, summary, (), params, (port,), plugin="fake", is_method=True, differentiable=False)


FAKE_OPS: dict[str, OpSchema] = {
    schema.name: schema
    for schema in (
        _op("fake.echo", "The number that was given.", ParamSchema("value", "float")),
        _op("fake.sleep", "Waits in many short steps, with progress.", ParamSchema("seconds", "float")),
        _op("fake.hang", "Waits inside one step, deaf to cancels.", ParamSchema("seconds", "float")),
        _op("fake.seize", "Computes for ever without giving up the interpreter, deaf to everything."),
        _op("fake.fail", "Raises inside the operation.", ParamSchema("message", "str")),
        _op("fake.crash", "Ends the process with SIGKILL."),
        _op("fake.numbers", "The numbers 0 to n - 1.", ParamSchema("n", "int"), output=_NUMBERS),
    )
}
"""What the fake offers beside ``site.read`` and ``tokens.ids``."""


def activation(ids: Sequence[int], layer: int, d_model: int) -> np.ndarray:
    """What ``layers.{layer}.resid_post`` reads, of shape ``(1, pos, d_model)``.

    ``(id + 1) * (channel + 1) * (layer + 1) / 100``.
    """
    rows = np.asarray(ids, dtype=np.float32)[:, None] + 1
    return (rows * np.arange(1, d_model + 1, dtype=np.float32) * (layer + 1) / 100)[None]


def next_token(ids: Sequence[int]) -> int:
    """The lower-case letter that the fake generates after ``ids``."""
    return 97 + sum(ids) % 26


def kill_own_process() -> None:
    """Ends this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(slots=True)
class _Run:
    """One run on its way: which node comes next, and what was computed."""

    request: RunRequest
    tokens: tuple[Tokens, ...]
    node: int = 0
    wakes_at: float = 0.0
    sleep_from: float = 0.0
    values: dict[int, np.ndarray] = field(default_factory=dict)
    generated: list[list[int]] = field(default_factory=list)
    shared_with: list[int] = field(default_factory=list)


class FakeEngine:
    """Implements ``engine.plan.Engine``.

    Args:
        name: Of the model.
        limits: That its manifest states.
        clock: Monotonic seconds; ``fake.sleep`` ends by it.
        wall: Seconds of the Unix clock; deadlines end by it.
        sleep: What passes the time of ``fake.hang`` and between the slices of ``fake.sleep``.
        crash: What ``fake.crash`` does; must not return.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        crash: Callable[[], None] = kill_own_process,
    ) -> None:
        self._manifest = _manifest(name, limits or Limits())
        self._clock, self._wall, self._sleep, self._crash = clock, wall, sleep, crash
        self._runs: dict[str, _Run] = {}
        self._events: list[Event] = []
        self._blobs: dict[str, TensorData] = {}
        self._busy: tuple[tuple[str, ...], str] = ((), "")

    def describe(self) -> Manifest:
        """The fake's manifest, with the artifacts it was given."""
        return self._manifest

    def tokenize(self, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """One token per character (its code modulo 128), no special tokens."""
        return tuple(_tokens(prompt) for prompt in prompts)

    def put_blob(self, digest: str, tensor: TensorData) -> None:
        """Keeps it. Raises ``DataLoss``."""
        if blob_digest(tensor) != digest:
            raise DataLoss(f"blob {digest!r} has content of another digest")
        self._blobs[digest] = tensor

    def put_artifact(self, name: str, kind: str, path: str) -> ArtifactInfo:
        """Notes name and size; the content may be anything."""
        return self.note_artifact(name, kind, os.path.getsize(path))

    def drop_artifact(self, name: str) -> None:
        """Takes an artifact out of the manifest."""
        kept = {known: info for known, info in self._manifest.artifacts.items() if known != name}
        self._manifest = replace(self._manifest, artifacts=kept)

    def put_adapter(self, info: AdapterInfo, folder: str) -> AdapterInfo:
        """Lists an adapter in the manifest; the source ``fake:broken`` does not fit."""
        if info.source == "fake:broken":
            raise InvalidRequest(f"adapter {info.name!r} does not fit")
        info = replace(info, kind="FAKE")
        self._manifest = replace(self._manifest, adapters={**self._manifest.adapters, info.name: info})
        return info

    def drop_adapter(self, name: str) -> None:
        """Takes an adapter out of the manifest."""
        kept = {known: info for known, info in self._manifest.adapters.items() if known != name}
        self._manifest = replace(self._manifest, adapters=kept)

    def note_artifact(self, name: str, kind: str, n_bytes: int) -> ArtifactInfo:
        """Lists an artifact in the manifest."""
        if kind not in self._manifest.artifact_kinds:
            raise InvalidRequest(f"no artifact kind {kind!r}; known are {', '.join(self._manifest.artifact_kinds)}")
        info = ArtifactInfo(name, kind, f"sha256:{name}", n_bytes)
        self._manifest = replace(self._manifest, artifacts={**self._manifest.artifacts, name: info})
        return info

    def submit(self, request: RunRequest) -> None:
        """Checks and starts it."""
        tokens = self.tokenize(request.prompts)
        try:
            check(request, self._manifest, [len(t.ids) for t in tokens]).raise_if_bad()
        except InterpdError as error:
            self._events.append(Failed(request.run_id, error))
            return
        self._events.append(Started(request.run_id, tokens))
        self._runs[request.run_id] = _Run(request, tokens, generated=[[] for _ in tokens])

    def cancel(self, run_id: str) -> None:
        """Ends it with ``Cancelled``."""
        if self._runs.pop(run_id, None) is not None:
            self._events.append(Cancelled(run_id, "running"))

    @property
    def has_work(self) -> bool:
        """Whether a run is under way or an event waits."""
        return bool(self._runs or self._events)

    @property
    def busy_with(self) -> tuple[tuple[str, ...], str]:
        """The runs and the operation of the current step."""
        return self._busy

    def step(self) -> Sequence[Event]:
        """Every run one node or one new token further."""
        runs = list(self._runs.values())
        ids = tuple(run.request.run_id for run in runs)
        for run in runs:
            self._busy = (ids, "pass")
            run.shared_with.append(len(runs))
            self._advance(run)
        if runs and all(run.wakes_at for run in runs):
            self._sleep(0.005)
        self._busy = ((), "")
        events, self._events = self._events, []
        for event in events:
            if isinstance(event, TERMINAL):
                self._runs.pop(event.run_id, None)
        return events

    def close(self) -> None:
        """Forgets all runs."""
        self._runs.clear()

    def _advance(self, run: _Run) -> None:
        request = run.request
        if request.deadline_s is not None and self._wall() > request.deadline_s:
            error = DeadlineExceeded("the deadline passed while the run was on the engine", stage="running")
            self._events.append(Failed(request.run_id, error))
            return
        try:
            if run.node < len(request.graph.nodes):
                self._run_node(run, request.graph.nodes[run.node])
            elif not self._generate(run):
                self._finish(run)
        except InterpdError as error:
            self._events.append(Failed(request.run_id, error))

    def _run_node(self, run: _Run, node: Node) -> None:
        if node.op == "fake.sleep":
            if not self._slept(run, float(node.params["seconds"])):  # type: ignore[arg-type]
                return
            run.values[run.node] = np.float32(node.params["seconds"])
        elif node.op.startswith("fake."):
            self._busy = ((run.request.run_id,), f"op {node.op}@1")
            run.values[run.node] = self._misbehave(node.op, dict(node.params))
        elif node.op == "site.read":
            run.values[run.node] = self._read(run, node)
        elif node.op == "tokens.ids":
            run.values[run.node] = np.asarray([run.tokens[node.invoke].ids], dtype=np.int64)
        else:
            raise FeatureUnsupported(f"the fake engine has no {node.op!r}")
        run.node += 1

    def _slept(self, run: _Run, seconds: float) -> bool:
        now = self._clock()
        if not run.wakes_at:
            run.sleep_from, run.wakes_at = now, now + seconds
            self._events.append(Progress(run.request.run_id, 0.0, seconds))
        if now < run.wakes_at:
            return False
        run.wakes_at = 0.0
        return True

    def _misbehave(self, op: str, params: dict[str, Any]) -> np.ndarray:
        if op == "fake.hang":
            self._sleep(params["seconds"])
            return np.float32(params["seconds"])
        if op == "fake.seize":
            re.fullmatch(r"(a+)+", "a" * 64 + "b")
        if op == "fake.fail":
            raise OpFailed(f"op 'fake.fail' of plugin 'fake' raised: {params['message']}", op=op, plugin="fake")
        if op == "fake.crash":
            self._crash()
        if op == "fake.numbers":
            return np.arange(params["n"], dtype=np.float32)
        return np.float32(params.get("value", 0.0))

    def _read(self, run: _Run, node: Node) -> np.ndarray:
        layer = int(str(node.params["site"]).split(".")[1])
        value = activation(run.tokens[node.invoke].ids, layer, 4)
        positions = node.params.get("positions")
        return value if positions is None else value[:, list(positions)]  # type: ignore[arg-type]

    def _generate(self, run: _Run) -> bool:
        """Whether another token of each prompt was made."""
        request = run.request
        if request.generation is None or len(run.generated[0]) == request.generation.max_new_tokens:
            return False
        for invoke, (prompt, new) in enumerate(zip(run.tokens, run.generated, strict=True)):
            new.append(next_token((*prompt.ids, *new)))
            if request.stream_tokens:
                token = TokenGenerated(request.run_id, invoke, len(new) - 1, new[-1], chr(new[-1]))
                self._events.append(token)
        return True

    def _finish(self, run: _Run) -> None:
        request, n_bytes = run.request, 0
        for name, ref in request.graph.outputs.items():
            tensor = TensorData.from_numpy(run.values[ref.node])
            n_bytes += len(tensor.data)
            self._events.append(Result(request.run_id, name, tensor, axes=("",) * len(tensor.shape)))
        n_tokens = sum(len(t.ids) for t in run.tokens) + sum(map(len, run.generated))
        cost = Cost(n_tokens, 2, len(run.shared_with), n_bytes, shared_with=tuple(run.shared_with))
        generated = tuple(
            Generated(invoke, tuple(new), "".join(map(chr, new)), "length")
            for invoke, new in enumerate(run.generated)
            if request.generation is not None
        )
        digest = graph_digest(request.graph, request.prompts, request.generation)
        info = self._manifest.model
        provenance = Provenance(digest, info.name, info.revision, (("fake", "1"),), "fake 1", info.dtype, info.device)
        self._events.append(Done(request.run_id, provenance, cost, generated))


def _tokens(prompt: Prompt) -> Tokens:
    text = prompt.text
    if prompt.messages is not None:
        text = "".join(f"{role}: {content}\n" for role, content in prompt.messages)
    if text is None:
        ids = prompt.token_ids or ()
        return Tokens(ids, tuple(map(chr, ids)), ((0, 0),) * len(ids), "".join(map(chr, ids)))
    ids = tuple(ord(c) % D_VOCAB for c in text)
    return Tokens(ids, tuple(text), tuple((i, i + 1) for i in range(len(text))), text)


def _manifest(name: str, limits: Limits) -> Manifest:
    sizes = {"d_model": 4, "d_vocab": D_VOCAB, "head": 2, "kv_head": 2, "d_head": 2, "d_mlp": 8}
    info = ModelInfo(name, f"fake:{name}", "sha256:0", "Fake", "fake", 0, 2, sizes, 0, "float32", "cpu")
    resid = TensorType("float32", (Dim("batch", 1), Dim("pos"), Dim("d_model", 4)))
    sites = {
        f"layers.{i}.resid_post": SiteSchema(f"layers.{i}.resid_post", resid, i + 1, i, writable=False)
        for i in range(2)
    }
    ops = {op: BUILTIN_OPS[op] for op in ("site.read", "tokens.ids")} | FAKE_OPS
    plugin = PluginInfo("fake", "interpd", "1", "loaded", ops=tuple(FAKE_OPS))
    kinds = {"fake": ArtifactSchema("fake", "fake", (), "Any bytes.")}
    return Manifest(info, sites, (), {}, {}, ops, kinds, {}, (plugin,), limits, "fake 1")


def make_fake_engine(options: ReplicaOptions, report: Report = no_report) -> FakeEngine:
    """A fake engine for a worker process (``engine_factory`` "interpd.testing.fake_engine:make_fake_engine").

    The source ``fake:broken`` cannot be loaded, ``fake:slow`` takes a second, ``fake:while:PATH`` can be loaded while
    the file exists.
    """
    source = options.spec.source
    _, _, path = source.partition("fake:while:")
    if source == "fake:broken" or (path and not os.path.exists(path)):
        raise InvalidRequest(f"source {source!r} cannot be loaded")
    if source == "fake:slow":
        report("loading weights: 1 of 2 tensors")
        time.sleep(1.0)
    return FakeEngine(options.spec.name, limits=options.limits)
