"""Where claims are measured: the model, real daemons (Ray, gRPC), clients, and nnsight in a process of its own.

What a claim does not ask for is not started; what it has asked for lives until the stage is left.
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import interpd_client

from benchmarks.harness.local_nnsight import LocalNnsight
from benchmarks.harness.model_folder import write_model
from benchmarks.harness.sizes import Sizes
from interpd.config import load_config
from interpd.specs import ModelSpec
from interpd.testing.daemon_process import DaemonProcess
from interpd.worker.threads import with_threads

MODEL = "bench"
T = TypeVar("T")


class Stage:
    """Everything that claims use.

    Args:
        sizes: Of the model and of the requests.
        tell: Is told what goes on, for a line of progress.
    """

    def __init__(self, sizes: Sizes, tell: Callable[[str], None] = lambda text: None) -> None:
        self.sizes = sizes
        self.tell = tell
        self._exits = ExitStack()
        self._daemons: dict[tuple[str, ...], DaemonProcess] = {}

    def __enter__(self) -> "Stage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def counting(self, what: str) -> Callable[[int, int], None]:
        """Tells how many repetitions of ``what`` are done."""
        return lambda done, of: self.tell(f"{what}: {done} of {of}")

    @cached_property
    def folder(self) -> Path:
        """The model's folder."""
        self.tell("writing the model")
        folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="interpd-benchmarks-")), "model")
        write_model(folder, self.sizes)
        return folder

    @cached_property
    def device(self) -> str:
        """What the daemon's worker uses, so that the other side uses it too."""
        return self.model().info.device

    @property
    def n_threads(self) -> int:
        """Of the tensor library in a worker of the daemon, which is the only one on this machine."""
        asked = load_config().defaults.num_cpus
        spec = ModelSpec(MODEL, num_cpus=asked, num_gpus=float(self.device.startswith("cuda")))
        return ceil(with_threads(spec, 1).num_cpus)

    def daemon(self, *, share_passes: bool = True) -> DaemonProcess:
        """A daemon that serves the model, as configured by default; without sharing it runs every request alone."""
        arguments = () if share_passes else ("--no-worker-share-passes",)
        if arguments not in self._daemons:
            self.tell("starting a daemon" + ("" if share_passes else " without sharing"))
            options = ("--port", "0", "--log-level", "warning", "--model", f"{self.folder}={MODEL}", *arguments)
            self._daemons[arguments] = self._exits.enter_context(DaemonProcess("interpd", "serve", *options))
        return self._daemons[arguments]

    def client(self, *, share_passes: bool = True) -> interpd_client.Client:
        """A new client of a daemon."""
        address = self.daemon(share_passes=share_passes).address
        return self._exits.enter_context(interpd_client.connect(address, progress=False))

    def model(self, *, share_passes: bool = True) -> Any:
        """The model, through a new client."""
        return self.client(share_passes=share_passes).model(MODEL)

    @cached_property
    def nnsight(self) -> LocalNnsight:
        """nnsight in a process of its own."""
        self.tell("starting nnsight")
        return self._exits.enter_context(LocalNnsight(self.folder, self.n_threads, self.device))


class Crowd:
    """Users with a client each, who act at the same time."""

    def __init__(self, stage: Stage, *, share_passes: bool = True) -> None:
        self.models = [stage.model(share_passes=share_passes) for _ in range(stage.sizes.n_users)]
        self._threads = ThreadPoolExecutor(len(self.models))

    def act(self, act: Callable[[Any, int], T]) -> Sequence[T]:
        """What each user gets: ``act(model, number of the user)``."""
        return list(self._threads.map(act, self.models, range(len(self.models))))
