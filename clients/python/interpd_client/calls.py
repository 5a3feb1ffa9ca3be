"""What a client asks beside running traces, for the clients of both kinds."""

import time
from dataclasses import replace
from pathlib import Path
from typing import final

from interpd.errors import InvalidRequest
from interpd.graph.digest import blob_digest
from interpd.graph.ir import Graph
from interpd.graph.run import RunRequest
from interpd.graph.schema import AdapterInfo, ArtifactInfo, Manifest
from interpd.specs import AdapterSpec, ModelSpec
from interpd_client.connection import Connection
from interpd_client.constants import tensor_data
from interpd_client.following import Job


@final
class Calls:
    """Questions that take more than one call, or work on this machine."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def load(self, spec: ModelSpec) -> Manifest:
        """What a model offers, once it serves."""
        # loading takes minutes, which is no reason to give up: the service has a bound of its own
        status = await self._connection.ask_within(None, "load", spec)
        return await self._connection.ask("manifest", status.name)

    async def upload(self, array: object, model: str) -> str:
        """The digest of a large constant that is now kept by the workers of ``model``."""
        data = tensor_data(array)
        digest = await self._connection.waits.aside(blob_digest, data)
        await self._connection.upload(model, {digest: data})
        return digest

    async def upload_artifact(self, path: str | Path, name: str, kind: str, model: str | None) -> ArtifactInfo:
        """The artifact that the workers of ``model`` now know."""
        return await put_artifact(self._connection, await self._name(model), path, name, kind)

    async def download_artifact(self, name: str, path: str | Path | None, model: str | None) -> bytes:
        """The file of an artifact."""
        data: bytes = await self._connection.ask("get_artifact", await self._name(model), name)
        if path is not None:
            await self._connection.waits.aside(_write, Path(path), data)
        return data

    async def delete_artifact(self, name: str, model: str | None) -> None:
        """Takes an artifact away."""
        await self._connection.ask("delete_artifact", await self._name(model), name)

    async def artifacts(self, model: str | None) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the workers of ``model`` know."""
        return await self._connection.ask("artifacts", await self._name(model))

    async def load_adapter(self, source: str, name: str, model: str | None, revision: str | None) -> AdapterInfo:
        """The adapter that requests on ``model`` can now ask for."""
        spec = AdapterSpec(name or source.rstrip("/").rpartition("/")[2], source, revision)
        # as long as the daemon allows, like the loading of a model
        return await self._connection.ask_within(None, "load_adapter", await self._name(model), spec)

    async def unload_adapter(self, name: str, model: str | None) -> None:
        """Takes an adapter away."""
        await self._connection.ask("unload_adapter", await self._name(model), name)

    async def adapters(self, model: str | None) -> tuple[AdapterInfo, ...]:
        """The adapters of ``model``."""
        manifest: Manifest = await self._connection.ask("manifest", await self._name(model))
        return tuple(manifest.adapters.values())

    def job(self, request: RunRequest) -> Job:
        """What sends a request that was made as data."""
        timeout_s = self._connection.timeout_s
        if request.deadline_s is None and timeout_s is not None:
            request = replace(request, deadline_s=time.time() + timeout_s)
        return Job(request)

    async def close(self) -> None:
        """Gives up the connection."""
        await self._connection.waits.call(self._connection.transport.close)

    async def _name(self, name: str | None) -> str:
        if name is not None:
            return name
        names = [status.name for status in await self._connection.ask("models") if status.state != "failed"]
        if not names:
            raise InvalidRequest("no model is served")
        if len(names) > 1:
            raise InvalidRequest(f"say which model is meant: model={' or '.join(map(repr, names))}")
        return names[0]


async def put_artifact(
    connection: Connection, model: str, file: str | Path | bytes, name: str, kind: str
) -> ArtifactInfo:
    """The artifact that the workers of ``model`` now know; ``file`` is a path, or what would be in it."""
    data = file if isinstance(file, bytes) else await connection.waits.aside(Path(file).read_bytes)
    return await connection.ask("put_artifact", model, name, kind, data)


def attached(run_id: str) -> Job:
    """What follows a run that was sent by somebody else, from its beginning."""
    request = RunRequest(run_id, "", (), Graph((), {}), keep_s=1.0)
    return Job(request, resume_from=0, is_detached=True)


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
