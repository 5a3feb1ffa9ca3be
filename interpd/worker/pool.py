"""All replicas of all models: the ``Workers`` that the scheduler sees."""

import asyncio
import difflib
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from interpd.config import Config
from interpd.errors import (
    ArtifactNotFound,
    CallerError,
    DataLoss,
    InterpdError,
    InvalidRequest,
    LimitExceeded,
    ModelNotFound,
    ModelNotReady,
    WorkerLost,
)
from interpd.graph.run import ArtifactKept, Event, Failed
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest
from interpd.graph.types import TensorData
from interpd.specs import AdapterSpec, ModelSpec
from interpd.telemetry import Log
from interpd.worker.adapter_shelf import AdapterShelf
from interpd.worker.host_link import HostLink, Starter
from interpd.worker.link import (
    FAILED,
    LOADING,
    READY,
    RESTARTING,
    UNLOADING,
    Lost,
    ModelStatus,
    WorkerLink,
    WorkerObserver,
)
from interpd.worker.options import ReplicaOptions
from interpd.worker.replica import Replica
from interpd.worker.threads import with_threads

MOST_MODELS = 64
"""Models at once, those included that failed to load and say why."""

ARTIFACT_BYTES = 64 << 30
"""Artifacts of one model."""

log = Log("pool")


@dataclass(frozen=True, slots=True)
class _Kept:
    """An artifact on this machine's disk."""

    kind: str
    path: Path
    n_bytes: int


@dataclass(slots=True)
class _Model:
    """A model and its replicas."""

    spec: ModelSpec
    settled: "asyncio.Future[None]"
    """Done when the first replica serves or all have failed."""
    adapters: AdapterShelf
    replicas: list[Replica] = field(default_factory=list)
    links: dict[int, HostLink] = field(default_factory=dict)
    """Of replicas that serve now, by index."""
    failed: dict[int, InterpdError] = field(default_factory=dict)
    manifest: Manifest | None = None
    """The last one known; it outlives a restart."""
    artifacts: dict[str, _Kept] = field(default_factory=dict)
    """Uploaded ones, and those that methods made, by name, for processes that start later."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who changes artifacts: equal files of different names are one file."""
    detail: str = ""
    is_leaving: bool = False
    n_restarts: int = 0

    @property
    def state(self) -> str:
        """One of ``MODEL_STATES``."""
        if self.is_leaving:
            return UNLOADING
        if self.links:
            return READY
        if len(self.failed) == self.spec.replicas:
            return FAILED
        return LOADING if self.manifest is None else RESTARTING

    def offer(self, manifest: Manifest) -> None:
        """Takes over what a replica says that it offers, with the adapters that no replica could load."""
        self.manifest = replace(manifest, adapters=self.adapters.infos)

    def status(self) -> ModelStatus:
        """The model as others see it."""
        info = self.manifest.model if self.manifest else None
        return ModelStatus(
            self.spec.name, self.state, self.detail, info, self.spec.replicas, len(self.links), self.n_restarts
        )


class Pool:
    """Implements ``worker.link.Workers`` and ``worker.replica.ReplicaKeeper``.

    Args:
        config: What replicas are told, and timeouts.
        state_dir: Where uploaded artifacts are written.
        starter: Where replicas come from.
    """

    def __init__(self, config: Config, state_dir: Path, starter: Starter) -> None:
        self._config = config
        self._state_dir = state_dir
        self._starter = starter
        self._models: dict[str, _Model] = {}
        self._observer: WorkerObserver | None = None
        self._spreading: set[asyncio.Task[None]] = set()

    def observe(self, observer: WorkerObserver) -> None:
        """Names the one observer."""
        self._observer = observer

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed."""
        return tuple(model.status() for model in self._models.values())

    def manifest(self, model: str) -> Manifest:
        """What the model offers."""
        found = self._get(model)
        if found.manifest is None:
            raise ModelNotReady(
                f"model {model!r} is {found.state}{_because(found.detail)}", model=model, state=found.state
            )
        return found.manifest

    def links(self, model: str) -> tuple[WorkerLink, ...]:
        """The replicas that take requests now."""
        return tuple(self._models[model].links.values()) if model in self._models else ()

    async def load(self, spec: ModelSpec) -> None:
        """Returns when the model serves. A model that failed may be loaded again under its name."""
        old = self._models.get(spec.name)
        if old is not None:
            if old.state != FAILED:
                raise InvalidRequest(f"model name {spec.name!r} is taken; unload it first, or give another name")
        elif len(self._models) >= MOST_MODELS:
            raise LimitExceeded(f"{len(self._models)} models are loaded or have failed, the most that may; unload some")
        shelf = AdapterShelf(spec.name, spec.adapters, self._state_dir / "adapters" / spec.name)
        model = _Model(spec, asyncio.get_running_loop().create_future(), shelf)
        # in its place before anything is waited for: the name may be asked for again meanwhile
        self._models[spec.name] = model
        if old is not None:
            await self._end(old)
        options = self._options(self._placed(spec))
        model.replicas = [
            Replica(index, options, self._config.worker, self._starter, self) for index in range(spec.replicas)
        ]
        self._changed()
        await asyncio.shield(model.settled)

    async def unload(self, model: str) -> None:
        """Ends the model's replicas at once."""
        found = self._get(model)
        found.is_leaving = True
        await self._end(found)
        self._models.pop(model, None)
        self._changed()

    async def put_blob(self, model: str | None, digest: str, tensor: TensorData) -> None:
        """Sends a constant to every replica of ``model``, or of all."""
        models = self._models.values() if model is None else [self._get(model)]
        links = [link for found in models for link in found.links.values()]
        await self._to_all(links, lambda link: link.put_blob(digest, tensor))

    async def put_artifact(self, model: str, name: str, kind: str, data: bytes) -> ArtifactInfo:
        """Makes an artifact known to every replica of ``model``, and to those that start later."""
        found = self._get(model)
        taken = sum(kept.n_bytes for kept in found.artifacts.values())
        if taken + len(data) > ARTIFACT_BYTES:
            raise LimitExceeded(
                f"the artifacts of model {model!r} have {taken} bytes, at most {ARTIFACT_BYTES} are kept"
            )
        async with found.changing:
            links = list(found.links.values())
            infos = await self._to_all(links, lambda link: link.put_artifact(name, kind, data))
            found.artifacts[name] = await asyncio.to_thread(self._kept, model, kind, data)
        found.offer(await links[0].describe())
        self._changed()
        return infos[0]

    async def get_artifact(self, model: str, name: str) -> tuple[ArtifactInfo, bytes]:
        """An artifact and its file. Raises ``DataLoss`` when somebody took the file away."""
        info, kept = await self._artifact(model, name)
        try:
            return info, await asyncio.to_thread(kept.path.read_bytes)
        except OSError as error:
            raise DataLoss(f"the file of artifact {name!r} is gone ({error}); make or upload it again") from error

    async def delete_artifact(self, model: str, name: str) -> None:
        """Takes an artifact away from every replica of ``model``, and from the disk."""
        await self._artifact(model, name)
        found = self._get(model)
        async with found.changing:
            kept = found.artifacts.pop(name, None)
            drops = (link.drop_artifact(name) for link in found.links.values())
            for answer in await asyncio.gather(*drops, return_exceptions=True):
                # a process that is lost has forgotten it, too
                if isinstance(answer, BaseException) and not isinstance(answer, WorkerLost):
                    raise answer
            if kept is not None and all(other.path != kept.path for other in found.artifacts.values()):
                for path in (kept.path, kept.path.with_suffix(".safetensors")):
                    await asyncio.to_thread(path.unlink, missing_ok=True)
            if found.manifest is not None:
                left = {key: info for key, info in found.manifest.artifacts.items() if key != name}
                found.manifest = replace(found.manifest, artifacts=left)
        self._changed()

    async def load_adapter(self, model: str, spec: AdapterSpec) -> AdapterInfo:
        """Loads an adapter into every replica of ``model``, and into those that start later."""
        found = self._get(model)
        info = await found.adapters.load(spec, list(found.links.values()))
        self._adapters_changed(found)
        return info

    async def unload_adapter(self, model: str, name: str) -> None:
        """Takes an adapter away from every replica of ``model``."""
        found = self._get(model)
        await found.adapters.unload(name, list(found.links.values()))
        self._adapters_changed(found)

    def _adapters_changed(self, model: _Model) -> None:
        if model.manifest is not None:
            model.offer(model.manifest)
        if model.links:
            model.detail = model.adapters.problem
        self._changed()

    async def close(self) -> None:
        """Ends every replica."""
        await asyncio.gather(*self._spreading)
        await asyncio.gather(*(self._end(model) for model in self._models.values()))
        self._models.clear()

    # what replicas say

    def on_progress(self, replica: Replica, text: str) -> None:
        """How far a loading is: told while nothing serves, and logged when it has come to something else."""
        model = self._models[replica.model]
        if model.links or model.detail == text:
            return
        if model.detail.partition(":")[0] != text.partition(":")[0]:
            log.info("loading", model=replica.model, replica=replica.index, now=text)
        model.detail = text
        self._changed()

    def on_ready(self, replica: Replica, link: HostLink, manifest: Manifest) -> None:
        """A replica serves."""
        model = self._models[replica.model]
        model.links[replica.index] = link
        model.offer(manifest)
        model.detail = model.adapters.problem
        if not model.settled.done():
            model.settled.set_result(None)
        if manifest.artifacts.keys() != model.artifacts.keys() or not model.adapters.offers(manifest):
            self._later(self._level(model, link, manifest))
        log.info("model serves", model=replica.model, worker=link.name, device=manifest.model.device)
        for plugin in manifest.plugins:
            if plugin.status == "broken":
                log.warning("a plugin is not used", plugin=plugin.name, model=replica.model, problem=plugin.problem)
        self._changed()

    def on_events(self, link: HostLink, events: Sequence[Event]) -> None:
        """Events of a replica's runs."""
        for event in events:
            if isinstance(event, Failed) and event.error.trace:
                log.error(f"{event.error.message}\n{event.error.trace.rstrip()}\n", run=event.run_id, worker=link.name)
            if isinstance(event, ArtifactKept) and link.model in self._models:
                self._keep(self._models[link.model], link, event)
        if self._observer is not None:
            self._observer.on_events(link, [event for event in events if not isinstance(event, ArtifactKept)])

    def on_lost(self, replica: Replica, link: HostLink, lost: Lost) -> None:
        """A replica's process is gone."""
        model = self._models[replica.model]
        model.links.pop(replica.index, None)
        model.n_restarts += 1
        model.detail = lost.error.message
        if self._observer is not None:
            self._observer.on_lost(link, lost)
        self._changed()

    def on_failed(self, replica: Replica, error: InterpdError) -> None:
        """A replica is given up."""
        model = self._models[replica.model]
        model.failed[replica.index] = error
        model.detail = error.message
        link = model.links.pop(replica.index, None)
        if link is not None and self._observer is not None:
            # given up while it served: its runs have to end
            self._observer.on_lost(link, Lost(error))
        if model.state == FAILED and not model.settled.done():
            model.settled.set_exception(error)
        self._changed()

    async def equip(self, link: HostLink) -> None:
        """Gives a new process the adapters of its model, and the artifacts that were uploaded."""
        await self._models[link.model].adapters.equip(link)
        for name, kept in list(self._models[link.model].artifacts.items()):
            try:
                data = await asyncio.to_thread(kept.path.read_bytes)
            except OSError as error:
                log.error("an artifact is lost", artifact=name, worker=link.name, error=str(error))
                continue
            await link.put_artifact(name, kept.kind, data)

    # inside

    def _keep(self, model: _Model, link: HostLink, event: ArtifactKept) -> None:
        """Offers an artifact that a method made at once, and sends it to the other replicas."""
        info = event.info
        if model.manifest is not None:
            model.manifest = replace(model.manifest, artifacts={**model.manifest.artifacts, info.name: info})
        self._later(self._spread(model, link, event))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._spreading.add(task)
        task.add_done_callback(self._spreading.discard)

    async def _level(self, model: _Model, link: HostLink, manifest: Manifest) -> None:
        """Tells a new process of what came and went while it started."""
        try:
            async with model.changing:
                for name in manifest.artifacts.keys() - model.artifacts.keys():
                    await link.drop_artifact(name)
                for name in model.artifacts.keys() - manifest.artifacts.keys():
                    kept = model.artifacts[name]
                    await link.put_artifact(name, kept.kind, await asyncio.to_thread(kept.path.read_bytes))
                await model.adapters.level(link, manifest)
                model.offer(await link.describe())
        except (OSError, InterpdError) as error:
            log.warning("a worker has other artifacts than its siblings", worker=link.name, error=str(error))

    async def _artifact(self, model: str, name: str) -> tuple[ArtifactInfo, _Kept]:
        found = self._get(model)
        if name not in found.artifacts and self._spreading:
            # a method may have made it a moment ago
            await asyncio.wait(self._spreading)
        offered = found.manifest.artifacts if found.manifest is not None else {}
        if name not in found.artifacts or name not in offered:
            near = difflib.get_close_matches(name, found.artifacts, n=1)
            hint = f"nearest is {near[0]!r}" if near else f"it has {', '.join(sorted(found.artifacts)) or 'none'}"
            raise ArtifactNotFound(f"model {model!r} has no artifact {name!r}; {hint}", model=model, artifact=name)
        return offered[name], found.artifacts[name]

    async def _spread(self, model: _Model, link: HostLink, event: ArtifactKept) -> None:
        info = event.info
        try:
            data = await asyncio.to_thread(Path(event.path).read_bytes)
            async with model.changing:
                model.artifacts[info.name] = await asyncio.to_thread(self._kept, link.model, info.kind, data)
                others = [other for other in model.links.values() if other is not link]
                await asyncio.gather(*(other.put_artifact(info.name, info.kind, data) for other in others))
        except (OSError, InterpdError) as error:
            log.warning("an artifact stays with one worker", artifact=info.name, worker=link.name, error=str(error))

    def _get(self, model: str) -> _Model:
        if model not in self._models:
            near = difflib.get_close_matches(model, self._models, n=1)
            hint = f"; nearest is {near[0]!r}" if near else ""
            raise ModelNotFound(f"no model {model!r}{hint}", model=model)
        return self._models[model]

    def _folder(self, model: str) -> Path:
        return self._state_dir / "artifacts" / model

    def _kept(self, model: str, kind: str, data: bytes) -> _Kept:
        """An artifact in a file of the pool's own."""
        path = self._folder(model) / f"{hashlib.sha256(data).hexdigest()}.kept"
        path.write_bytes(data)
        return _Kept(kind, path, len(data))

    def _options(self, spec: ModelSpec) -> ReplicaOptions:
        folder = self._folder(spec.name)
        folder.mkdir(parents=True, exist_ok=True)
        worker = self._config.worker
        return ReplicaOptions(
            spec=spec,
            artifact_dir=str(folder),
            plugins=self._config.plugins,
            limits=self._config.limits,
            share_passes=worker.share_passes,
            max_batch_tokens=worker.max_batch_tokens,
            packed_bytes=worker.packed_bytes,
            batch_wait_ms=worker.batch_wait_ms,
            trace_hooks=self._config.trace_hooks,
        )

    def _placed(self, spec: ModelSpec) -> ModelSpec:
        try:
            placed = self._starter.placed(spec)
        except CallerError as error:
            model = self._models[spec.name]
            model.failed, model.detail = dict.fromkeys(range(spec.replicas), error), error.message
            self._changed()
            raise
        # models of the configuration are loaded at once: the first must not take what the others need
        replicas = {spec.name: spec.replicas for spec in self._config.models}
        replicas |= {name: model.spec.replicas for name, model in self._models.items()}
        return with_threads(placed, sum(replicas.values()))

    async def _to_all(
        self, links: Iterable[HostLink], call: Callable[[HostLink], Awaitable[ArtifactInfo | None]]
    ) -> list[ArtifactInfo]:
        answers = await asyncio.gather(*(call(link) for link in links))
        if not answers:
            raise WorkerLost("no worker serves now; try again in a moment")
        return [answer for answer in answers if answer is not None]

    async def _end(self, model: _Model) -> None:
        await asyncio.gather(*(replica.stop() for replica in model.replicas))
        if not model.settled.done():
            model.settled.set_exception(ModelNotReady(f"model {model.spec.name!r} was unloaded while it was loading"))
            model.settled.exception()
        for link in model.links.values():
            error = WorkerLost(f"model {model.spec.name!r} was unloaded while it held the run", model=model.spec.name)
            if self._observer is not None:
                self._observer.on_lost(link, Lost(error))
        model.links.clear()

    def _changed(self) -> None:
        if self._observer is not None:
            self._observer.on_change()


def _because(detail: str) -> str:
    return f": {detail}" if detail else "; try again in a moment"
