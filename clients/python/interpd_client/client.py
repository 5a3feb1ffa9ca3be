"""The client: a connection to one interpd daemon."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, final

from interpd.config import ModelSpec
from interpd.graph.check import CheckReport
from interpd.graph.run import RunRequest
from interpd.graph.schema import AdapterInfo, ArtifactInfo, PluginInfo
from interpd.scheduler.interface import ModelStatus, Statistics
from interpd_client.calls import Calls, attached
from interpd_client.connection import Connection
from interpd_client.listings import ModelList
from interpd_client.model import Model
from interpd_client.result import Result
from interpd_client.runs import RunHandle
from interpd_client.transport import Transport
from interpd_client.waiting import finished


def connect(
    address: str, *, timeout_s: float | None = None, progress: bool | None = None, n_retries: int = 3
) -> "Client":
    """A client of the daemon at ``host:port``. Nothing is sent before the first question.

    Args:
        address: What the daemon printed: ``listening on HOST:PORT``.
        timeout_s: Bound on every call and run that names none; ``None``: the service's own.
        progress: Whether runs show what they are doing; ``None``: in terminals and notebooks.
        n_retries: How often a call is tried again when the service says that it may be.
    """
    from interpd_client.grpc_transport import GrpcTransport  # gRPC is not needed to build graphs or to test

    return Client(GrpcTransport(address), timeout_s=timeout_s, progress=progress, n_retries=n_retries)


def local(
    *models: Any,
    name: str = "",
    dtype: str = "auto",
    device: str = "auto",
    plugins: Sequence[str] | Mapping[str, ModuleType] = (),
    timeout_s: float | None = None,
    progress: bool | None = None,
) -> "Client":
    """A client of models in this very process, without daemon and sockets; closing it frees them.

    The same graphs, checks, limits, results and errors as with a daemon. Needs ``pip install interpd[daemon]``.

    Args:
        models: Folders, ``OWNER/NAME@COMMIT`` of the hub or bundled names (``"facts"``), each with ``=NAME`` or
            without; ``ModelSpec``s; models of transformers that are loaded, or pairs of one and its tokenizer, which
            belong to the client until it is closed.
        name: What the only model is called; its own name when empty.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: as with a daemon.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: ``cuda`` where there is one.
        plugins: Names of installed plugins, or modules by the names that their plugins shall have.
        timeout_s: Bound on every call and run that names none.
        progress: Whether runs show what they are doing; ``None``: in terminals and notebooks.

    Raises:
        ImportError: A package that models need is not installed.
        InterpdError: What loading raises.
    """
    from interpd_client.local_transport import InProcess, LocalTransport, specs_of  # models need torch

    daemon = InProcess(plugins)
    client = Client(LocalTransport(daemon), timeout_s=timeout_s, progress=progress)
    try:
        for spec in specs_of(daemon, models, name, dtype, device):
            finished(client._calls.load(spec))
    # also for Ctrl-C: what was loaded so far would stay
    except BaseException:
        client.close()
        raise
    return client


@final
class Client:
    """A connection to one daemon. Close it, or use it as a context manager; any thread may use it.

    Args:
        transport: Who answers; ``connect`` makes one that speaks gRPC.
        timeout_s: Bound on every call and run that names none.
        progress: Whether runs show what they are doing.
        n_retries: How often a call is tried again when the service says that it may be.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout_s: float | None = None,
        progress: bool | None = None,
        n_retries: int = 3,
    ) -> None:
        self._connection = Connection(transport, timeout_s, n_retries, progress)
        self._calls = Calls(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives up the connection; runs that are not kept end. Idempotent."""
        finished(self._calls.close())

    def model(self, name: str) -> Model:
        """A resident model, with what it offers now. Raises ``ModelNotFound``, ``ModelNotReady``."""
        return Model(self._connection, self._ask("manifest", name))

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model that is loaded, loading or failed; shows as a table."""
        return ModelList(self._ask("models"))

    def load(self, source: str, **spec: Any) -> Model:
        """The model once it serves. ``source`` is a hub id or a folder of the daemon's machine.

        Keywords are the fields of ``interpd.config.ModelSpec``: name, revision, dtype, device, num_gpus, ...
        """
        return Model(self._connection, finished(self._calls.load(ModelSpec(source, **spec))))

    def unload(self, name: str) -> None:
        """Takes a model away. Raises ``ModelNotFound``."""
        self._ask("unload", name)

    def upload(self, array: object, model: str = "") -> str:
        """The digest of a large constant that is now kept by the workers of ``model`` (``""``: of all).

        Traces upload what they need by themselves; this does it beforehand.
        """
        return finished(self._calls.upload(array, model))

    def upload_artifact(self, path: str | Path, name: str, kind: str, *, model: str | None = None) -> ArtifactInfo:
        """The artifact that the workers of ``model`` (``None``: the only one) now know under ``name``.

        Models fetched before do not know it: ask for ``client.model(name)`` again.

        Args:
            path: A safetensors file of this machine.
            name: What params of kind ``artifact:<kind>`` take from now on.
            kind: One of the model's kinds of artifacts.
        """
        return finished(self._calls.upload_artifact(path, name, kind, model))

    def download_artifact(self, name: str, path: str | Path | None = None, *, model: str | None = None) -> bytes:
        """The safetensors file of an artifact, uploaded or made by a method.

        Args:
            name: Which; ``client.artifacts()`` lists them. Raises ``ArtifactNotFound``.
            path: A file of this machine that gets the bytes, too; one that exists is replaced.
            model: Whose; ``None``: the only one.
        """
        return finished(self._calls.download_artifact(name, path, model))

    def delete_artifact(self, name: str, *, model: str | None = None) -> None:
        """Takes an artifact away from the workers of ``model`` (``None``: the only one); runs that need it fail."""
        finished(self._calls.delete_artifact(name, model))

    def artifacts(self, model: str | None = None) -> tuple[ArtifactInfo, ...]:
        """The artifacts that the workers of ``model`` (``None``: the only one) know."""
        return finished(self._calls.artifacts(model))

    def load_adapter(
        self, source: str, name: str = "", *, model: str | None = None, revision: str | None = None
    ) -> AdapterInfo:
        """The PEFT adapter that traces on ``model`` can now name: ``model.trace(prompt, adapter=name)``.

        Args:
            source: A folder of the daemon's machine, or an id of the hub; safetensors only.
            name: What requests call it; the last part of ``source`` when empty. One of that name is replaced.
            model: Which; ``None``: the only one.
            revision: Hub commit, tag or branch; hub ids need one.

        Raises ``FeatureUnsupported`` for kinds that are not served, ``InvalidRequest`` for one of another model.
        """
        return finished(self._calls.load_adapter(source, name, model, revision))

    def unload_adapter(self, name: str, *, model: str | None = None) -> None:
        """Takes an adapter away from ``model`` (``None``: the only one); runs that have it keep it."""
        finished(self._calls.unload_adapter(name, model))

    def adapters(self, model: str | None = None) -> tuple[AdapterInfo, ...]:
        """The adapters of ``model`` (``None``: the only one), with the problems of those that were not loaded."""
        return finished(self._calls.adapters(model))

    def plugins(self) -> dict[str, tuple[PluginInfo, ...]]:
        """The plugins that the workers of each model found, broken ones included."""
        return self._ask("plugins")

    def status(self) -> Statistics:
        """Counters of the daemon: runs, passes, sharing, memory."""
        return self._ask("statistics")

    def run(self, request: RunRequest) -> Result:
        """The result of a request that was made as data; outputs come back under their flat names.

        Traces (``Model.trace``) are the convenient way; this one takes graphs from files and other programs.
        """
        return RunHandle(self._connection, self._calls.job(request)).result()

    def validate(self, request: RunRequest) -> CheckReport:
        """The service's verdict on a request, with the token counts of its prompts; nothing runs."""
        return self._ask("validate", request)

    def attach(self, run_id: str) -> RunHandle:
        """A hold on a run that was submitted with ``keep_s``, perhaps by another program.

        Its results come back under their flat names (``top.values``). Raises ``RunNotFound`` once it is followed.
        """
        return RunHandle(self._connection, attached(run_id))

    def _ask(self, method: str, *args: object) -> Any:
        return finished(self._connection.ask(method, *args))

    def __repr__(self) -> str:
        return f"<client of {self._connection.transport!r}>"
