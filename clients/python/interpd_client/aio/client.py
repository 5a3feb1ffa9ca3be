"""The client for programs with an event loop: a connection to one interpd daemon."""

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, final

from interpd.config import ModelSpec
from interpd.graph.check import CheckReport
from interpd.graph.run import RunRequest
from interpd.graph.schema import AdapterInfo, ArtifactInfo, PluginInfo
from interpd.scheduler.interface import ModelStatus, Statistics
from interpd_client.aio.model import Model
from interpd_client.aio.runs import RunHandle
from interpd_client.aio.transport import Transport
from interpd_client.aio.waiting import Awaiting
from interpd_client.calls import Calls, attached
from interpd_client.connection import Connection
from interpd_client.listings import ModelList
from interpd_client.result import Result


def connect(
    address: str, *, timeout_s: float | None = None, progress: bool | None = None, n_retries: int = 3
) -> "Client":
    """A client of the daemon at ``host:port``, for ``async with``. Nothing is sent before the first question.

    Arguments are those of ``interpd_client.connect``.
    """
    from interpd_client.aio.grpc_transport import GrpcTransport  # gRPC is not needed to build graphs or to test

    return Client(GrpcTransport(address), timeout_s=timeout_s, progress=progress, n_retries=n_retries)


async def local(
    *models: Any,
    name: str = "",
    dtype: str = "auto",
    device: str = "auto",
    plugins: Sequence[str] | Mapping[str, ModuleType] = (),
    timeout_s: float | None = None,
    progress: bool | None = None,
) -> "Client":
    """A client of models in this very process: ``async with await aio.local("facts") as client``.

    Arguments are those of ``interpd_client.local``.
    """
    # models need torch, whose import takes seconds
    transport = await asyncio.to_thread(importlib.import_module, "interpd_client.aio.local_transport")
    daemon = transport.InProcess(plugins)
    client = Client(transport.LocalTransport(daemon), timeout_s=timeout_s, progress=progress)
    try:
        for spec in transport.specs_of(daemon, models, name, dtype, device):
            await client._calls.load(spec)
    # also for Ctrl-C: what was loaded so far would stay
    except BaseException:
        await client.close()
        raise
    return client


@final
class Client:
    """A connection to one daemon, as ``interpd_client.Client``, for the tasks of one event loop.

    What asks the service is awaited; the rest is as there.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout_s: float | None = None,
        progress: bool | None = None,
        n_retries: int = 3,
    ) -> None:
        self._connection = Connection(transport, timeout_s, n_retries, progress, Awaiting())
        self._calls = Calls(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives up the connection; runs that are not kept end. Idempotent."""
        await self._calls.close()

    async def model(self, name: str) -> Model:
        """A resident model, with what it offers now. Raises ``ModelNotFound``, ``ModelNotReady``."""
        return Model(self._connection, await self._connection.ask("manifest", name))

    async def models(self) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed; shows as a table."""
        return ModelList(await self._connection.ask("models"))

    async def load(self, source: str, **spec: Any) -> Model:
        """The model once it serves; ``source`` and keywords as in ``interpd_client.Client.load``."""
        return Model(self._connection, await self._calls.load(ModelSpec(source, **spec)))

    async def unload(self, name: str) -> None:
        """Takes a model away. Raises ``ModelNotFound``."""
        await self._connection.ask("unload", name)

    async def upload(self, array: object, model: str = "") -> str:
        """The digest of a large constant that is now kept by the workers of ``model`` (``""``: of all)."""
        return await self._calls.upload(array, model)

    async def upload_artifact(
        self, path: str | Path, name: str, kind: str, *, model: str | None = None
    ) -> ArtifactInfo:
        """The artifact that the workers of ``model`` (``None``: the only one) now know under ``name``."""
        return await self._calls.upload_artifact(path, name, kind, model)

    async def download_artifact(self, name: str, path: str | Path | None = None, *, model: str | None = None) -> bytes:
        """The safetensors file of an artifact, also written to ``path``."""
        return await self._calls.download_artifact(name, path, model)

    async def delete_artifact(self, name: str, *, model: str | None = None) -> None:
        """Takes an artifact away from the workers of ``model`` (``None``: the only one); runs that need it fail."""
        await self._calls.delete_artifact(name, model)

    async def artifacts(self, model: str | None = None) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the workers of ``model`` (``None``: the only one) know."""
        return await self._calls.artifacts(model)

    async def load_adapter(
        self, source: str, name: str = "", *, model: str | None = None, revision: str | None = None
    ) -> AdapterInfo:
        """The PEFT adapter that traces on ``model`` can now name, as ``interpd_client.Client.load_adapter``."""
        return await self._calls.load_adapter(source, name, model, revision)

    async def unload_adapter(self, name: str, *, model: str | None = None) -> None:
        """Takes an adapter away from ``model`` (``None``: the only one); runs that have it keep it."""
        await self._calls.unload_adapter(name, model)

    async def adapters(self, model: str | None = None) -> tuple[AdapterInfo, ...]:
        """The adapters of ``model`` (``None``: the only one), with the problems of those that were not loaded."""
        return await self._calls.adapters(model)

    async def plugins(self) -> dict[str, tuple[PluginInfo, ...]]:
        """The plugins that the workers of each model found, broken ones included."""
        return await self._connection.ask("plugins")

    async def status(self) -> Statistics:
        """Counters of the daemon: runs, passes, sharing, memory."""
        return await self._connection.ask("statistics")

    async def run(self, request: RunRequest) -> Result:
        """The result of a request that was made as data; outputs come back under their flat names."""
        return await RunHandle(self._connection, self._calls.job(request)).result()

    async def validate(self, request: RunRequest) -> CheckReport:
        """The service's verdict on a request, with the token counts of its prompts; nothing runs."""
        return await self._connection.ask("validate", request)

    def attach(self, run_id: str) -> RunHandle:
        """A hold on a run that was submitted with ``keep_s``, perhaps by another program."""
        return RunHandle(self._connection, attached(run_id))

    def __repr__(self) -> str:
        return f"<client of {self._connection.transport!r}>"
