"""A front without scheduler or workers, and a server of it on a loopback port."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest

from interpd.errors import AdapterNotFound, ArtifactNotFound, ModelNotFound, RunNotFound
from interpd.graph.builtin import BUILTIN_OPS
from interpd.graph.check import CheckReport
from interpd.graph.run import Cost, Done, Event, Provenance, RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest, ModelInfo, PluginInfo, SiteSchema
from interpd.graph.types import Dim, TensorData, TensorType
from interpd.scheduler.interface import ModelStatistics, ModelStatus, Statistics
from interpd.service.options import ServiceOptions
from interpd.service.server import make_server
from interpd.specs import AdapterSpec, ModelSpec

INFO = ModelInfo("facts", "zoo/facts", "abc", "Llama", "llama", 2, 6, {"d_model": 8}, 512, "float32", "cpu")
RESID = TensorType("float32", (Dim("batch", 1), Dim("pos"), Dim("d_model", 8)))
MANIFEST = Manifest(
    model=INFO,
    sites={"layers.0.resid_post": SiteSchema("layers.0.resid_post", RESID, order=3, layer=0)},
    absent_sites=(),
    modules={},
    parameters={},
    ops=BUILTIN_OPS,
    artifact_kinds={},
    artifacts={"l0": ArtifactInfo("l0", "sae", "0f" * 32, 12)},
    plugins=(PluginInfo("sae", "interpd-sae", "0.1", "loaded"),),
)


def done(run_id: str) -> Done:
    return Done(run_id, Provenance("d", "facts", "abc", (), "interpd", "float32", "cpu"), Cost(1, 1, 1, 0))


class FakeHandle:
    def __init__(self, front: "FakeFront", request: RunRequest) -> None:
        self.front, self.run_id, self.request = front, request.run_id, request

    async def events(self, start: int = 0) -> AsyncIterator[Event]:
        number = 0
        async for event in self.front.script(self.request):
            if number >= start:
                self.front.n_taken += 1
                yield event
            number += 1

    def has(self, number: int) -> bool:
        return number < self.front.n_happened

    def cancel(self) -> None:
        self.front.cancelled.append(self.run_id)

    def release(self) -> None:
        self.front.released.append(self.run_id)


class FakeFront:
    """Plays ``script`` for every run; the tests replace it and other answers."""

    def __init__(self) -> None:
        self.statuses = [ModelStatus("facts", "ready", info=INFO, n_ready=1), ModelStatus("big", "loading")]
        self.changed = asyncio.Event()
        self.submitted: list[RunRequest] = []
        self.reports: list[CheckReport | None] = []
        self.cancelled: list[str] = []
        self.released: list[str] = []
        self.n_taken = 0
        self.n_happened = 0
        self.blobs: dict[str, TensorData] = {}
        self.files: dict[str, bytes] = {}
        self.adapters: dict[tuple[str, str], str | None] = {}
        self.error: Exception | None = None

    async def script(self, request: RunRequest) -> AsyncIterator[Event]:
        yield done(request.run_id)

    def models(self) -> tuple[ModelStatus, ...]:
        if self.error is not None:
            raise self.error
        return tuple(self.statuses)

    async def watch_models(self) -> AsyncIterator[tuple[ModelStatus, ...]]:
        while True:
            yield tuple(self.statuses)
            await self.changed.wait()
            self.changed.clear()

    def manifest(self, model: str) -> Manifest:
        if model != "facts":
            raise ModelNotFound(f"no model {model!r}; nearest is 'facts'", model=model)
        return MANIFEST

    async def load(self, spec: ModelSpec) -> ModelStatus:
        self.statuses.append(ModelStatus(spec.name, "ready", detail=spec.source))
        self.changed.set()
        return self.statuses[-1]

    async def unload(self, model: str) -> None:
        self.statuses = [status for status in self.statuses if status.name != model]
        self.changed.set()

    async def tokenize(self, model: str, prompts: Sequence[object]) -> tuple[Tokens, ...]:
        self.manifest(model)
        return tuple(Tokens((1, 2), ("a", "b"), ((0, 1), (1, 2)), "ab") for _ in prompts)

    def submit(self, request: RunRequest, report: CheckReport | None = None) -> FakeHandle:
        self.manifest(request.model)
        self.submitted.append(request)
        self.reports.append(report)
        return FakeHandle(self, request)

    def attach(self, run_id: str) -> FakeHandle:
        for request in self.submitted:
            if request.run_id == run_id:
                return FakeHandle(self, request)
        raise RunNotFound(f"no run {run_id!r}", run=run_id)

    def cancel(self, run_id: str) -> None:
        self.attach(run_id).cancel()

    async def put_blob(self, model: str | None, digest: str, tensor: TensorData) -> None:
        self.blobs[digest] = tensor

    async def put_artifact(self, model: str, name: str, kind: str, data: bytes) -> ArtifactInfo:
        return ArtifactInfo(name, kind, "ab" * 32, len(data), (("d_sae", 4),))

    async def get_artifact(self, model: str, name: str) -> tuple[ArtifactInfo, bytes]:
        if name not in self.manifest(model).artifacts or name not in self.files:
            raise ArtifactNotFound(f"no artifact {name!r}", artifact=name)
        return replace(MANIFEST.artifacts[name], n_bytes=len(self.files[name])), self.files[name]

    async def delete_artifact(self, model: str, name: str) -> None:
        await self.get_artifact(model, name)
        del self.files[name]

    async def load_adapter(self, model: str, spec: AdapterSpec) -> AdapterInfo:
        self.adapters[model, spec.name] = spec.revision
        return AdapterInfo(spec.name, spec.source, "sha256:1", "LORA", 10, 2)

    async def unload_adapter(self, model: str, name: str) -> None:
        if (model, name) not in self.adapters:
            raise AdapterNotFound(f"no adapter {name!r}", adapter=name)
        del self.adapters[model, name]

    def statistics(self) -> Statistics:
        models = (ModelStatistics("facts", n_passes=7, rows_per_pass=2.5),)
        return Statistics(1.5, False, 9, {"OVERLOADED": 2}, {"done": 7}, 1, 1 << 40, models, {"local": 3})


@pytest.fixture
async def front():
    return FakeFront()


@asynccontextmanager
async def served(front, options=None):
    server = make_server(front, options=options or ServiceOptions())
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, channel
    finally:
        await server.stop(0)


@pytest.fixture
async def serve():
    """``served``, for tests with options of their own."""
    return served


@pytest.fixture
async def channel(front):
    async with served(front) as (_, channel):
        yield channel
