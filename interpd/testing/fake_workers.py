"""Workers without Ray: fake engines in this process, stepped by hand or by the event loop.

A ``Scheduler`` over ``FakeWorkers`` is the fake front for tests of the service and the client: everything above the
worker is real. ``fake.crash`` loses the replica as ``kill -9`` would, and ``restart`` brings it back.
"""

import asyncio
from collections.abc import Callable, Sequence

from interpd.config import SchedulerConfig
from interpd.errors import (
    AdapterNotFound,
    ArtifactNotFound,
    InterpdError,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    WorkerLost,
)
from interpd.graph.ir import Prompt
from interpd.graph.run import RunRequest, Tokens
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Limits, Manifest
from interpd.graph.types import TensorData
from interpd.scheduler.scheduler import Scheduler
from interpd.specs import AdapterSpec, ModelSpec
from interpd.testing.fake_engine import FakeEngine
from interpd.worker.link import READY, RESTARTING, EngineStatistics, Lost, ModelStatus, WorkerLink, WorkerObserver


class ManualClock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += seconds


class _Crash(BaseException):
    """The end of a process that is not one."""


def _crash() -> None:
    raise _Crash


class FakeLink:
    """One replica: a fake engine in this process."""

    def __init__(self, name: str, model: str, engine: FakeEngine, wake: Callable[[], None]) -> None:
        self.name, self.model, self.engine = name, model, engine
        self._wake = wake
        self.n_batches = 0

    def submit(self, requests: Sequence[RunRequest]) -> None:
        """Hands requests to the engine."""
        self.n_batches += 1
        for request in requests:
            self.engine.submit(request)
        self._wake()

    def cancel(self, run_ids: Sequence[str]) -> None:
        """Hands cancels to the engine."""
        for run_id in run_ids:
            self.engine.cancel(run_id)
        self._wake()

    async def tokenize(self, prompts: Sequence[Prompt]) -> tuple[Tokens, ...]:
        """The prompts as tokens."""
        return self.engine.tokenize(prompts)

    def statistics(self) -> EngineStatistics:
        """Zeros."""
        return EngineStatistics()


class FakeWorkers:
    """Implements ``worker.link.Workers``.

    Args:
        models: Names of models that are loaded from the start.
        n_replicas: Of each.
        limits: In the manifests.
        clock: Monotonic seconds, for ``fake.sleep``.
        runs_itself: Whether engines step on the event loop; otherwise ``step`` does it.
    """

    def __init__(
        self,
        models: Sequence[str] = ("fake",),
        *,
        n_replicas: int = 1,
        limits: Limits | None = None,
        clock: Callable[[], float] | None = None,
        runs_itself: bool = False,
    ) -> None:
        self._limits, self._clock, self._runs_itself = limits or Limits(), clock, runs_itself
        self._links: dict[str, list[FakeLink]] = {}
        self._manifests: dict[str, Manifest] = {}
        self._files: dict[tuple[str, str], bytes] = {}
        self._observer: WorkerObserver | None = None
        self._n_started = 0
        self._task: asyncio.Task[None] | None = None
        for model in models:
            self._start(model, n_replicas)

    def observe(self, observer: WorkerObserver) -> None:
        """Names the one observer."""
        self._observer = observer

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model."""
        return tuple(
            ModelStatus(name, READY if links else RESTARTING, "", self._manifests[name].model, 1, len(links))
            for name, links in self._links.items()
        )

    def manifest(self, model: str) -> Manifest:
        """What the model offers."""
        if model not in self._manifests:
            raise ModelNotFound(f"no model {model!r}", model=model)
        return self._manifests[model]

    def links(self, model: str) -> tuple[WorkerLink, ...]:
        """The replicas that are not lost."""
        return tuple(self._links.get(model, ()))

    async def load(self, spec: ModelSpec) -> None:
        """Loads at once; the source ``fake:broken`` fails."""
        if spec.source == "fake:broken":
            raise ModelNotReady("source 'fake:broken' cannot be loaded")
        if spec.name in self._links:
            raise InvalidRequest(f"model name {spec.name!r} is taken")
        self._start(spec.name, spec.replicas)
        self._changed()

    async def unload(self, model: str) -> None:
        """Takes the model away."""
        self.manifest(model)
        for link in self._links[model]:
            self.lose(link, WorkerLost(f"model {model!r} was unloaded while it held the run"))
        del self._links[model], self._manifests[model]
        self._changed()

    async def put_blob(self, model: str | None, digest: str, tensor: TensorData) -> None:
        """Hands a constant to the engines."""
        for name in [model] if model is not None else list(self._links):
            for link in self._links[name]:
                link.engine.put_blob(digest, tensor)

    async def put_artifact(self, model: str, name: str, kind: str, data: bytes) -> ArtifactInfo:
        """Notes an artifact."""
        infos = [link.engine.note_artifact(name, kind, len(data)) for link in self._links[model]]
        self._manifests[model] = self._links[model][0].engine.describe()
        self._files[model, name] = data
        return infos[0]

    async def get_artifact(self, model: str, name: str) -> tuple[ArtifactInfo, bytes]:
        """An artifact that was put, and its bytes."""
        if (model, name) not in self._files:
            raise ArtifactNotFound(f"model {model!r} has no artifact {name!r}", artifact=name)
        return self._manifests[model].artifacts[name], self._files[model, name]

    async def delete_artifact(self, model: str, name: str) -> None:
        """Takes an artifact away from the engines."""
        await self.get_artifact(model, name)
        for link in self._links[model]:
            link.engine.drop_artifact(name)
        self._manifests[model] = self._links[model][0].engine.describe()
        del self._files[model, name]

    async def load_adapter(self, model: str, spec: AdapterSpec) -> AdapterInfo:
        """Notes an adapter; the source ``fake:broken`` does not fit."""
        given = AdapterInfo(spec.name, spec.source, f"sha256:{spec.source}")
        infos = [link.engine.put_adapter(given, "") for link in self._links[model]]
        self._manifests[model] = self._links[model][0].engine.describe()
        return infos[0]

    async def unload_adapter(self, model: str, name: str) -> None:
        """Takes an adapter away from the engines."""
        if name not in self._manifests[model].adapters:
            raise AdapterNotFound(f"model {model!r} has no adapter {name!r}", adapter=name)
        for link in self._links[model]:
            link.engine.drop_adapter(name)
        self._manifests[model] = self._links[model][0].engine.describe()

    async def close(self) -> None:
        """Forgets everything."""
        if self._task is not None:
            self._task.cancel()
        self._links.clear()

    def step(self) -> None:
        """One step of every engine that has work."""
        for links in list(self._links.values()):
            for link in list(links):
                if link.engine.has_work:
                    self._step(link)

    def lose(self, link: FakeLink, error: InterpdError | None = None) -> None:
        """Ends a replica, as its death does."""
        self._links[link.model].remove(link)
        if self._observer is not None:
            self._observer.on_lost(link, Lost(error or WorkerLost(f"the worker of model {link.model!r} died")))

    def restart(self, model: str) -> None:
        """Brings one replica back."""
        self._start(model, 1)
        self._changed()

    def _start(self, model: str, n_replicas: int) -> None:
        links = self._links.setdefault(model, [])
        for _ in range(n_replicas):
            self._n_started += 1
            clock = self._clock
            timing = {} if clock is None else {"clock": clock, "wall": clock, "sleep": lambda seconds: None}
            engine = FakeEngine(model, limits=self._limits, crash=_crash, **timing)
            links.append(FakeLink(f"{model}/{self._n_started}", model, engine, self._wake))
            self._manifests[model] = engine.describe()

    def _step(self, link: FakeLink) -> None:
        try:
            events = link.engine.step()
        except _Crash:
            self.lose(link)
            return
        if self._observer is not None:
            self._observer.on_events(link, events)

    def _wake(self) -> None:
        if self._runs_itself and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while any(link.engine.has_work for links in self._links.values() for link in links):
            self.step()
            await asyncio.sleep(0)

    def _changed(self) -> None:
        if self._observer is not None:
            self._observer.on_change()


def fake_front(models: Sequence[str] = ("fake",), *, config: SchedulerConfig | None = None) -> Scheduler:
    """A real scheduler over fake engines that run on the event loop; ``run_clock`` gives it time."""
    return Scheduler(FakeWorkers(models, runs_itself=True), config or SchedulerConfig(), unload_grace_s=0.5)
