"""The adapters of one model: the copies from which its workers load them, and why some could not be loaded."""

import asyncio
import difflib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from interpd.errors import AdapterNotFound, InterpdError, WorkerLost
from interpd.graph.schema import AdapterInfo, Manifest
from interpd.specs import AdapterSpec
from interpd.telemetry import Log
from interpd.worker.adapter_files import kept_adapter
from interpd.worker.host_link import HostLink

MOST_DEATHS = 2
"""Processes that may die of an adapter before it is left out."""

log = Log("adapters")


@dataclass(frozen=True, slots=True)
class _Kept:
    info: AdapterInfo
    folder: Path


class AdapterShelf:
    """What replicas of a model are given, whenever they start.

    Args:
        model: The model's name.
        specs: What it is configured with; read when its first replica starts.
        folder: Where copies are kept.
    """

    def __init__(self, model: str, specs: Sequence[AdapterSpec], folder: Path) -> None:
        self._model, self._folder = model, folder
        self._unread = list(specs)
        self._kept: dict[str, _Kept] = {}
        self._broken: dict[str, AdapterInfo] = {}
        self._deaths: dict[str, int] = {}
        self._changing = asyncio.Lock()

    @property
    def infos(self) -> dict[str, AdapterInfo]:
        """What is known, by name; what could not be loaded says why."""
        return {**{name: kept.info for name, kept in self._kept.items()}, **self._broken}

    @property
    def problem(self) -> str:
        """What could not be loaded, in words; empty: nothing."""
        return "; ".join(f"adapter {info.name!r} was not loaded: {info.problem}" for info in self._broken.values())

    def offers(self, manifest: Manifest) -> bool:
        """Whether a worker with this manifest has what is known, and nothing else."""
        wanted = {name: kept.info.digest for name, kept in self._kept.items()}
        return {name: info.digest for name, info in manifest.adapters.items()} == wanted

    async def load(self, spec: AdapterSpec, links: Sequence[HostLink]) -> AdapterInfo:
        """The adapter, once all ``links`` have it. Raises ``CallerError``, ``WorkerLost``; nothing changes then."""
        if not links:
            raise WorkerLost(f"no worker of model {self._model!r} serves now; try again in a moment")
        async with self._changing:
            kept = await self._read(spec)
            try:
                infos = [await link.put_adapter(kept.info, str(kept.folder)) for link in links]
            except InterpdError:
                await self._put_back(spec.name, links)
                raise
            old = self._kept.get(spec.name)
            self._kept[spec.name] = replace(kept, info=infos[0])
            self._broken.pop(spec.name, None)
            await self._discard(old)
            return infos[0]

    async def unload(self, name: str, links: Iterable[HostLink]) -> None:
        """Takes an adapter away. Raises ``AdapterNotFound``."""
        async with self._changing:
            if name not in self.infos:
                near = difflib.get_close_matches(name, self.infos, n=1)
                hint = f"nearest is {near[0]!r}" if near else f"it has {', '.join(self.infos) or 'none'}"
                text = f"model {self._model!r} has no adapter {name!r}; {hint}"
                raise AdapterNotFound(text, model=self._model, adapter=name)
            old = self._kept.pop(name, None)
            self._broken.pop(name, None)
            await self._discard(old)
            await asyncio.gather(*(_forget(link, name) for link in links))

    async def equip(self, link: HostLink) -> None:
        """Gives a process that starts all that is known. Raises ``WorkerLost``."""
        async with self._changing:
            while self._unread:
                spec = self._unread[0]
                try:
                    self._kept[spec.name] = await self._read(spec)
                except InterpdError as error:
                    self._leave_out(AdapterInfo(spec.name, spec.source), error.message)
                self._unread.pop(0)
            for name in list(self._kept):
                await self._give(link, name)

    async def level(self, link: HostLink, manifest: Manifest) -> None:
        """Tells a new process what came and went while it started. Raises ``WorkerLost``."""
        async with self._changing:
            for name in manifest.adapters.keys() - self._kept.keys():
                await link.drop_adapter(name)
            for name, kept in list(self._kept.items()):
                if name not in manifest.adapters or manifest.adapters[name].digest != kept.info.digest:
                    await self._give(link, name)

    async def _read(self, spec: AdapterSpec) -> _Kept:
        folder, digest = await asyncio.to_thread(kept_adapter, spec, self._folder)
        return _Kept(AdapterInfo(spec.name, spec.source, digest), folder)

    async def _give(self, link: HostLink, name: str) -> None:
        kept = self._kept[name]
        try:
            self._kept[name] = replace(kept, info=await link.put_adapter(kept.info, str(kept.folder)))
        except WorkerLost:
            # a process that an adapter ends again and again must not take the model with it
            self._deaths[name] = self._deaths.get(name, 0) + 1
            if self._deaths[name] >= MOST_DEATHS:
                self._leave_out(kept.info, f"its worker died {MOST_DEATHS} times while it was loaded")
            raise
        except InterpdError as error:
            self._leave_out(kept.info, error.message)

    async def _discard(self, kept: _Kept | None) -> None:
        """Removes a copy that no adapter needs; what is loaded is in the workers' memory."""
        if kept is not None and all(other.folder != kept.folder for other in self._kept.values()):
            await asyncio.to_thread(shutil.rmtree, kept.folder, ignore_errors=True)

    def _leave_out(self, info: AdapterInfo, problem: str) -> None:
        # whoever reads it knows which adapter is meant
        for known in (f"adapter {info.name!r}: ", f"adapter {info.name!r} of model {self._model!r}: "):
            problem = problem.removeprefix(known)
        log.error("an adapter is not used", model=self._model, adapter=info.name, problem=problem)
        self._kept.pop(info.name, None)
        self._broken[info.name] = replace(info, problem=problem)

    async def _put_back(self, name: str, links: Iterable[HostLink]) -> None:
        old = self._kept.get(name)
        for link in links:
            if old is None:
                await _forget(link, name)
                continue
            try:
                await link.put_adapter(old.info, str(old.folder))
            except InterpdError as error:
                log.warning("a worker has other adapters than its siblings", worker=link.name, error=error.message)


async def _forget(link: HostLink, name: str) -> None:
    try:
        await link.drop_adapter(name)
    except WorkerLost as error:
        # a process that is lost has forgotten it, too
        log.debug("a worker was lost", worker=link.name, error=error.message)
