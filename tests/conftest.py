"""What every test gets: one thread, no network, and the small real models where they are at hand."""

import ctypes
import gc
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

# read by libraries when they are first imported, so this must stand here and not in a fixture
os.environ.setdefault("OMP_NUM_THREADS", "1")
# of the workers that tests start: threads that wait for one another are slow on a busy machine
os.environ.setdefault("INTERPD_DEFAULTS_NUM_CPUS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# what collecting makes stays to the end: the garbage collector need not look at it, again and again
gc.disable()

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


def pytest_collection_finish() -> None:
    """Puts modules and tests out of the garbage collector's sight."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the small real models, which is not part of this repository."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("INTERPD_SHARED", beside))
    if not (folder / "models").is_dir():
        reason = f"no small real models at {folder}; set INTERPD_SHARED"
        if os.environ.get("INTERPD_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


PR_SET_CHILD_SUBREAPER = 36
ENDS_WITHIN_S = 15.0


@pytest.fixture(autouse=True, scope="session")
def nothing_left() -> Iterator[None]:
    """Fails the session that leaves a process or a listening port behind, whoever started it."""
    if sys.platform != "linux":
        yield
        return
    # what loses its parent becomes a child of ours instead of escaping to the init process
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    me = psutil.Process()
    before = {process.pid for process in me.children(recursive=True)}
    yield
    left = [process for process in me.children(recursive=True) if process.pid not in before and not _is_helper(process)]
    _, alive = psutil.wait_procs(left, timeout=ENDS_WITHIN_S)
    assert [_described(process) for process in alive] == []
    listening = [c.laddr for c in me.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
    assert listening == []


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline()) or process.name()}"
    except psutil.Error:
        return f"{process.pid} gone"


def _is_helper(process: psutil.Process) -> bool:
    """Python's own, which ends with us; zombies are nobody."""
    try:
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return is_zombie or "multiprocessing" in " ".join(process.cmdline())
    except psutil.Error:
        return True


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ``slow`` and ``ray`` tests may connect beyond loopback (a Ray node speaks to its own address)."""
    if request.node.get_closest_marker("slow") or request.node.get_closest_marker("ray"):
        return
    connect = socket.socket.connect

    def connect_to_loopback(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise RuntimeError(f"a fast test connects to {address}; mark it slow")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_to_loopback)
